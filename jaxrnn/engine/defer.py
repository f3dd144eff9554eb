"""Weight gradients, taken out of the backward loop.

In the loop stands u = v·W with a weight W that never changes. Differentiated as written, every step
of the backward loop adds a W-shaped product to its carry. But in the tangent

    du = dv·W + v·dW

the second term (a *tap*) needs no tangent of the carry: it is computed for all t at once and enters
the tangent loop as an input. Transposed, that is dW = Σₜ vₜᵀ·δuₜ, one product after the backward loop.
The rule is a `custom_jvp` made of ordinary JAX, so forward mode, reverse mode, higher derivatives and
`vmap` all go through it.

The residuals are chosen too. Of what the tangent needs, only a minimum cut is kept for all T steps;
the rest is recomputed from it by light arithmetic (`engine.cut`).
"""

import types
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from jaxrnn.engine.cut import minimum_cuts
from jaxrnn.engine.jaxprs import (
    LIGHT,
    Eqn,
    Jaxpr,
    Var,
    apply,
    evaluate,
    is_float,
    is_var,
    needed,
    part,
    producers,
    reads,
    size,
)
from jaxrnn.engine.recurrence import Recurrence, plain
from jaxrnn.engine.rewrite import Needs
from jaxrnn.engine.split import between, levels
from jaxrnn.engine.timewise import apply_all_times

# Linear in an operand that may be a weight, whose gradient is far larger than a step's own values.
DEFERRED = frozenset(["dot_general", "conv_general_dilated", "gather", "dynamic_slice"])
SUMS = frozenset(["add", "add_any"])


def deferred(
    loop: Recurrence, invariant: Sequence[Any], init: Sequence[Any], xs: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """Runs the loop; the gradients of the weights it multiplies by are computed after it."""
    if not taps_of(loop) or loop.length == 0:
        return plain(loop, invariant, init, xs)
    run = jax.custom_jvp(partial(plain, loop))
    run.defjvp(partial(_tangent_rule, loop), symbolic_zeros=True)
    return run(list(invariant), list(init), list(xs))


class Tap(NamedTuple):
    """A product in the loop, the operand of it that is a weight, and the sum it ends in.

    A bias that is added to the same sum is a tap too: its gradient is a sum over what the product's
    gradient needs anyway.
    """

    eqn: Eqn
    weight: Var
    sum: Var

    @property
    def is_bias(self) -> bool:
        return self.eqn.primitive.name in SUMS

    @property
    def operands(self) -> list[Var]:
        """What the tap's tangent needs of each step."""
        return [] if self.is_bias else [v for v in reads(self.eqn) if v is not self.weight]


def taps_of(loop: Recurrence) -> list[Tap]:
    """The products whose weight gradient can leave the loop, and the biases in their sums."""
    invariant = set(loop.step.invars[: loop.num_invariant])
    sum_of = sums(loop.step)

    def taps(primitives: frozenset[str]) -> list[Tap]:
        weights = {
            id(e): [v for v in reads(e) if v in invariant]
            for e in loop.step.eqns
            if e.primitive.name in primitives
        }
        return [
            Tap(e, weights[id(e)][0], sum_of(e.outvars[0]))
            for e in loop.step.eqns
            if len(weights.get(id(e), ())) == 1 and is_float(weights[id(e)][0])
        ]

    products = taps(DEFERRED)
    tapped = {tap.sum for tap in products}
    return products + [tap for tap in taps(SUMS) if tap.sum in tapped]


def sums(jaxpr: Jaxpr) -> Callable[[Var], Var]:
    """Finds the sum a value ends in, if it is used for nothing else: there its tangent is wanted."""
    uses = Counter(v for e in jaxpr.eqns for v in reads(e))
    uses.update(filter(is_var, jaxpr.outvars))
    added_into = {
        v: e.outvars[0]
        for e in jaxpr.eqns
        if e.primitive.name in SUMS
        for v in reads(e)
        if uses[v] == 1 and v.aval == e.outvars[0].aval
    }

    def sum_of(v: Var) -> Var:
        while v in added_into:
            v = added_into[v]
        return v

    return sum_of


def _tangent_rule(loop: Recurrence, primals: Any, tangents: Any) -> Any:
    invariant, init, xs = primals
    all_tangents = [d for group in tangents for d in group]
    moving = {
        v: d
        for v, d in zip(loop.step.invars, all_tangents, strict=True)
        if not isinstance(d, SymbolicZero) and is_float(v)
    }
    taps = [tap for tap in taps_of(loop) if tap.weight in moving]
    wrt = _Inputs.of(loop, taps, moving)
    line = _linearise(loop, taps, wrt, primals)

    # The loop, which keeps what its tangent will need.
    forward = loop._replace(step=line.forward, num_invariant=len(line.invariant))
    last, kept = plain(forward, line.invariant, init, xs)
    num_ys = len(loop.step.outvars) - loop.num_carry
    stacked = dict(zip(line.kept, kept[num_ys:], strict=True)) | dict(zip(line.xs, xs, strict=True))

    # The taps, for all time steps at once.
    def tap_all(tap: Tap, variables: Sequence[Var]) -> Any:
        if tap.is_bias:
            [out] = tap.eqn.outvars
            return jnp.broadcast_to(moving[tap.weight], (loop.length, *out.aval.shape))
        env = {v: stacked[kept] for v, kept in zip(tap.operands, variables, strict=True)}
        env[tap.weight] = moving[tap.weight]
        [product] = apply_all_times(loop.step, tap.eqn, env, set(tap.operands))
        return product

    # Tangents that end in the same sum are one input of the tangent loop, and one output of its
    # transpose: that keeps the cotangent of the sum once, not once for each term.
    added = {v: [] for v in wrt.sums}
    for tap, variables in zip(taps, line.operands, strict=True):
        added[tap.sum].append(tap_all(tap, variables))
    for v in wrt.summed_x:
        added[wrt.sum_of(v)].append(moving[v])
    added = [reduce(jnp.add, terms) for terms in added.values()]

    # The tangent loop.
    d_carry = [
        moving[v] if v in moving else jnp.zeros_like(c)
        for v, c in zip(wrt.all_carry, init, strict=True)
        if is_float(v)
    ]
    small = [moving[v] for v in wrt.small]

    def push(d_carry: list[Any], x: Any) -> tuple[list[Any], list[Any]]:
        d_x, added, kept = x
        residuals = evaluate(line.recompute, *line.invariant, *kept)
        out = evaluate(line.tangent, *residuals, *d_carry, *d_x, *small, *added)
        return out[: len(d_carry)], out[len(d_carry) :]

    if line.recompute.eqns:
        # What is known to be recomputable must not be computed early, and kept after all.
        push = jax.checkpoint(push, prevent_cse=False)
    d_xs = [moving[v] for v in wrt.x]
    d_last, d_ys = loop.scan(
        push, d_carry, (d_xs, added, [stacked[v] for v in line.recompute_from])
    )
    outs = (last, kept[:num_ys])
    tangent = iter([*d_last, *d_ys])
    return outs, jax.tree.map(
        lambda v: (
            next(tangent) if is_float(jax.typeof(v)) else np.zeros(jnp.shape(v), jax.dtypes.float0)
        ),
        outs,
    )


class _Inputs(NamedTuple):
    """What the tangent loop is linear in, besides the taps."""

    all_carry: list[Var]
    carry: list[Var]  # those that have tangents
    x: list[Var]
    small: list[Var]  # invariants that the loop uses otherwise than in a tap
    sums: list[Var]  # where the taps are added
    summed_x: list[Var]  # the inputs that are added there too
    sum_of: Callable[[Var], Var]

    @classmethod
    def of(cls, loop: Recurrence, taps: Sequence[Tap], moving: Mapping[Var, Any]) -> "_Inputs":
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


class _Linearised(NamedTuple):
    """A step and its derivative, as jaxprs that share residuals."""

    invariant: list[Any]  # values of what `forward` and `recompute` know at all times
    forward: Jaxpr  # invariant, carry, x -> carry, y, kept
    kept: list[Var]  # what `forward` keeps besides ys
    xs: list[Var]
    operands: list[list[Var]]  # of each tap, found in `kept` or `xs`
    recompute: Jaxpr  # invariant, recompute_from -> residuals
    recompute_from: list[Var]  # found in `kept` or `xs`
    tangent: Jaxpr  # residuals, d_carry, d_x, d_small, added -> d_carry, d_y


def _linearise(loop: Recurrence, taps: Sequence[Tap], wrt: _Inputs, primals: Any) -> _Linearised:
    """Linearises one step in carry, x, the small invariants and the taps, and cuts its residuals."""
    invariant, init, xs = primals
    float_outs = [i for i, v in enumerate(loop.step.outvars) if is_float(v)]
    inputs = [*wrt.carry, *wrt.x, *wrt.small]
    maps: list[Jaxpr] = []

    def one_step(init: list[Any], x0: list[Any]) -> list[list[Any]]:
        env = dict(zip(loop.step.invars, [*invariant, *init, *x0], strict=True))
        zeros = [jnp.zeros_like(s) for s in _tapped_step(loop, taps, env, {}).sums]

        def varied(values: list[Any], added: list[Any]) -> Any:
            step = _tapped_step(
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
    already = {*x, *(v for group in operands for v in group), *outs[loop.num_carry :]}
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
    return _Linearised(
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


class _Tapped(NamedTuple):
    """What one step gives: its outputs, and the sums and the operands of the taps."""

    outs: list[Any]
    sums: list[Any]
    operands: list[list[Any]]


def _tapped_step(
    loop: Recurrence,
    taps: Sequence[Tap],
    inputs: Mapping[Var, Any],
    varied: Mapping[Var, Any] = types.MappingProxyType({}),
    added: Mapping[Var, Any] = types.MappingProxyType({}),
) -> _Tapped:
    """One step with `added` added to the sums of the taps.

    `varied` stands in for inputs everywhere but in the weights of the taps: these stay what they
    are (not under `stop_gradient`, or second derivatives would be silently wrong).
    """
    env = {**inputs, **varied}
    tap_of = {id(tap.eqn): tap for tap in taps}
    for eqn in loop.step.eqns:
        if tap := tap_of.get(id(eqn)):
            results = apply(loop.step, eqn, {**env, tap.weight: inputs[tap.weight]})
        else:
            results = apply(loop.step, eqn, env)
        env |= zip(eqn.outvars, results, strict=True)
        env |= {v: env[v] + added[v] for v in eqn.outvars if v in added}
    return _Tapped(
        outs=[env[v] if is_var(v) else v.val for v in loop.step.outvars],
        sums=[env[v] for v in dict.fromkeys(tap.sum for tap in taps)],
        operands=[[env[v] for v in tap.operands] for tap in taps],
    )
