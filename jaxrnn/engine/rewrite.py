"""Normal form of a step: calls inlined, sums and products regrouped by when they can run.

A textbook writes `W·[h, x] + b` or `x·W + h·R + b`, whichever reads best. Only how the terms are
grouped decides what needs the loop, so while a step is traced it is rewritten by two identities:

    [a, b] · W      =  a · W[:m] + b · W[m:]         a product with a concatenation
    (a + b) + c     =  (a + c) + b                   sums, early terms first

Both change a result by float reassociation only.
"""

from collections import Counter
from collections.abc import Sequence
from enum import IntEnum
from functools import reduce
from typing import Any, NamedTuple

from jax import lax
from jax.extend import core as jex

from jaxrnn.engine.jaxprs import Eqn, Jaxpr, apply, dtype, is_pinned, is_var, shape, written_at

CALLS = frozenset(["jit", "pjit", "closed_call"])


class Needs(IntEnum):
    """What a value depends on, and so the earliest time it can be computed."""

    NOTHING = 0  # neither x nor the carry: once
    X = 1  # x, not the carry: before the loop, all time steps at once
    CARRY = 2  # the carry: during the loop (or after it, if no carry needs it)


class Value(NamedTuple):
    """A value in the walk: the array, what it needs, and how it was made if that can be regrouped."""

    array: Any
    needs: Needs
    terms: tuple["Value", ...] = ()  # the summands, if it is a sum nobody else reads
    pieces: tuple["Value", ...] = ()  # the pieces, if it is a concatenation
    axis: int = 0  # along which the pieces lie


def normalise(traced: jex.ClosedJaxpr, inputs: Sequence[Value]) -> list[Any]:
    """Evaluates a step on traced inputs in normal form; returns the arrays of its outputs."""
    return [v.array for v in _walk(traced.jaxpr, traced.consts, inputs)]


def _walk(
    jaxpr: Jaxpr, consts: Sequence[Any], inputs: Sequence[Value], call: Eqn | None = None
) -> list[Value]:
    env = {v: Value(c, Needs.NOTHING) for v, c in zip(jaxpr.constvars, consts, strict=True)}
    env |= dict(zip(jaxpr.invars, inputs, strict=True))
    uses = Counter(v for eqn in jaxpr.eqns for v in eqn.invars if is_var(v))
    uses.update(v for v in jaxpr.outvars if is_var(v))

    def read(atom: Any) -> Value:
        return env[atom] if is_var(atom) else Value(atom.val, Needs.NOTHING)

    for eqn in jaxpr.eqns:
        operands = [read(v) for v in eqn.invars]
        if eqn.primitive.name in CALLS and not eqn.effects:
            callee = eqn.params["call_jaxpr" if "call_jaxpr" in eqn.params else "jaxpr"]
            # What the caller reads elsewhere too is no summand of the callee's alone.
            operands = [
                value._replace(terms=()) if is_var(v) and uses[v] > 1 else value
                for v, value in zip(eqn.invars, operands, strict=True)
            ]
            results = _walk(callee.jaxpr, callee.consts, operands, call or eqn)
        elif _is_sum(eqn):
            with written_at(call or eqn):
                results = [_add(eqn, operands, uses)]
        elif _contracts_pieces(eqn, operands):
            with written_at(call or eqn):
                results = [_distribute(eqn, operands)]
        else:
            results = _keep(jaxpr, eqn, operands, call)
        env |= dict(zip(eqn.outvars, results, strict=True))
    return [read(v) for v in jaxpr.outvars]


def _keep(jaxpr: Jaxpr, eqn: Eqn, operands: Sequence[Value], call: Eqn | None) -> list[Value]:
    needs = max((v.needs for v in operands), default=Needs.NOTHING)
    if is_pinned(eqn) and needs is Needs.X:
        needs = Needs.CARRY
    env = {v: value.array for v, value in zip(eqn.invars, operands, strict=True) if is_var(v)}
    arrays = apply(jaxpr, eqn, env, called_from=call)
    pieces, axis = (), 0
    if eqn.primitive.name == "concatenate":
        pieces, axis = tuple(operands), eqn.params["dimension"]
    return [Value(a, needs, pieces=pieces, axis=axis) for a in arrays]


def _is_sum(eqn: Eqn) -> bool:
    # Operands may have axes of size 1 that the sum stretches (a bias), but no other dtype or rank.
    kinds = {(len(shape(v)), dtype(v)) for v in (*eqn.invars, *eqn.outvars)}
    return eqn.primitive.name in ("add", "add_any") and len(kinds) == 1


def _add(eqn: Eqn, operands: Sequence[Value], uses: Counter[Any]) -> Value:
    """Sums all terms of one kind first: those that need nothing, then x, then the carry."""
    terms: list[Value] = []
    for atom, value in zip(eqn.invars, operands, strict=True):
        # A sum that is read elsewhere too exists anyway: it enters as a whole.
        dissolves = value.terms and uses[atom] == 1
        terms.extend(value.terms if dissolves else [value])
    if len({t.needs for t in terms}) == 1:
        return Value(_plus(*operands).array, terms[0].needs, terms=tuple(terms))
    groups = [reduce(_plus, g) for n in Needs if (g := [t for t in terms if t.needs is n])]
    return reduce(_plus, groups)._replace(terms=tuple(terms))


def _plus(a: Value, b: Value) -> Value:
    return Value(lax.add(a.array, b.array), max(a.needs, b.needs))


def _contracts_pieces(eqn: Eqn, operands: Sequence[Value]) -> bool:
    """Whether `eqn` multiplies, along their axis, pieces that can be had at different times."""
    if eqn.primitive.name != "dot_general":
        return False
    contracting, _ = eqn.params["dimension_numbers"]
    return any(map(_regroups, operands, contracting))


def _regroups(value: Value, contracted: Sequence[int]) -> bool:
    return tuple(contracted) == (value.axis,) and len({p.needs for p in value.pieces}) > 1


def _distribute(eqn: Eqn, operands: Sequence[Value]) -> Value:
    contracting, _ = eqn.params["dimension_numbers"]
    side = 0 if _regroups(operands[0], contracting[0]) else 1
    whole, other = operands[side], operands[1 - side]
    axis = contracting[1 - side][0]
    terms: list[Value] = []
    start = 0
    for piece in whole.pieces:
        stop = start + piece.array.shape[whole.axis]
        rows = lax.slice_in_dim(other.array, start, stop, axis=axis)
        pair = (piece.array, rows) if side == 0 else (rows, piece.array)
        needs = max(piece.needs, other.needs)
        terms.append(Value(eqn.primitive.bind(*pair, **eqn.params), needs))
        start = stop
    terms.sort(key=lambda t: t.needs)
    return reduce(_plus, terms)._replace(terms=tuple(terms))
