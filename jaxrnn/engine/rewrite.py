"""Normal form of a step: calls inlined, sums and products regrouped by when they can run.

A textbook writes `W·[h, x] + b` or `x·W + h·R + b`, whichever reads best. Only how the terms are
grouped decides what needs the loop, so a step is rewritten by two identities:

    [a, b] · W      =  a · W[:m] + b · W[m:]         a product with a concatenation
    (a + b) + c     =  (a + c) + b                   sums, early terms first

Both change a result by float reassociation only. The rewrite goes from jaxpr to jaxpr: an equation
that stays is the user's own, with its source line, its name scopes and its settings, and nothing is
traced but what is new.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from enum import IntEnum
from functools import reduce
from typing import Any, NamedTuple

import jax
from jax import lax
from jax.extend import core as jex
from jax.extend import source_info_util

from jaxrnn.engine.jaxprs import (
    Atom,
    Eqn,
    Jaxpr,
    Var,
    dtype,
    is_pinned,
    is_var,
    part,
    shape,
)

CALLS = frozenset(["jit", "pjit", "closed_call"])


class Needs(IntEnum):
    """What a value depends on, and so the earliest time it can be computed."""

    NOTHING = 0  # neither x nor the carry: once
    X = 1  # x, not the carry: before the loop, all time steps at once
    CARRY = 2  # the carry: during the loop (or after it, if no carry needs it)


class Value(NamedTuple):
    """A value in the walk: where it is found, what it needs, and how it was made if that can change."""

    atom: Atom
    needs: Needs
    terms: tuple["Value", ...] = ()  # the summands, if it is a sum nobody else reads
    pieces: tuple["Value", ...] = ()  # the pieces, if it is a concatenation
    axis: int = 0  # along which the pieces lie


class NormalForm(NamedTuple):
    jaxpr: Jaxpr  # constants, then the inputs of the step -> its outputs
    constants: list[Any]  # the arrays that inlined functions close over


def normal_form(jaxpr: Jaxpr, needs: Sequence[Needs]) -> NormalForm:
    """The jaxpr of a step in normal form; `needs` says what each of its inputs is."""
    walk = _Walk()
    inputs = [Value(v, n) for v, n in zip(jaxpr.invars, needs, strict=True)]
    outputs = walk.run(jaxpr, inputs)
    invars = [*walk.constants, *jaxpr.invars]
    written = part(jaxpr, invars, [out.atom for out in outputs], walk.eqns)
    return NormalForm(written, list(walk.constants.values()))


class _Walk:
    """Goes through the equations of a step, and of the functions it calls, and writes new ones."""

    def __init__(self) -> None:
        self.eqns: list[Eqn] = []
        self.constants: dict[Var, Any] = {}

    def run(
        self,
        jaxpr: Jaxpr,
        inputs: Sequence[Value],
        consts: Sequence[Any] = (),
        callers: tuple[Eqn, ...] = (),
    ) -> list[Value]:
        env = dict(zip(jaxpr.invars, inputs, strict=True))
        for v, const in zip(jaxpr.constvars, consts, strict=True):
            env[v] = Value(_like(v), Needs.NOTHING)
            self.constants[env[v].atom] = const
        uses = Counter(v for eqn in jaxpr.eqns for v in eqn.invars if is_var(v))
        uses.update(v for v in jaxpr.outvars if is_var(v))

        def read(atom: Atom) -> Value:
            return env[atom] if is_var(atom) else Value(atom, Needs.NOTHING)

        for eqn in jaxpr.eqns:
            operands = [read(v) for v in eqn.invars]
            if (body := _body(eqn)) is not None:
                # What the caller reads elsewhere too is no summand of the callee's alone.
                operands = [
                    value._replace(terms=()) if is_var(v) and uses[v] > 1 else value
                    for v, value in zip(eqn.invars, operands, strict=True)
                ]
                results = self.run(body.jaxpr, operands, body.consts, (*callers, eqn))
            elif _is_sum(eqn):
                results = [self._add(eqn, operands, uses, callers)]
            elif _contracts_pieces(eqn, operands):
                results = [self._distribute(eqn, operands, callers)]
            else:
                results = self._keep(eqn, operands, callers)
            env |= zip(eqn.outvars, results, strict=True)
        return [read(v) for v in jaxpr.outvars]

    def _keep(self, eqn: Eqn, operands: Sequence[Value], callers: tuple[Eqn, ...]) -> list[Value]:
        needs = max((v.needs for v in operands), default=Needs.NOTHING)
        if is_pinned(eqn) and needs is Needs.X:
            needs = Needs.CARRY
        kept = self._write(eqn, [v.atom for v in operands], callers)
        pieces, axis = (), 0
        if eqn.primitive.name == "concatenate":
            pieces, axis = tuple(operands), eqn.params["dimension"]
        return [Value(v, needs, pieces=pieces, axis=axis) for v in kept]

    def _write(self, eqn: Eqn, operands: Sequence[Atom], callers: tuple[Eqn, ...]) -> list[Var]:
        """Notes an equation; one out of a callee's body is written for this one call of it."""
        if not callers and all(a is b for a, b in zip(operands, eqn.invars, strict=True)):
            self.eqns.append(eqn)
            return list(eqn.outvars)
        outs = [_like(v) for v in eqn.outvars] if callers else list(eqn.outvars)
        info = _called_from(callers, eqn) if callers else eqn.source_info
        self.eqns.append(eqn.replace(invars=list(operands), outvars=outs, source_info=info))
        return outs

    def _trace(
        self, eqn: Eqn, callers: tuple[Eqn, ...], function: Callable[..., Any], *operands: Atom
    ) -> Var:
        """Notes the equations of a function of these operands, as written where `eqn` is."""
        traced = jax.make_jaxpr(function)(*(v.aval for v in operands)).jaxpr
        at = dict(zip(traced.invars, operands, strict=True))
        info = _called_from(callers, eqn) if callers else eqn.source_info
        for made in traced.eqns:
            inputs = [at[v] if is_var(v) else v for v in made.invars]
            self.eqns.append(made.replace(invars=inputs, source_info=info, ctx=eqn.ctx))
            at |= {v: v for v in made.outvars}
        return at[traced.outvars[0]]

    def _add(
        self, eqn: Eqn, operands: Sequence[Value], uses: Counter[Any], callers: tuple[Eqn, ...]
    ) -> Value:
        """Sums all terms of one kind first: those that need nothing, then x, then the carry."""
        terms: list[Value] = []
        for atom, value in zip(eqn.invars, operands, strict=True):
            # A sum that is read elsewhere too exists anyway: it enters as a whole.
            dissolves = value.terms and uses[atom] == 1
            terms.extend(value.terms if dissolves else [value])
        needs = max(t.needs for t in terms)
        if _in_order(operands, terms):
            [out] = self._write(eqn, [v.atom for v in operands], callers)
            return Value(out, needs, terms=tuple(terms))
        groups = [[t for t in terms if t.needs is kind] for kind in Needs]
        in_order = [t.atom for group in groups for t in group]
        sizes = [len(group) for group in groups if group]

        def total(*summands: Any) -> Any:
            rest = iter(summands)
            sums = [reduce(lax.add, [next(rest) for _ in range(size)]) for size in sizes]
            return reduce(lax.add, sums)

        return Value(self._trace(eqn, callers, total, *in_order), needs, terms=tuple(terms))

    def _distribute(self, eqn: Eqn, operands: Sequence[Value], callers: tuple[Eqn, ...]) -> Value:
        contracting, _ = eqn.params["dimension_numbers"]
        side = 0 if _regroups(operands[0], contracting[0]) else 1
        whole, other = operands[side], operands[1 - side]
        axis = contracting[1 - side][0]
        terms: list[Value] = []
        start = 0
        for piece in whole.pieces:
            stop = start + shape(piece.atom)[whole.axis]

            def product(piece: Any, other: Any, start: int = start, stop: int = stop) -> Any:
                rows = lax.slice_in_dim(other, start, stop, axis=axis)
                pair = (piece, rows) if side == 0 else (rows, piece)
                return eqn.primitive.bind(*pair, **eqn.params)

            made = self._trace(eqn, callers, product, piece.atom, other.atom)
            terms.append(Value(made, max(piece.needs, other.needs)))
            start = stop
        terms.sort(key=lambda t: t.needs)
        total = self._trace(
            eqn, callers, lambda *all: reduce(lax.add, all), *(t.atom for t in terms)
        )
        return Value(total, max(t.needs for t in terms), terms=tuple(terms))


def _body(eqn: Eqn) -> jex.ClosedJaxpr | None:
    """What a plain call calls."""
    if eqn.primitive.name not in CALLS or eqn.effects:
        return None
    return eqn.params["call_jaxpr" if "call_jaxpr" in eqn.params else "jaxpr"]


def _like(v: Var) -> Var:
    return v if isinstance(v, jex.DropVar) else jex.Var(v.aval)


def _called_from(callers: tuple[Eqn, ...], eqn: Eqn) -> Any:
    """Where an equation of a callee's body is said to be.

    The body of a `jax.jit` function is traced once and keeps the source lines of its first caller, so
    the line is that of the call; the name scopes are those of the calls and its own.
    """
    scopes = source_info_util.new_name_stack()
    for call in callers:
        scopes = scopes + call.source_info.name_stack
        if name := call.params.get("name"):
            scopes = scopes.extend(f"jit({name})")
    scopes = scopes + eqn.source_info.name_stack
    return callers[0].source_info.replace(name_stack=scopes)


def _is_sum(eqn: Eqn) -> bool:
    # Operands may have axes of size 1 that the sum stretches (a bias), but no other dtype or rank.
    if eqn.primitive.name not in ("add", "add_any"):
        return False
    return len({(len(shape(v)), dtype(v)) for v in (*eqn.invars, *eqn.outvars)}) == 1


def _in_order(operands: Sequence[Value], terms: Sequence[Value]) -> bool:
    """Whether the sum, as it is written, holds no late term among early ones."""
    if len({t.needs for t in terms}) == 1:
        return True
    # Each operand must be of one kind, or the sums of the kinds before the other's: x·W + b, then h·R.
    first, second = operands
    kinds = [{t.needs for t in (v.terms or (v,))} for v in operands]
    if len(kinds[0] | kinds[1]) != len(kinds[0]) + len(kinds[1]):
        return False
    early, late = (kinds[0], kinds[1]) if first.needs < second.needs else (kinds[1], kinds[0])
    return max(early) < min(late) and len(late) == 1


def _contracts_pieces(eqn: Eqn, operands: Sequence[Value]) -> bool:
    """Whether `eqn` multiplies, along their axis, pieces that can be had at different times."""
    if eqn.primitive.name != "dot_general":
        return False
    contracting, _ = eqn.params["dimension_numbers"]
    return any(map(_regroups, operands, contracting))


def _regroups(value: Value, contracted: Sequence[int]) -> bool:
    return tuple(contracted) == (value.axis,) and len({p.needs for p in value.pieces}) > 1
