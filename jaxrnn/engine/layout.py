"""Feature-major loops: what a step holds as [B, F], the loop holds as [F, B].

XLA:CPU multiplies Rᵀ[4H, H] · hᵀ[H, B] faster than h[B, H] · R[H, 4H] where B is small and R large,
if Rᵀ lies in memory as such and nothing else in the loop has to be turned round. So the whole step
is: a walk over its equations keeps the batch axis of every value last (`engine.axes`), and evaluates
what it does not know on values turned back. Weights are turned once, before the loop.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.engine.axes import Laid, translate
from jaxrnn.engine.jaxprs import (
    Eqn,
    Jaxpr,
    Var,
    apply,
    dtype,
    evaluate,
    is_var,
    needed,
    part,
    reads,
    shape,
    written_at,
)
from jaxrnn.engine.recurrence import Recurrence
from jaxrnn.engine.rewrite import Needs
from jaxrnn.engine.split import levels


class Layout(NamedTuple):
    """A loop turned round."""

    loop: Recurrence  # its invariants: those of the loop as it was, and what `once` makes of them
    once: Jaxpr
    carry: list[bool]  # which leaves are turned round
    xs: list[bool]
    ys: list[bool]
    fallbacks: list[Eqn]  # evaluated in every step on values turned back


def feature_major(
    run: Callable[..., tuple[list[Any], list[Any]]],
    loop: Recurrence,
    invariant: Sequence[Any],
    init: Sequence[Any],
    xs: Sequence[Any],
) -> tuple[list[Any], list[Any]]:
    """What `run` makes of the loop, run with the batch as the last axis of all it holds."""
    layout = lay_out(loop, [*invariant, *init, *(x[0] for x in xs)])
    if layout is None:
        return run(loop, invariant, init, xs)
    known = [*invariant, *evaluate(layout.once, *invariant)]
    init, xs = _turned(init, layout.carry, 0, -1), _turned(xs, layout.xs, 1, -1)
    last, ys = run(layout.loop, known, init, xs)
    return _turned(last, layout.carry, -1, 0), _turned(ys, layout.ys, -1, 1)


def _turned(values: Sequence[Any], which: Sequence[bool], source: int, to: int) -> list[Any]:
    pairs = zip(values, which, strict=True)
    return [jnp.moveaxis(v, source, to) if turn else v for v, turn in pairs]


def lay_out(loop: Recurrence, values: Sequence[Any] | None = None) -> Layout | None:
    """The loop turned round; None if the leaves of its carry have no batch axis in common.

    `values` are those of one step, where it matters over which mesh axes they vary.
    """
    step, n, m = loop.step, loop.num_invariant, loop.num_carry
    rows = {shape(v)[0] for v in step.invars[n : n + m] if len(shape(v)) > 1}
    if len(rows) != 1:
        return None
    [batch] = rows
    has_rows = {v for v in step.invars[n:] if shape(v)[:1] == (batch,)}
    if values is None:
        values = [jax.ShapeDtypeStruct(shape(v), dtype(v)) for v in step.invars]
    turns = [v in has_rows for v in step.invars]
    inputs = jax.eval_shape(lambda *given: _turned(given, turns, 0, -1), *values)
    fallbacks: list[Eqn] = []
    ys: list[bool] = []

    def turned(*arrays: Any) -> list[Any]:
        pairs = zip(step.invars, arrays, strict=True)
        outs = _walk(step, {v: Laid(a, 0 if v in has_rows else None) for v, a in pairs}, fallbacks)
        like = [0 if v in has_rows else None for v in step.invars[n : n + m]]
        ys[:] = [out.batch is not None and out.array.ndim > 1 for out in outs[m:]]
        like += [0 if turn else None for turn in ys]
        return [out.with_last(batch).array for out, batch in zip(outs, like, strict=True)]

    jaxpr = jax.make_jaxpr(turned)(*inputs).jaxpr
    invariant, carry, xs = jaxpr.invars[:n], jaxpr.invars[n : n + m], jaxpr.invars[n + m :]
    level = levels(jaxpr.eqns, xs, carry)
    fixed = [e for e in jaxpr.eqns if level(e.outvars[0]) is Needs.NOTHING]
    weights = [e.outvars[0] for e in fixed if e.primitive.name == "transpose"]
    once = needed(fixed, weights)
    made_once = {v for e in once for v in e.outvars}
    during = [e for e in jaxpr.eqns if e.outvars[0] not in made_once]
    wanted = {v for e in during for v in reads(e)} | set(filter(is_var, jaxpr.outvars))
    made = [v for e in once for v in e.outvars if v in wanted]
    return Layout(
        loop=loop._replace(
            step=part(jaxpr, [*invariant, *made, *carry, *xs], jaxpr.outvars, during),
            num_invariant=n + len(made),
            feature_major=True,
        ),
        once=part(jaxpr, invariant, made, once),
        carry=[v in has_rows for v in step.invars[n : n + m]],
        xs=[v in has_rows for v in step.invars[n + m :]],
        ys=ys,
        fallbacks=fallbacks,
    )


def _walk(step: Jaxpr, env: dict[Var, Laid], fallbacks: list[Eqn]) -> list[Laid]:
    """Evaluates a step on laid-out arrays; notes the equations whose axes it cannot follow."""

    def read(atom: Any) -> Laid:
        return env[atom] if is_var(atom) else Laid(jnp.asarray(atom.val, dtype(atom)))

    for eqn in step.eqns:
        operands = [read(v) for v in eqn.invars]
        results = None
        if any(v.batch is not None for v in operands):
            with written_at(eqn):
                results = translate(eqn, operands)
            if results is None and any(v.batch is not None and v.array.ndim > 1 for v in operands):
                fallbacks.append(eqn)
        if results is None:
            values = {v: env[v].with_last(None).array for v in reads(eqn)}
            results = [Laid(array) for array in apply(step, eqn, values)]
        env |= zip(eqn.outvars, results, strict=True)
    return [read(v) for v in step.outvars]
