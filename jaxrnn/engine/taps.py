"""Finds the products in a loop whose weight gradient can leave it, and runs a step around them."""

import types
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxrnn.engine.jaxprs import Eqn, Jaxpr, Var, apply, is_float, is_var, reads, value
from jaxrnn.engine.recurrence import Recurrence
from jaxrnn.engine.turned import apply_product

# Linear in an operand that may be a weight, whose gradient is far larger than a step's own values.
DEFERRED = frozenset(["dot_general", "conv_general_dilated", "gather", "dynamic_slice"])
SUMS = frozenset(["add", "add_any"])


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


class Tapped(NamedTuple):
    """What one step gives: its outputs, and the sums and the operands of the taps."""

    outs: list[Any]
    sums: list[Any]
    operands: list[list[Any]]


def tapped_step(
    loop: Recurrence,
    taps: Sequence[Tap],
    inputs: Mapping[Var, Any],
    varied: Mapping[Var, Any] = types.MappingProxyType({}),
    added: Mapping[Var, Any] = types.MappingProxyType({}),
) -> Tapped:
    """One step with `added` added to the sums of the taps.

    `varied` stands in for inputs everywhere but in the weights of the taps: these stay what they
    are (not under `stop_gradient`, or second derivatives would be silently wrong).
    """
    env = {**inputs, **varied}
    tap_of = {id(tap.eqn): tap for tap in taps}
    product = apply_product if loop.feature_major else apply
    for eqn in loop.step.eqns:
        if tap := tap_of.get(id(eqn)):
            results = product(loop.step, eqn, {**env, tap.weight: inputs[tap.weight]})
        else:
            results = apply(loop.step, eqn, env)
        env |= zip(eqn.outvars, results, strict=True)
        env |= {v: env[v] + added[v] for v in eqn.outvars if v in added}
    return Tapped(
        outs=[value(env, v) for v in loop.step.outvars],
        sums=[env[v] for v in dict.fromkeys(tap.sum for tap in taps)],
        operands=[[env[v] for v in tap.operands] for tap in taps],
    )
