"""What will run when, and why: a split step as text."""

import textwrap
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxrnn.engine.cost import Cost
from jaxrnn.engine.jaxprs import Atom, Eqn, Jaxpr, Var, is_float, is_var, reads, source
from jaxrnn.engine.recurrence import Recurrence
from jaxrnn.engine.split import Parts
from jaxrnn.engine.structure import Kind, Structure, find
from jaxrnn.engine.taps import taps_of
from jaxrnn.engine.trace import Loop
from jaxrnn.engine.triangle import first_obstacle, groups_of

WIDTH = 80
_INFIX = {"dot_general": "·", "add": "+", "add_any": "+", "sub": "-", "mul": "*", "div": "/"}
_PLAIN = frozenset(
    ["broadcast_in_dim", "reshape", "squeeze", "expand_dims", "copy", "copy_p", "pvary"]
)


class Plan(NamedTuple):
    """A step taken apart, with what the engine knows of it."""

    loop: Loop
    parts: Parts
    costs: dict[str, Cost]  # once, before, during, after: per time step
    structure: Structure
    deferred: list[Var]  # weights whose gradient leaves the backward loop
    accumulated: list[Var]  # invariants whose gradient is summed inside it
    names: dict[Var, str]

    @classmethod
    def of(cls, loop: Loop, names: Mapping[Var, str], *, hoist: bool = True) -> "Plan":
        parts = loop.parts if hoist else loop.unhoisted
        known = len(parts.invariant)
        taps = taps_of(Recurrence(parts.during, known, len(parts.carry), loop.length))
        tapped = {id(tap.eqn) for tap in taps}
        used = {v for e in parts.during.eqns if id(e) not in tapped for v in reads(e)}
        stages = {"once": parts.once, "before": parts.before}
        stages |= {"during": parts.during, "after": parts.after}
        return cls(
            loop=loop,
            parts=parts,
            costs={stage: Cost.of(jaxpr.eqns) for stage, jaxpr in stages.items()},
            structure=find(parts),
            deferred=list(dict.fromkeys(tap.weight for tap in taps)),
            accumulated=[v for v in _differentiable(parts) if v in used],
            names=_name_all(parts, names),
        )

    def equations(self, stage: str) -> list[str]:
        jaxpr: Jaxpr = getattr(self.parts, stage)
        return [self._line(e) for e in jaxpr.eqns if e.primitive.name not in _PLAIN]

    def _line(self, eqn: Eqn) -> str:
        made = ", ".join(self.names.get(v, "_") for v in eqn.outvars)
        shape = _type(eqn.outvars[0])
        where = source(eqn).rsplit("/", 1)[-1]
        left = f"  {made} = {self._expression(eqn)}"
        right = f"{shape}  {where}"
        room = WIDTH - len(right) - 2
        return f"{left if len(left) <= room else left[: room - 1] + '…':<{room}}  {right}"

    def _expression(self, eqn: Eqn) -> str:
        operands = [self.name(v) for v in eqn.invars]
        sign = _INFIX.get(eqn.primitive.name)
        if sign and len(operands) == 2:
            return f" {sign} ".join(operands)
        return f"{eqn.primitive.name}({', '.join(operands)})"

    def name(self, atom: Atom) -> str:
        if is_var(atom):
            return self.names.get(atom, "_")
        value: Any = atom.val
        return f"{value:g}" if getattr(value, "ndim", 0) == 0 and is_float(atom) else str(value)

    def __str__(self) -> str:
        return "\n".join([*self._parts_lines(), "", *self._gradient_lines(), *self._structure()])

    def _parts_lines(self) -> list[str]:
        lines = [f"{'part':<8}{'equations':>10}{'products':>10}{'FLOP/step':>12}{'bytes/step':>12}"]
        for stage, cost in self.costs.items():
            lines.append(
                f"{stage:<8}{cost.equations:>10}{cost.products:>10}"
                f"{amount(cost.flops):>12}{amount(cost.bytes):>12}"
            )
        when = {
            "once": "once, before everything",
            "before": "before the loop, all time steps at once",
            "during": "during the loop, step by step",
            "after": "after the loop, all time steps at once",
        }
        for stage, meaning in when.items():
            if equations := self.equations(stage):
                lines += ["", meaning, *equations]
        return lines

    def _gradient_lines(self) -> list[str]:
        carried = ", ".join(f"{self.name(v)} {_type(v)}" for v in self.parts.carry if is_float(v))
        lines = ["gradient", *_wrapped("carried by the backward loop", carried or "nothing")]
        lines += _wrapped("after it, for all steps at once", self._list(self.deferred) or "nothing")
        if self.accumulated:
            lines += _wrapped("added up inside it", self._list(self.accumulated))
        return lines

    def _list(self, variables: list[Var]) -> str:
        return ", ".join(f"{self.name(v)} {_type(v)}" for v in variables)

    def _structure(self) -> list[str]:
        kind, reason = self.structure.kind, self.structure.reason
        because = f"because of {reason}" if reason else ""
        groups = groups_of(self.parts.during, self.parts.carry, self.parts.next_carry)
        if kind > Kind.AFFINE and first_obstacle(self.parts.during, groups) is None:
            kind = Kind.AFFINE
            leaves = [
                " with ".join(self.name(self.parts.carry[i]) for i in g.leaves) for g in groups
            ]
            because = f"each leaf given those before it: {', '.join(leaves)}"
        return ["", "structure", *_wrapped(str(kind), because)]


def _differentiable(parts: Parts) -> list[Var]:
    """The invariants that a gradient may be asked of: consts, and what is made of them."""
    found = dict.fromkeys(v for v in parts.consts if is_float(v))
    for eqn in parts.once.eqns:
        if any(v in found for v in reads(eqn)):
            found |= dict.fromkeys(v for v in eqn.outvars if is_float(v))
    return list(found)


def _name_all(parts: Parts, given: Mapping[Var, str]) -> dict[Var, str]:
    """Letters for what has no name; a renamed value keeps the name of what it renames."""
    names = dict(given)
    letters = (f"{c}{i or ''}" for i in range(1000) for c in "abdefgijklmnoqrstuvwz")
    taken = set(names.values())
    for jaxpr in (parts.once, parts.before, parts.during, parts.after):
        for eqn in jaxpr.eqns:
            for v in eqn.outvars:
                if eqn.primitive.name in _PLAIN and is_var(eqn.invars[0]):
                    names.setdefault(v, names.get(eqn.invars[0], "_"))
                elif v not in names:
                    names[v] = next(letter for letter in letters if letter not in taken)
    for v, old in zip(parts.next_carry, parts.carry, strict=True):
        if is_var(v) and old in given and v not in given:
            names[v] = f"{given[old]}'"
    return names


def _type(atom: Atom) -> str:
    return atom.aval.str_short(short_dtypes=True)


def _wrapped(label: str, text: str) -> list[str]:
    """`label  text`, the text wrapped beside its label."""
    first, rest = f"  {label}".ljust(36), " " * 36
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=rest) or [first]


def amount(n: float) -> str:
    """A number in at most six characters: 16.8 M."""
    for unit in ("", " k", " M", " G", " T"):
        if n < 1000:
            return f"{n:.3g}{unit}"
        n /= 1000
    return f"{n:.3g} P"
