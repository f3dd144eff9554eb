"""The loop: what is left of a step once everything that does not need the carry is gone."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax.extend import core as jex
from jax.extend.core import primitives

from jaxrnn.engine.jaxprs import Jaxpr, evaluate
from jaxrnn.engine.meshes import is_explicit
from jaxrnn.engine.turned import evaluate_products


class Recurrence(NamedTuple):
    """A step `invariant, carry, x -> carry, y` and how many times it runs."""

    step: Jaxpr
    num_invariant: int
    num_carry: int
    length: int
    reverse: bool = False
    unroll: int | bool = 1
    feature_major: bool = False  # whether the step holds [F, B]: its weights stand on the left

    def scan(self, step: Callable[..., Any], init: Any, xs: Any) -> tuple[Any, Any]:
        # A length that is a symbol `lax.scan` takes of xs alone.
        length = self.length if isinstance(self.length, int) else None
        unroll = steps_of(self.unroll, self.length)
        return lax.scan(step, init, xs, length, self.reverse, unroll)


def plain(
    loop: Recurrence, invariant: Sequence[Any], init: Sequence[Any], xs: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """Runs the loop as it stands; JAX differentiates it as it does any scan."""
    m = loop.num_carry
    num_ys = len(loop.step.outvars) - m
    given = _parameters(len(invariant), len(init), len(xs), num_ys)
    if given is not None and _fits(loop, invariant, init, xs):
        # The step is a jaxpr of these very types: `lax.scan` would only trace it again.
        of_loop = {
            "jaxpr": jex.ClosedJaxpr(loop.step, ()),
            "length": loop.length,
            "reverse": loop.reverse,
            "unroll": steps_of(loop.unroll, loop.length),
        }
        outs = primitives.scan_p.bind(*invariant, *init, *xs, **{**given, **of_loop})
        return list(outs[:m]), list(outs[m:])

    def step(carry: list[Any], x: list[Any]) -> tuple[list[Any], list[Any]]:
        run = evaluate_products if loop.feature_major else evaluate
        out = run(loop.step, *invariant, *carry, *x)
        return out[:m], out[m:]

    return loop.scan(step, list(init), list(xs))


def _fits(
    loop: Recurrence, invariant: Sequence[Any], init: Sequence[Any], xs: Sequence[Any]
) -> bool:
    """Whether the values have the very types that the step was traced for."""
    if loop.feature_major:
        return False
    values = (*invariant, *init, *xs)
    streamed = len(invariant) + len(init)
    for i, (v, value) in enumerate(zip(loop.step.invars, values, strict=True)):
        given: Any = jax.typeof(value)
        wanted: Any = v.aval
        time = int(i >= streamed)
        if given.shape[time:] != wanted.shape or given.dtype != wanted.dtype:
            return False
        if getattr(given, "vma", None) != getattr(wanted, "vma", None) or is_explicit(value):
            return False
    return True


@cache
def _parameters(num_consts: int, num_carry: int, num_xs: int, num_ys: int) -> dict[str, Any] | None:
    """The parameters of a scan equation of so many values; None if this JAX has others than we know.

    JAX makes them, of a scan of numbers: how it writes down what is a constant, a carry or an x
    changes from version to version.
    """

    def scan(consts: Any, carry: Any, xs: Any) -> Any:
        def step(carry: Any, x: Any) -> tuple[Any, Any]:
            total = sum([*consts, *carry, *x])  # all is read, and nothing handed on as it came
            return [c + total for c in carry], [total + i for i in range(num_ys)]

        return lax.scan(step, carry, xs, length=1)

    numbers = [[1.0] * count for count in (num_consts, num_carry)]
    traced = jax.make_jaxpr(scan)(*numbers, [np.ones(1)] * num_xs).jaxpr
    found = [e for e in traced.eqns if e.primitive is primitives.scan_p]
    counts = (num_consts + num_carry + num_xs, num_carry + num_ys)
    if len(found) != 1 or (len(found[0].invars), len(found[0].outvars)) != counts:
        return None
    known = {"jaxpr", "length", "reverse", "unroll"}
    layouts = ({"num_consts", "num_carry"}, {"ft_in", "ft_out"})
    return dict(found[0].params) if set(found[0].params) - known in layouts else None


def steps_of(unroll: int | bool, length: int) -> int:
    """How many steps one iteration holds, as `lax.scan` counts; one if T is a symbol."""
    if not isinstance(length, int):
        return 1
    if isinstance(unroll, bool):
        return max(length, 1) if unroll else 1
    return unroll
