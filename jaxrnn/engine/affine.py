"""Runs a loop whose carry is affine in itself, element by element, for all time steps at once.

    c' = F(c, x) = a(x) ∘ c + b(x)        b = F(0, x),  a = ∂F/∂c at 0

Each leaf of the carry, or group of leaves that need each other, is a linear recurrence of its own; those
solved before it are inputs to it. A mask or a reset is a selection, so it is in a and b already: held is
a = 1, b = 0, and put back is a = 0.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.engine.jaxprs import Jaxpr, Var, evaluate, is_var, needed, part, shape
from jaxrnn.engine.linear import before, linear_recurrence
from jaxrnn.engine.prefix import Way
from jaxrnn.engine.recurrence import Recurrence
from jaxrnn.engine.split import between
from jaxrnn.engine.structure import Kind
from jaxrnn.engine.timewise import all_times, timed
from jaxrnn.engine.triangle import Group, groups_of


def solved(
    way: Way, loop: Recurrence, invariant: Sequence[Any], init: Sequence[Any], xs: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """The last carry and the outputs of a loop of which every group of leaves is affine."""
    step, n, m = loop.step, loop.num_invariant, loop.num_carry
    carry, new = step.invars[n : n + m], step.outvars[:m]
    values = dict(zip(step.invars[:n], invariant, strict=True))
    values |= zip(step.invars[n + m :], xs, strict=True)
    streams = set(step.invars[n + m :])
    start = dict(zip(carry, init, strict=True))
    last: dict[Var, Any] = {}
    for group in groups_of(step, carry, new):
        leaves = [carry[i] for i in group.leaves]
        wanted = part(step, step.invars, [new[i] for i in group.leaves], step.eqns)
        after = _leaves_after(way, loop, group, wanted, leaves, values, streams, start)
        for v, h in zip(leaves, after, strict=True):
            values[v] = before(h, start[v], loop.reverse)
            last[v] = h[0 if loop.reverse else -1]
        # An output that is a leaf of the new carry, as often, need not be computed again.
        pairs = zip(group.leaves, after, strict=True)
        made = {v: h for i, h in pairs if is_var(v := new[i])}
        values |= made
        streams |= {*leaves, *made}
    outs = _everywhere(part(step, step.invars, step.outvars[m:], step.eqns), values, streams, loop)
    return [last[v] for v in carry], outs


def _leaves_after(
    way: Way,
    loop: Recurrence,
    group: Group,
    wanted: Jaxpr,
    leaves: Sequence[Var],
    values: dict[Var, Any],
    streams: set[Var],
    start: dict[Var, Any],
) -> list[Any]:
    """What a group of leaves is after each time step."""
    if group.found.kind is Kind.FREE:
        return _everywhere(wanted, values, streams, loop)
    first = [start[v] for v in leaves]
    given = [v for v in wanted.invars if v in values]
    one_step = [values[v][0] if v in streams else values[v] for v in given]

    def coefficients(first: list[Any], *known: Any) -> tuple[Any, Any]:
        env = dict(zip(given, known, strict=True))
        known_and_leaves = [*given, *leaves]
        body = part(wanted, known_and_leaves, wanted.outvars, needed(wanted.eqns, wanted.outvars))
        nothing = [jnp.zeros_like(v) for v in first]
        at_zero, push = jax.linearize(
            lambda *c: evaluate(body, *(env[v] for v in given), *c), *nothing
        )
        units = [
            push(*(jnp.ones_like(v) if i == j else v for j, v in enumerate(nothing)))
            for i in range(len(nothing))
        ]
        return _stack_matrix(units), _stack(at_zero)

    traced = jax.make_jaxpr(coefficients)(first, *one_step)
    jaxpr = traced.jaxpr
    inputs = jaxpr.invars[len(first) :]
    moving = {v for v, old in zip(inputs, given, strict=True) if old in streams}
    known = [*traced.consts, *first, *(values[v] for v in given)]
    body = part(jaxpr, [*jaxpr.constvars, *jaxpr.invars], jaxpr.outvars, jaxpr.eqns)
    a, b = all_times(body, known, moving)
    in_time = timed(jaxpr, moving)
    a, b = (v if out in in_time else v[None] for v, out in zip((a, b), jaxpr.outvars, strict=True))
    b = jnp.broadcast_to(b, (loop.length, *b.shape[1:]))
    h = linear_recurrence(
        a, b, _stack(first), matrix=len(leaves) > 1, reverse=loop.reverse, way=way
    )
    if len(leaves) == 1:
        return [h]
    return [h[..., i].reshape(loop.length, *shape(v)) for i, v in enumerate(leaves)]


def _everywhere(
    jaxpr: Jaxpr, values: dict[Var, Any], streams: set[Var], loop: Recurrence
) -> list[Any]:
    """The outputs of a jaxpr at every time step, from those of its values that are known."""
    given = list(values)
    body = part(jaxpr, given, jaxpr.outvars, between(jaxpr.eqns, given, jaxpr.outvars))
    outs = all_times(body, [values[v] for v in given], streams.intersection(given))
    in_time = timed(body, streams.intersection(given))
    return [
        out if v in in_time else jnp.broadcast_to(out, (loop.length, *jnp.shape(out)))
        for v, out in zip(jaxpr.outvars, outs, strict=True)
    ]


def _stack(leaves: Sequence[Any]) -> Any:
    """Leaves that need each other as one array, their number its last axis."""
    if len(leaves) == 1:
        return leaves[0]
    if len({jnp.shape(v) for v in leaves}) > 1:
        leaves = [v.reshape(-1) for v in leaves]
    return jnp.stack(leaves, axis=-1)


def _stack_matrix(units: Sequence[Sequence[Any]]) -> Any:
    """∂new/∂old of each element: [..., new, old]."""
    columns = [_stack(column) for column in units]
    return columns[0] if len(columns) == 1 else jnp.stack(columns, axis=-1)
