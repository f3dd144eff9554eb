"""One step of a loop and its derivative, as two jaxprs with few values between them.

What the derivative needs of the step (its residuals) is kept for all T steps, so it is chosen: a
minimum cut is kept, and the rest is recomputed from it by light arithmetic (`engine.cut`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.engine.cut import minimum_cuts
from jaxrnn.engine.jaxprs import (
    LIGHT,
    Jaxpr,
    Var,
    evaluate,
    is_float,
    is_var,
    needed,
    part,
    producers,
    reads,
    size,
)
from jaxrnn.engine.recurrence import Recurrence
from jaxrnn.engine.rewrite import Needs
from jaxrnn.engine.split import between, levels
from jaxrnn.engine.taps import Tap, sums, tapped_step


class Inputs(NamedTuple):
    """What the tangent loop is linear in, besides the taps."""

    all_carry: list[Var]
    carry: list[Var]  # those that have tangents
    x: list[Var]
    small: list[Var]  # invariants that the loop uses otherwise than in a tap
    sums: list[Var]  # where the taps are added
    summed_x: list[Var]  # the inputs that are added there too
    sum_of: Callable[[Var], Var]

    @classmethod
    def of(cls, loop: Recurrence, taps: Sequence[Tap], moving: Mapping[Var, Any]) -> "Inputs":
        n = loop.num_invariant
        invariant, rest = loop.step.invars[:n], loop.step.invars[n:]
        carry, x = rest[: loop.num_carry], rest[loop.num_carry :]
        tapped = {id(tap.eqn) for tap in taps}
        used = {v for e in loop.step.eqns if id(e) not in tapped for v in reads(e)}
        used |= set(filter(is_var, loop.step.outvars))
        sum_of = sums(loop.step)
        tapped_sums = dict.fromkeys(tap.sum for tap in taps)
        moving_x = [v for v in x if v in moving]
        return cls(
            all_carry=list(carry),
            carry=[v for v in carry if is_float(v)],
            x=[v for v in moving_x if sum_of(v) not in tapped_sums],
            small=[v for v in invariant if v in moving and v in used],
            sums=list(tapped_sums),
            summed_x=[v for v in moving_x if sum_of(v) in tapped_sums],
            sum_of=sum_of,
        )


class Linearised(NamedTuple):
    """A step and its derivative, as jaxprs that share residuals."""

    invariant: list[Any]  # values of what `forward` and `recompute` know at all times
    forward: Jaxpr  # invariant, carry, x -> carry, y, kept
    kept: list[Var]  # what `forward` keeps besides ys
    xs: list[Var]
    operands: list[list[Var]]  # of each tap, found in `kept` or `xs`
    recompute: Jaxpr  # invariant, recompute_from -> residuals
    recompute_from: list[Var]  # found in `kept` or `xs`
    tangent: Jaxpr  # residuals, d_carry, d_x, d_small, added -> d_carry, d_y


def linearise(loop: Recurrence, taps: Sequence[Tap], wrt: Inputs, primals: Any) -> Linearised:
    """Linearises one step in carry, x, the small invariants and the taps, and cuts its residuals."""
    invariant, init, xs = primals
    float_outs = [i for i, v in enumerate(loop.step.outvars) if is_float(v)]
    inputs = [*wrt.carry, *wrt.x, *wrt.small]
    maps: list[Jaxpr] = []

    def one_step(init: list[Any], x0: list[Any]) -> list[list[Any]]:
        env = dict(zip(loop.step.invars, [*invariant, *init, *x0], strict=True))
        zeros = [jnp.zeros_like(s) for s in tapped_step(loop, taps, env, {}).sums]

        def varied(values: list[Any], added: list[Any]) -> Any:
            step = tapped_step(
                loop,
                taps,
                env,
                varied=dict(zip(inputs, values, strict=True)),
                added=dict(zip(wrt.sums, added, strict=True)),
            )
            return [step.outs[i] for i in float_outs], step

        point = ([env[v] for v in inputs], zeros)
        _, push, step = jax.linearize(varied, *point, has_aux=True)
        traced = jax.make_jaxpr(push)(*point)
        jaxpr = traced.jaxpr
        variables = [*jaxpr.constvars, *jaxpr.invars]
        maps.append(part(jaxpr, variables, jaxpr.outvars, jaxpr.eqns))
        return [step.outs, step.operands, traced.consts]

    traced = jax.make_jaxpr(one_step)(init, [x[0] for x in xs])
    jaxpr, [tangent] = traced.jaxpr, maps
    carry, x = jaxpr.invars[: loop.num_carry], jaxpr.invars[loop.num_carry :]
    outs = jaxpr.outvars[: len(loop.step.outvars)]
    rest = iter(jaxpr.outvars[len(outs) :])
    operands = [[next(rest) for _ in tap.operands] for tap in taps]
    residuals = list(rest)

    level = levels(jaxpr.eqns, x, carry)
    once = [e for e in jaxpr.eqns if level(e.outvars[0]) is Needs.NOTHING]
    each = [e for e in jaxpr.eqns if level(e.outvars[0]) is not Needs.NOTHING]
    stacked = [*(v for group in operands for v in group), *outs[loop.num_carry :]]
    already = {*x, *filter(is_var, stacked)}
    light = producers(e for e in each if e.primitive.name in LIGHT)
    changing = [v for v in residuals if is_var(v) and level(v) is not Needs.NOTHING]
    cut = minimum_cuts(changing, light, lambda v: _cost(v, level, already)).late
    cut = {v for v in cut if level(v) is not Needs.NOTHING}
    recompute = between(each, cut, changing)
    kept = dict.fromkeys([*(v for group in operands for v in group), *cut])
    kept = [v for v in kept if v not in x]

    wanted = needed(each, [*outs, *kept])
    constants = {v for e in [*wanted, *recompute] for v in reads(e)} | set(
        filter(is_var, residuals)
    )
    known = [*jaxpr.constvars, *(v for e in once for v in e.outvars if v in constants)]
    hoisted = part(jaxpr, jaxpr.constvars, known, needed(once, known))
    return Linearised(
        invariant=evaluate(hoisted, *traced.consts),
        forward=part(jaxpr, [*known, *jaxpr.invars], [*outs, *kept], wanted),
        kept=kept,
        xs=list(x),
        operands=operands,
        recompute=part(jaxpr, [*known, *cut], residuals, recompute),
        recompute_from=list(cut),
        tangent=tangent,
    )


def _cost(v: Var, level: Any, already: set[Var]) -> int:
    return 0 if v in already or level(v) is Needs.NOTHING else size(v)
