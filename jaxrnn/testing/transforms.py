"""Laws of transformation: jit, vmap, scan, checkpoint, shard_map, export; JAX's strict modes."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from jaxrnn import methods
from jaxrnn.core import run
from jaxrnn.testing.case import (
    METHODS,
    Case,
    derivatives,
    floats,
    loss_of,
    nudge,
    quick_jit,
    same,
)
from jaxrnn.testing.time import at


def some(case: Case) -> tuple[Any, ...]:
    """None, which takes scan() at the size of a case, or a form of the cell's own; and one that cuts."""
    return (None,) if case.brief else (None, METHODS[2])


def jitting(case: Case) -> None:
    """Compiled and eager runs agree."""
    xs = at(case.xs, slice(0, 2)) if case.brief else case.xs
    with jax.disable_jit():
        want = case.run(xs=xs)
    got = jax.jit(lambda params, xs: case.run(params, xs))(case.params, xs)
    same(got, want, case.tolerance, "jit and eager")


def batching(case: Case) -> None:
    """More batch axes are more rows, and no row sees another."""
    rows = case.run(carry=case.carry)
    deep = partial(jax.tree.map, lambda a: jnp.stack([a, a], axis=1))
    got = case.run(xs=deep(case.xs), carry=jax.tree.map(lambda a: jnp.stack([a, a]), case.carry))
    for i in (0, 1):
        twin = at(got[0], i), jax.tree.map(lambda a, i=i: a[:, i], got[1])
        same(twin, rows, case.tolerance, "with two batch axes")
    for row in (0,) if case.brief else range(case.rows):
        one = slice(row, row + 1)
        alone = case.run(xs=at(case.xs, (slice(None), one)), carry=at(case.carry, one))
        both = at(rows[0], one), at(rows[1], (slice(None), one))
        same(alone, both, case.tolerance, "a row alone and in a batch")


def mapping(case: Case) -> None:
    """Vmap over parameters is a loop over them."""
    other = nudge(case.params, 7)
    both = jax.tree.map(lambda a, b: jnp.stack([a, b]), case.params, other)
    for method in some(case):

        def result(params, method=method):
            def loss(params):
                return loss_of(case.run(params, method=method))

            out = floats(case.run(params, method=method))
            return out, floats(jax.grad(loss, allow_int=True)(params))

        mapped, single = quick_jit(jax.vmap(result))(both), quick_jit(result)
        for i, params in enumerate((case.params, other)):
            got = jax.tree.map(lambda a, i=i: a[i], mapped)
            same(got, single(params), case.tolerance, f"vmap over params, {method or 'None'}")


def nesting(case: Case) -> None:
    """Inside `lax.scan` and `jax.checkpoint` nothing changes."""
    for method in some(case):

        def loss(params, method=method):
            return loss_of(case.run(params, method=method))

        gradient = partial(jax.grad, allow_int=True)
        want = quick_jit(gradient(loss))(case.params)
        got = quick_jit(gradient(jax.checkpoint(loss)))(case.params)
        same(floats(got), floats(want), case.tolerance, f"checkpoint around {method or 'None'}")

        def twice(params, loss=loss):
            def step(total, _):
                return total + loss(params), None

            return jax.lax.scan(step, 0.0, None, length=2)[0]

        got = quick_jit(gradient(twice))(case.params)
        got = jax.tree.map(lambda a: a / 2, floats(got))
        same(got, floats(want), case.tolerance, f"lax.scan around {method or 'None'}")


def sharding(case: Case) -> None:
    """Inside `jax.shard_map`, default checking on, nothing changes: forward and gradient."""
    count = max(
        n for n in range(1, case.rows + 1) if case.rows % n == 0 and n <= jax.device_count()
    )
    auto = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((count,), ("rows",), auto, devices=jax.devices()[:count])

    def loss(params, xs, method, reduce):
        carry, ys = run(case.cell, params, xs, method=method)
        squares = [jnp.sum(jnp.real(v * jnp.conj(v))) for v in floats((carry, ys))]
        return reduce(sum(squares))

    for method in (None,) if case.brief else (methods.lax(), *some(case)):
        whole = partial(loss, method=method, reduce=lambda v: v)
        want = quick_jit(jax.grad(whole, allow_int=True))(case.params, case.xs)
        sharded = jax.shard_map(
            partial(loss, method=method, reduce=lambda v: jax.lax.psum(v, "rows")),
            mesh=mesh,
            in_specs=(P(), P(None, "rows")),
            out_specs=P(),
        )
        got = quick_jit(jax.grad(sharded, allow_int=True))(case.params, case.xs)
        same(floats(got), floats(want), case.tolerance, f"shard_map of {method or 'method=None'}")


def exporting(case: Case) -> None:
    """`jax.export`, to bytes and back."""
    leaves, tree = jax.tree.flatten((case.params, case.xs))
    for method in some(case):

        @jax.jit
        def flat(leaves, method=method):
            params, xs = tree.unflatten(leaves)
            return jax.tree.leaves(case.run(params, xs, method=method))

        exported = jax.export.export(flat)(leaves)
        back = jax.export.deserialize(exported.serialize())
        same(back.call(leaves), flat(leaves), case.tolerance, f"exported {method or 'None'}")


def strictness(case: Case) -> None:
    """Clean under rank promotion "raise", leak checking and NaN debugging."""
    with jax.numpy_rank_promotion("raise"), jax.checking_leaks(), jax.debug_nans(True):
        for method in some(case):
            derivatives(case, method, {}, curvature=not case.brief)


def tracing(case: Case) -> None:
    """The step is traced a bounded number of times, and not at all the second time."""
    traces = []

    def step(*args: Any) -> Any:
        traces.append(None)
        return case.cell.step(*args)

    cell = dataclasses.replace(case.cell, step=step)
    once = jax.jit(lambda params, xs: run(cell, params, xs))
    once(case.params, case.xs)
    assert len(traces) <= 4, f"one compilation traced the step {len(traces)} times"
    run(cell, case.params, case.xs)
    traces.clear()
    once(case.params, case.xs)
    run(cell, case.params, case.xs)
    assert len(traces) <= 1, f"a second call traced the step {len(traces)} times"


TRANSFORMS: dict[str, Callable[[Case], None]] = {
    "jit is eager": jitting,
    "rows are independent": batching,
    "vmap over params is a loop": mapping,
    "inside scan and checkpoint": nesting,
    "inside shard_map": sharding,
    "export round trip": exporting,
    "clean in JAX's strict modes": strictness,
    "traced once": tracing,
}
