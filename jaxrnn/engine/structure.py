"""Finds how a step's next carry depends on its carry: what a parallel method may count on.

    elementwise affine   h' = a ∘ h + b, with a and b free of the carry
    elementwise          each element of h' sees the same element of the carry only
    dense                anything else

It is found, not declared, by one walk over the equations inside the loop. Each value is given the
weakest property that surely holds, and where a property ends, the equation that ends it.
"""

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import jax.numpy as jnp

from jaxrnn.engine.jaxprs import (
    Atom,
    Eqn,
    Var,
    dtype,
    is_float,
    is_var,
    shape,
    source,
    subjaxprs,
)
from jaxrnn.engine.rewrite import CALLS
from jaxrnn.engine.split import Parts


class Kind(IntEnum):
    """How a value depends on the carry; each kind holds all that the ones before it do."""

    FREE = 0
    AFFINE = 1
    ELEMENTWISE = 2
    DENSE = 3

    def __str__(self) -> str:
        return ("free of the carry", "elementwise affine", "elementwise", "dense")[self]


class Dependence(NamedTuple):
    """A kind, and the equation where the better kind ended."""

    kind: Kind
    because: Eqn | None = None


class Structure(NamedTuple):
    """What is known of a recurrence: of the whole, and of each leaf of the carry that changes."""

    kind: Kind
    because: Eqn | None
    leaves: list[Dependence]

    @property
    def reason(self) -> str:
        """Why it is nothing better: the primitive and the user's source line."""
        if self.because is None:
            return ""
        return f"{self.because.primitive.name} at {source(self.because)}"


# Linear in each float operand, element by element.
_LINEAR = frozenset(
    [
        "add",
        "add_any",
        "sub",
        "neg",
        "copy",
        "copy_p",
        "reshape",
        "squeeze",
        "expand_dims",
        "broadcast_in_dim",
        "convert_element_type",
        "pvary",
        "pcast",
        "reshard",
    ]
)
ELEMENTWISE = frozenset(
    [
        "abs",
        "acos",
        "acosh",
        "and",
        "asin",
        "asinh",
        "atan",
        "atan2",
        "atanh",
        "cbrt",
        "ceil",
        "clamp",
        "conj",
        "cos",
        "cosh",
        "digamma",
        "eq",
        "erf",
        "erf_inv",
        "erfc",
        "exp",
        "exp2",
        "expm1",
        "floor",
        "ge",
        "gt",
        "imag",
        "integer_pow",
        "is_finite",
        "le",
        "lgamma",
        "log",
        "log1p",
        "logistic",
        "lt",
        "max",
        "min",
        "ne",
        "nextafter",
        "not",
        "one_minus_square",  # of JAX 0.11, in the derivative of tanh
        "or",
        "pow",
        "real",
        "complex",
        "rem",
        "round",
        "rsqrt",
        "sign",
        "sin",
        "sinh",
        "sqrt",
        "square",
        "stop_gradient",
        "tan",
        "tanh",
        "xor",
        "reduce_precision",
    ]
)
# A function with a derivative of its own is no better than elementwise: its slope is not its
# derivative, and methods that linearise would tell.
_CUSTOM = frozenset(["custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"])


def find(parts: Parts) -> Structure:
    """Finds the structure of the loop of a split step."""
    env = {v: Dependence(of_leaf(v)) for v in parts.carry}
    depend(parts.during.eqns, env)
    leaves = []
    for old, new in zip(parts.carry, parts.next_carry, strict=True):
        found = env.get(new, Dependence(Kind.FREE)) if is_var(new) else Dependence(Kind.FREE)
        leaves.append(at_least(found, of_leaf(old)) if found.kind else found)
    worst = max(leaves, key=lambda d: d.kind, default=Dependence(Kind.FREE))
    return Structure(worst.kind, worst.because, leaves)


def of_leaf(v: Var) -> Kind:
    """What a carry leaf starts as: integers, bools and keys have no slope to be affine in."""
    if is_float(v):
        return Kind.AFFINE
    return Kind.ELEMENTWISE if jnp.issubdtype(dtype(v), jnp.number) else Kind.DENSE


def at_least(found: Dependence, kind: Kind) -> Dependence:
    return found if found.kind >= kind else found._replace(kind=kind)


def depend(eqns: Sequence[Eqn], env: dict[Var, Dependence]) -> None:
    """Adds what the equations make to `env`, which holds what depends on the carry."""
    for eqn in eqns:
        inputs = [env.get(v, Dependence(Kind.FREE)) if is_var(v) else _FREE for v in eqn.invars]
        worst = max(inputs, key=lambda d: d.kind, default=_FREE)
        if worst.kind is Kind.FREE:
            continue
        kind = max(worst.kind, _kind(eqn, [d.kind for d in inputs]))
        because = worst.because if kind is worst.kind else eqn
        env |= dict.fromkeys(eqn.outvars, Dependence(kind, because))


_FREE = Dependence(Kind.FREE)


def _kind(eqn: Eqn, inputs: Sequence[Kind]) -> Kind:
    """The best an equation can be, given how its operands depend on the carry."""
    name = eqn.primitive.name
    carried = [v for v, kind in zip(eqn.invars, inputs, strict=True) if kind]
    if not _keeps_elements(eqn, carried):
        return Kind.DENSE
    if name in _LINEAR:
        return Kind.AFFINE if _stays_float(eqn, carried) else Kind.ELEMENTWISE
    if name == "mul":
        return Kind.AFFINE if len(carried) == 1 else Kind.ELEMENTWISE
    if name == "div":
        return Kind.ELEMENTWISE if inputs[1] else Kind.AFFINE
    if name == "select_n":
        return Kind.ELEMENTWISE if inputs[0] else Kind.AFFINE
    if name in ELEMENTWISE:
        return Kind.ELEMENTWISE
    if name in _CUSTOM:
        return _inside(eqn, inputs)
    return Kind.DENSE


def _keeps_elements(eqn: Eqn, carried: Sequence[Atom]) -> bool:
    """Whether element i of the result can see element i of the carry alone.

    A reshape keeps the order of elements; stretching an axis, or picking from one, does not.
    """
    return all(
        math.prod(shape(out)) == math.prod(shape(v))
        for out in eqn.outvars
        for v in carried
        if shape(v)
    ) and all(shape(v) or not shape(out) for out in eqn.outvars for v in carried)


def _stays_float(eqn: Eqn, carried: Sequence[Atom]) -> bool:
    """A cast from or to integers rounds; one from complex to real drops a part."""
    kinds = {jnp.issubdtype(dtype(v), jnp.complexfloating) for v in carried}
    outs = {jnp.issubdtype(dtype(v), jnp.complexfloating) for v in eqn.outvars}
    return all(is_float(v) for v in (*carried, *eqn.outvars)) and (outs == {True} or kinds == outs)


def _inside(eqn: Eqn, inputs: Sequence[Kind]) -> Kind:
    """The kind of a call, from the equations of the function it calls."""
    bodies = [j for j in subjaxprs(eqn) if len(j.invars) == len(inputs)]
    if not bodies:
        return Kind.DENSE
    env = {v: Dependence(kind) for v, kind in zip(bodies[0].invars, inputs, strict=True) if kind}
    _walk_calls(bodies[0].eqns, env)
    found = [env[v].kind for v in bodies[0].outvars if is_var(v) and v in env]
    return max([Kind.ELEMENTWISE, *found])


def _walk_calls(eqns: Sequence[Eqn], env: dict[Var, Dependence]) -> None:
    """As `depend`, where calls have not been inlined."""
    for eqn in eqns:
        if eqn.primitive.name in CALLS:
            kinds = [env[v].kind if is_var(v) and v in env else Kind.FREE for v in eqn.invars]
            if any(kinds):
                env |= dict.fromkeys(eqn.outvars, Dependence(_inside(eqn, kinds), eqn))
        else:
            depend([eqn], env)
