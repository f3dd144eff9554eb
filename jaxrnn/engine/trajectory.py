"""A trajectory, found by whatever means, and its derivative: a linear recurrence along it.

    sₜ = f(sₜ₋₁, xₜ, θ)        ⇒        dsₜ = Jₜ · dsₜ₋₁ + ∂f/∂(x, θ) · d(x, θ),    Jₜ = ∂f/∂s at sₜ₋₁

However the states were found, this is what their derivative is (the implicit function theorem), and it
is linear: solved in parallel over time, forwards and, transposed, backwards. The Jacobian is as small as
the step allows: one number an element, or one block a row.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from jaxrnn.engine.jaxprs import (
    Var,
    dtype,
    evaluate,
    is_pinned,
    is_var,
    needed,
    part,
    shape,
    source,
)
from jaxrnn.engine.linear import before, linear_recurrence
from jaxrnn.engine.moving import jvp
from jaxrnn.engine.prefix import Way
from jaxrnn.engine.recurrence import Recurrence
from jaxrnn.engine.rows import rows_of
from jaxrnn.engine.split import between
from jaxrnn.engine.structure import Dependence, Kind, depend, of_leaf
from jaxrnn.engine.timewise import all_times
from jaxrnn.engine.trace import Loop


def obstacle(loop: Loop, name: str) -> str | None:
    """Why the states of a loop cannot be one unknown of real numbers, or None if they can."""
    if not isinstance(loop.length, int):
        return "needs to know the number of steps, which here is a symbol"
    bound = [e for e in loop.step.eqns if e.effects]
    parts = None if bound else loop.parts
    if parts is not None:
        bound = [e for e in parts.during.eqns if is_pinned(e)]
    if parts is None or bound:
        where = f"{bound[0].primitive.name} ({source(bound[0])})"
        return (
            f"takes all steps at once; {name} has an equation that must run in its place: {where}"
        )
    for v in parts.carry:
        if not jnp.issubdtype(dtype(v), jnp.floating):
            return f"needs a carry of real numbers; {name} carries {v.aval.str_short()}"
        if not all(isinstance(n, int) for n in shape(v)):
            return f"needs to know the size of the carry, which here is {v.aval.str_short()}"
    return None


class Frame(NamedTuple):
    """How the leaves of a carry are one state, and what its Jacobian looks like."""

    rows: tuple[int, ...]  # the state is [*rows, size], or [*rows] where size is None
    size: int | None
    diagonal: bool  # of a state with a size: whether only the diagonal is wanted
    by_element: bool  # each element of a row is one element of each leaf

    def pack(self, leaves: Sequence[Any], *, lead: int = 0) -> Any:
        """One state of the leaves, with `lead` axes before all others."""
        if self.size is None:
            return leaves[0]
        if self.by_element:
            return jnp.stack(leaves, -1)
        kept = lead + len(self.rows)
        flat = [v.reshape(*v.shape[:kept], math.prod(v.shape[kept:])) for v in leaves]
        return jnp.concatenate(flat, -1)

    def unpack(self, state: Any, like: Sequence[Var], *, lead: int = 0) -> list[Any]:
        """The leaves of a state, of the shapes and dtypes of `like`."""
        if self.size is None:
            return [state]
        if self.by_element:
            pieces = [state[..., i] for i in range(self.size)]
        else:
            sizes = [math.prod(shape(v)[len(self.rows) :]) for v in like]
            ends = [sum(sizes[:i]) for i in range(1, len(sizes))]
            pieces = jnp.split(state, ends, axis=-1)
        return [
            piece.reshape(*piece.shape[:lead], *shape(v)).astype(dtype(v))
            for piece, v in zip(pieces, like, strict=True)
        ]

    @property
    def matrix(self) -> bool:
        return self.size is not None and not self.diagonal


def frame_of(loop: Recurrence, jacobian: str | None) -> Frame:
    """The smallest state and Jacobian that the step's structure allows.

    `jacobian` is "diagonal" (only that part of it), "dense" (one block a row) or None for what is exact.
    """
    n, m = loop.num_invariant, loop.num_carry
    carry = loop.step.invars[n : n + m]
    shapes = {shape(v) for v in carry}
    if jacobian is None and len(shapes) == 1 and _is_elementwise(loop):
        [rows] = shapes
        return Frame(rows, None if m == 1 else m, diagonal=False, by_element=True)
    batch = rows_of(loop)
    rows = () if batch is None else (batch,)
    size = sum(math.prod(shape(v)[len(rows) :]) for v in carry)
    return Frame(rows, size, diagonal=jacobian == "diagonal", by_element=False)


def _is_elementwise(loop: Recurrence) -> bool:
    n, m = loop.num_invariant, loop.num_carry
    env = {v: Dependence(of_leaf(v)) for v in loop.step.invars[n : n + m]}
    depend(loop.step.eqns, env)
    new = [v for v in loop.step.outvars[:m] if is_var(v) and v in env]
    return all(env[v].kind <= Kind.ELEMENTWISE for v in new)


class Dynamics(NamedTuple):
    """sₜ = f(sₜ₋₁) for all t at once."""

    loop: Recurrence
    frame: Frame

    @property
    def carry(self) -> list[Var]:
        n = self.loop.num_invariant
        return list(self.loop.step.invars[n : n + self.loop.num_carry])

    def next(self, inputs: Sequence[Any], states: Any) -> Any:
        """What f makes at every time step of states [T, ...]; `inputs`: invariants and xs."""
        step, n, m = self.loop.step, self.loop.num_invariant, self.loop.num_carry
        new = step.outvars[:m]
        body = part(step, step.invars, new, needed(step.eqns, new))
        leaves = self.frame.unpack(states, self.carry, lead=1)
        values = [*inputs[:n], *leaves, *inputs[n:]]
        outs = all_times(body, values, step.invars[n:])
        length = self.loop.length
        outs = [
            jnp.broadcast_to(v, (length, *s))
            for v, s in zip(outs, map(shape, self.carry), strict=True)
        ]
        return self.frame.pack(outs, lead=1)

    def linearise(self, inputs: Sequence[Any], states: Any) -> tuple[Any, Any]:
        """The values of f and its Jacobian at every time step."""
        size = self.frame.size
        value, push = jax.linearize(lambda s: self.next(inputs, s), states)
        if size is None:
            return value, push(jnp.ones_like(states))
        units = jnp.eye(size, dtype=states.dtype)

        def everywhere(unit: Any) -> Any:
            """The same direction for every row at every time."""
            return jnp.zeros_like(states) + jnp.expand_dims(unit, range(states.ndim - 1))

        if self.frame.diagonal:
            columns = jax.lax.map(lambda e: push(everywhere(e)) * everywhere(e), units)
            return value, columns.sum(0)
        columns = jax.vmap(lambda e: push(everywhere(e)), out_axes=-1)(units)
        return value, columns


# Inputs (invariants and xs), first state -> all states. Need not be differentiable.
Finder = Callable[[Dynamics, Sequence[Any], Any], Any]


def along(
    find: Finder,
    jacobian: str | None,
    way: Way,
    loop: Recurrence,
    invariant: Sequence[Any],
    init: Sequence[Any],
    xs: Sequence[Any],
) -> tuple[list[Any], list[Any]]:
    """Runs a loop by finding its states; the derivative is that of the states, however found."""
    dynamics = Dynamics(loop, frame_of(loop, jacobian))
    exact = Dynamics(loop, frame_of(loop, None))
    frame, carry, n, m = dynamics.frame, dynamics.carry, loop.num_invariant, loop.num_carry

    @jax.custom_jvp
    def states(inputs: list[Any], init: list[Any]) -> list[Any]:
        found = find(dynamics, inputs, frame.pack(init))
        return frame.unpack(found, carry, lead=1)

    def tangent(primals: Any, tangents: Any) -> Any:
        inputs, init = primals
        d_inputs, d_init = tangents
        leaves = states(inputs, init)
        start = exact.frame.pack(init)
        old = before(exact.frame.pack(leaves, lead=1), start, loop.reverse)
        _, a = exact.linearise(inputs, old)
        _, b = jvp(lambda inputs: exact.next(inputs, old), inputs, d_inputs)
        d_init = [
            jnp.zeros_like(v) if isinstance(d, SymbolicZero) else d
            for v, d in zip(init, d_init, strict=True)
        ]
        d_start = exact.frame.pack(d_init)
        ds = linear_recurrence(
            a, b, d_start, matrix=exact.frame.matrix, reverse=loop.reverse, way=way
        )
        return leaves, exact.frame.unpack(ds, carry, lead=1)

    states.defjvp(tangent, symbolic_zeros=True)
    leaves = states([*invariant, *xs], list(init))
    last = [v[0 if loop.reverse else -1] for v in leaves]
    old = [before(v, first, loop.reverse) for v, first in zip(leaves, init, strict=True)]
    # An output that is a leaf of the new carry, as often, need not be computed again.
    made = {v: h for v, h in zip(loop.step.outvars, leaves, strict=False) if is_var(v)}
    outs, given = loop.step.outvars[m:], [*loop.step.invars, *made]
    body = part(loop.step, given, outs, between(loop.step.eqns, given, outs))
    ys = all_times(body, [*invariant, *old, *xs, *made.values()], given[n:])
    return last, [
        jnp.broadcast_to(y, (loop.length, *shape(v))) for y, v in zip(ys, outs, strict=True)
    ]


def step_by_step(dynamics: Dynamics, inputs: Sequence[Any], start: Any) -> Any:
    """The states, found by the loop itself."""
    loop, frame = dynamics.loop, dynamics.frame
    n, new = loop.num_invariant, loop.step.outvars[: loop.num_carry]
    body = part(loop.step, loop.step.invars, new, needed(loop.step.eqns, new))

    def step(carry: list[Any], x: list[Any]) -> tuple[list[Any], list[Any]]:
        carry = evaluate(body, *inputs[:n], *carry, *x)
        return carry, carry

    leaves = frame.unpack(start, dynamics.carry)
    return frame.pack(loop.scan(step, leaves, list(inputs[n:]))[1], lead=1)
