"""Both directions of time, in two loops or in one."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from jaxrnn import methods
from jaxrnn.around import parts
from jaxrnn.core import Cell, Layer, draw, lift, problem_of
from jaxrnn.methods.base import Method, Problem
from jaxrnn.origin import factory


class BidirectionalParams(NamedTuple):
    forward: Any
    backward: Any


class BidirectionalCarry(NamedTuple):
    """`backward` is the carry after the first time step: where that direction ends."""

    forward: Any
    backward: Any


def _concat(f: Any, b: Any) -> Any:
    return jax.tree.map(lambda *y: jnp.concatenate(y, axis=-1), f, b)


def _sum(f: Any, b: Any) -> Any:
    return jax.tree.map(jnp.add, f, b)


def _both(f: Any, b: Any) -> Any:
    return f, b


MERGES: dict[str, Callable[[Any, Any], Any]] = {"concat": _concat, "sum": _sum, "none": _both}


# Whether one loop for two cells is faster than two loops. On 2 cores of a Zen 3 it is level with them
# in 30 of 40 cases, ahead in 6, behind in 4, 0.79 to 1.78 (`python -m benchmarks bidirectional`).
# Where a step costs its launches it should be faster; that is not measured.
ONE_LOOP = {"cpu": False}


@factory
def bidirectional(
    forward: Cell | Layer, backward: Cell | Layer | None = None, *, merge: str = "concat"
) -> Layer:
    """Runs one layer forward through time and one backward, and merges their outputs.

        y→ = forward(x₀ … x_T₋₁)     y←  = backward(x_T₋₁ … x₀), aligned with x
        yₜ = [y→ₜ, y←ₜ]              concat;  y→ₜ + y←ₜ  sum;  the pair (y→ₜ, y←ₜ)  none

    With `lengths` or a mask the backward direction holds its first carry through the padding and
    meets the data at the right place. There is no `step`: what comes later is needed.

    Args:
      forward: a cell or a layer.
      backward: another; one of the same kind as `forward`, with parameters of its own, if None.
      merge: "concat" along the features, "sum" or "none".

    Raises:
      TypeError: if something else than cells or layers is given.
      ValueError: if `merge` is none of these, or the layers make one y of several x.

    Reference: Schuster & Paliwal, Bidirectional recurrent neural networks, IEEE Transactions on
    Signal Processing 45, 1997.
    """
    backward = forward if backward is None else backward
    for layer in (forward, backward):
        if not isinstance(layer, Cell | Layer):
            raise TypeError(f"bidirectional() takes cells and layers, got {layer!r}")
    if merge not in MERGES:
        raise ValueError(f"bidirectional() merges by one of {list(MERGES)}, got merge={merge!r}")
    f, b = lift(forward), lift(backward)
    both_cells = isinstance(forward, Cell) and isinstance(backward, Cell)
    both = str(forward) if backward is forward else f"{forward}, {backward}"
    name = f"bidirectional({both})" if merge == "concat" else f"bidirectional({both}, {merge!r})"
    if f.stride > 1 or b.stride > 1:
        raise ValueError(f"{name}: put what makes one y of several x before or after it")

    def init(key, x):
        k, r = jax.random.split(key)
        return BidirectionalParams(f.init(k, x), b.init(r, x))

    def carry(params, x):
        return BidirectionalCarry(f.carry(params.forward, x), b.carry(params.backward, x))

    def directions(params, carry, keys, reverse):
        """The backward direction of the reversed sequence is the forward one of the sequence."""
        return (
            (forward, params.forward, carry.forward, parts.fold(keys, 0), reverse),
            (backward, params.backward, carry.backward, parts.fold(keys, 1), not reverse),
        )

    def run_apart(params, xs, carry, *, valid, resets, keys, reverse, method):
        flags = {"valid": valid, "resets": resets, "method": method}
        return [
            lift(layer).run(p, xs, c, keys=k, reverse=r, **flags)
            for layer, p, c, k, r in directions(params, carry, keys, reverse)
        ]

    def run_together(params, xs, carry, *, valid, resets, keys, reverse, method):
        problems = [
            problem_of(cast(Cell, cell), p, xs, c, valid, resets, k, r)
            for cell, p, c, k, r in directions(params, carry, keys, reverse)
        ]
        return together(problems, method)

    def run(params, xs, carry, **options):
        joined = both_cells and ONE_LOOP.get(jax.default_backend(), True)
        ran = (run_together if joined else run_apart)(params, xs, carry, **options)
        (after_forward, ys_forward), (after_backward, ys_backward) = ran
        after = BidirectionalCarry(after_forward, after_backward)
        return after, MERGES[merge](ys_forward, ys_backward)

    def noise(params, x, key):
        return BidirectionalParams(
            forward=draw(f, params.forward, x, parts.fold(key, 0)),
            backward=draw(b, params.backward, x, parts.fold(key, 1)),
        )

    drawn = noise if f.noise or b.noise else None
    return Layer(name=name, init=init, carry=carry, step=None, run=run, noise=drawn)


def together(problems: list[Problem], method: Method | None) -> list[tuple[Any, Any]]:
    """Runs several recurrences of the same length in one loop, each in its own direction.

    Returns:
      The last carry and the outputs of each.
    """

    def step(carries: Any, xs: Any) -> tuple[Any, Any]:
        steps = [cast(Any, p.step) for p in problems]
        each = [step(c, x) for step, c, x in zip(steps, carries, xs, strict=True)]
        return tuple(c for c, _ in each), tuple(y for _, y in each)

    joint = Problem(
        name=" with ".join(p.name for p in problems),
        step=step,
        carry=tuple(p.carry for p in problems),
        xs=tuple(_forward(p, p.xs) for p in problems),
    )
    carries, ys = (method or methods.auto())(joint)
    return [(c, _forward(p, y)) for p, c, y in zip(problems, carries, ys, strict=True)]


def _forward(problem: Problem, tree: Any) -> Any:
    """As a loop that runs forward reads or writes it."""
    return jax.tree.map(lambda a: jnp.flip(a, 0), tree) if problem.reverse else tree
