"""Laws of time: streaming, splitting, direction, padding, resets, noise, methods."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import methods
from jaxrnn.core import draw, sequence_key
from jaxrnn.guard import select
from jaxrnn.testing.case import (
    CURVED,
    METHODS,
    OWN_FORM,
    Case,
    derivatives,
    differentiable,
    is_float,
    loss_of,
    quick_jit,
    same,
    variations,
)


def at(tree: Any, index: Any) -> Any:
    """A part of every leaf; NumPy's, as each slice of JAX's is compiled for itself."""

    def part(leaf: Any) -> Any:
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.extended)
        return leaf[index] if is_key else jnp.asarray(np.asarray(leaf)[index])

    return jax.tree.map(part, tree)


def streaming(case: Case) -> None:
    """Calling `step` for one x after the other is `run`."""
    carry, ys = case.run(carry=case.carry, method=methods.lax())
    state, outs, step = case.carry, [], jax.jit(case.cell.step)
    for t in range(case.length):
        state, y = step(case.params, state, at(case.xs, t))
        outs.append(y)
    stacked = jax.tree.map(lambda *y: jnp.stack(y), *outs)
    same((state, stacked), (carry, ys), case.tolerance, "step by step and run()")


def splitting(case: Case) -> None:
    """Running a part, and the rest from its carry, is running the whole."""
    whole = case.run(carry=case.carry)
    middle = case.length // 2
    for t in (middle,) if case.brief else (1, middle, case.length - 1):
        carry, first = case.run(xs=at(case.xs, slice(None, t)), carry=case.carry)
        carry, last = case.run(xs=at(case.xs, slice(t, None)), carry=carry)
        ys = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, last)
        same((carry, ys), whole, case.tolerance, f"resuming after {t} steps")


def reversing(case: Case) -> None:
    """`reverse=True` is running the reversed xs and reversing the ys."""
    got = case.run(carry=case.carry, reverse=True)
    carry, ys = case.run(xs=at(case.xs, slice(None, None, -1)), carry=case.carry)
    same(got, (carry, at(ys, slice(None, None, -1))), case.tolerance, "reversed")


def agreement(case: Case) -> None:
    """Every method gives what `methods.lax` gives, and so do its derivatives."""
    # What a method does by itself shows in the plain case; how time is cut, in the one with everything.
    legal = [method for method in METHODS if case.serves(method)]
    own = OWN_FORM if getattr(case.cell, "parallel", None) is not None else ()
    several = {"plain": legal, "all at once": [*(m for m in legal if m in METHODS[:4]), *own]}
    if case.brief:
        several = {"all at once": [*METHODS[:1], *(own or [m for m in legal if m in METHODS[3:4]])]}
    for name, options in variations(case).items():
        if case.brief and name not in several:
            continue
        tried = several.get(name, METHODS[:1])
        curved = name in CURVED and not case.brief
        wanted = derivatives(case, methods.lax(), options, curvature=curved)
        for method in tried:
            curvature = curved and method in CURVED.get(name, ())
            got = derivatives(case, method, options, curvature=curvature)
            for what, value in got.items():
                same(value, wanted[what], case.tolerance, f"{what} of {method}, {name}")


def padding(case: Case) -> None:
    """What stands at an invalid step changes no output and no gradient; a row ends at its length."""
    lengths = jnp.arange(case.rows) * case.length // max(case.rows - 1, 1)
    valid = jnp.arange(case.length)[:, None] < lengths

    def filled(fill: float) -> Any:
        return jax.tree.map(
            lambda a: select(valid, a, jnp.full_like(a, fill)) if is_float(a) else a, case.xs
        )

    for method in (methods.lax(), None):
        for reverse in (method is None,) if case.brief else (False, True):

            def loss(params, xs, carry, method=method, reverse=reverse):
                out = case.run(
                    params, xs, carry=carry, lengths=lengths, reverse=reverse, method=method
                )
                return loss_of(out), out

            of_floats, values = differentiable(loss, case.params, case.xs, case.carry)
            results = quick_jit(jax.grad(of_floats, has_aux=True))
            want = results(values)
            for fill in (jnp.nan, jnp.inf, 1e30):
                _, dirty = differentiable(loss, case.params, filled(fill), case.carry)
                what = f"padding of {fill}, reverse={reverse}, {method or 'method=None'}"
                same(results(dirty), want, case.tolerance, what)
    carry, ys = case.run(carry=case.carry, lengths=lengths)
    for row in (case.rows // 2,) if case.brief else range(case.rows):
        n = int(lengths[row])
        one = (slice(None), slice(row, row + 1))
        start = at(case.carry, slice(row, row + 1))
        alone = case.run(xs=at(at(case.xs, one), slice(None, n)), carry=start)
        cut = (at(carry, slice(row, row + 1)), at(at(ys, one), slice(None, n)))
        same(cut, alone, case.tolerance, f"a row of length {n} and the row alone")


def resetting(case: Case) -> None:
    """A reset before step t is a fresh start at t, even from a carry of NaN."""
    t = case.length // 2
    resets = jnp.zeros((case.length, case.rows), bool).at[t].set(True)
    poisoned = jax.tree.map(lambda a: jnp.full_like(a, jnp.nan) if is_float(a) else a, case.carry)
    fresh = case.run(xs=at(case.xs, slice(t, None)))
    for carry in (case.carry, poisoned):
        last, ys = case.run(carry=carry, resets=resets)
        same((last, at(ys, slice(t, None))), fresh, case.tolerance, f"a reset before step {t}")


def noise(case: Case) -> None:
    """No key, no noise; the same key, the same noise, under every method and step by step."""
    quiet = case.run(method=methods.lax())
    same(case.run(method=methods.lax()), quiet, 0.0, "two runs without a key")
    noisy = case.run(key=case.key, method=methods.lax())
    same(case.run(key=case.key, method=methods.lax()), noisy, 0.0, "two runs with one key")
    for method in (*filter(case.serves, METHODS[:1] if case.brief else METHODS), None):
        got = case.run(key=case.key, method=method)
        same(got, noisy, case.tolerance, f"noise under {method or 'method=None'}")
    if case.cell.step is None:
        return
    x = jax.tree.map(lambda a: jnp.zeros_like(a[0]), case.xs)
    params = draw(case.cell, case.params, x, sequence_key(case.key))
    state, step = case.cell.carry(params, x), jax.jit(case.cell.step)
    for t in range(case.length):
        key = jax.random.fold_in(case.key, t)
        state, y = step(params, state, at(case.xs, t), key)
        same(y, at(noisy[1], t), case.tolerance, f"noise at step {t}, step by step and in run()")


TIME: dict[str, Callable[[Case], None]] = {
    "streaming is running": streaming,
    "split anywhere and resume": splitting,
    "reversed is running backwards": reversing,
    "every method agrees with lax": agreement,
    "padding is inert": padding,
    "a reset is a fresh start": resetting,
    "no key, no noise": noise,
}
