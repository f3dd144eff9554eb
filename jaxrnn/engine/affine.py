"""Runs a loop whose carry is affine in itself, element by element, for all time steps at once.

    c' = F(c, x) = a(x) ∘ c + b(x)        b = F(0, x),  a = ∂F/∂c at 0

Each leaf of the carry, or group of leaves that need each other, is a linear recurrence of its own; those
solved before it are inputs to it. A mask or a reset is a selection, so it is in a and b already: held is
a = 1, b = 0, and put back is a = 0.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.engine.jaxprs import Jaxpr, Var, evaluate, is_var, needed, part, shape
from jaxrnn.engine.linear import before, linear_recurrence
from jaxrnn.engine.prefix import Way
from jaxrnn.engine.recurrence import Recurrence
from jaxrnn.engine.split import between
from jaxrnn.engine.structure import Kind
from jaxrnn.engine.timewise import all_times, timed
from jaxrnn.engine.triangle import groups_of


class Known(NamedTuple):
    """The values of a step that are known so far; those of `streams` at each time step."""

    values: dict[Var, Any]
    streams: set[Var]
    length: int

    def add(self, streams: dict[Var, Any]) -> None:
        self.values.update(streams)
        self.streams.update(streams)

    def everywhere(self, step: Jaxpr, wanted: Sequence[Any]) -> list[Any]:
        """What a step makes at every time step."""
        body = part(step, self.values, wanted, between(step.eqns, self.values, wanted))
        outs = all_times(body, list(self.values.values()), self.streams)
        in_time = timed(body, self.streams)
        return [
            out if v in in_time else jnp.broadcast_to(out, (self.length, *jnp.shape(out)))
            for v, out in zip(wanted, outs, strict=True)
        ]


def solved(
    way: Way, loop: Recurrence, invariant: Sequence[Any], init: Sequence[Any], xs: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """The last carry and the outputs of a loop of which every group of leaves is affine."""
    step, n, m = loop.step, loop.num_invariant, loop.num_carry
    carry, new = step.invars[n : n + m], step.outvars[:m]
    known = Known(dict(zip(step.invars[:n], invariant, strict=True)), set(), loop.length)
    known.add(dict(zip(step.invars[n + m :], xs, strict=True)))
    start = dict(zip(carry, init, strict=True))
    last: dict[Var, Any] = {}
    for group in groups_of(step, carry, new):
        leaves, wanted = [carry[i] for i in group.leaves], [new[i] for i in group.leaves]
        if group.found.kind is Kind.FREE:
            after = known.everywhere(step, wanted)
        else:
            first = [start[v] for v in leaves]
            a, b = _coefficients(step, leaves, wanted, first, known)
            matrix = len(leaves) > 1
            h = linear_recurrence(a, b, _stack(first), matrix=matrix, reverse=loop.reverse, way=way)
            after = _apart(h, leaves) if matrix else [h]
        for v, h in zip(leaves, after, strict=True):
            known.add({v: before(h, start[v], loop.reverse)})
            last[v] = h[0 if loop.reverse else -1]
        # An output that is a leaf of the new carry, as often, need not be computed again.
        known.add({v: h for v, h in zip(wanted, after, strict=True) if is_var(v)})
    return [last[v] for v in carry], known.everywhere(step, step.outvars[m:])


def _coefficients(
    step: Jaxpr, leaves: Sequence[Var], wanted: Sequence[Any], first: Sequence[Any], known: Known
) -> tuple[Any, Any]:
    """The a and b of some leaves; what never changes has time 1."""
    given = list(known.values)
    body = part(step, [*given, *leaves], wanted, needed(step.eqns, wanted))
    values = known.values.values()
    one_step = [x[0] if v in known.streams else x for v, x in zip(given, values, strict=True)]

    def at_one_step(*values: Any) -> tuple[Any, Any]:
        nothing = [jnp.zeros_like(v) for v in first]
        at_zero, push = jax.linearize(lambda *c: evaluate(body, *values, *c), *nothing)
        columns = [
            push(*(jnp.ones_like(v) if i == j else v for j, v in enumerate(nothing)))
            for i in range(len(nothing))
        ]
        return _matrix(columns), _stack(at_zero)

    traced = jax.make_jaxpr(at_one_step)(*one_step)
    jaxpr = traced.jaxpr
    inputs = [*jaxpr.constvars, *jaxpr.invars]
    streams = {v for v, old in zip(jaxpr.invars, given, strict=True) if old in known.streams}
    whole = part(jaxpr, inputs, jaxpr.outvars, jaxpr.eqns)
    outs = all_times(whole, [*traced.consts, *values], streams)
    moving = timed(whole, streams)
    a, b = (o if v in moving else o[None] for v, o in zip(jaxpr.outvars, outs, strict=True))
    return a, jnp.broadcast_to(b, (known.length, *b.shape[1:]))


def _stack(leaves: Sequence[Any]) -> Any:
    """Leaves that need each other as one array, their number its last axis."""
    if len(leaves) == 1:
        return leaves[0]
    if len({jnp.shape(v) for v in leaves}) > 1:
        leaves = [v.reshape(-1) for v in leaves]
    return jnp.stack(leaves, axis=-1)


def _apart(h: Any, leaves: Sequence[Var]) -> list[Any]:
    return [h[..., i].reshape(len(h), *shape(v)) for i, v in enumerate(leaves)]


def _matrix(columns: Sequence[Sequence[Any]]) -> Any:
    """∂new/∂old of each element: [..., new, old]."""
    stacked = [_stack(column) for column in columns]
    return stacked[0] if len(stacked) == 1 else jnp.stack(stacked, axis=-1)
