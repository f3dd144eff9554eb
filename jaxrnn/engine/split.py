"""Splits a step into what runs once, before, during and after the loop.

    needs neither carry nor x                     once
    needs x, not the carry                        before: all time steps at once
    needs the carry, and the next carry needs it  during: inside the loop
    needs the carry, only the output needs it     after: all time steps at once

A value that crosses from one part to another is kept for all T steps, so light arithmetic may move
across the border where that keeps fewer bytes (`engine.cut`).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from jaxrnn.engine.cut import minimum_cuts
from jaxrnn.engine.jaxprs import (
    LIGHT,
    Atom,
    Eqn,
    Jaxpr,
    Var,
    is_float,
    is_pinned,
    is_var,
    needed,
    part,
    producers,
    reads,
    size,
)
from jaxrnn.engine.rewrite import Needs

# A product with a weight is worth taking out of the loop even where its operand is up to this many
# times larger than its result: one large product is that much faster than T small ones.
PRODUCT_GROWTH = 8
PRODUCTS = frozenset(["dot_general", "conv_general_dilated"])


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A step taken apart. Each part is a jaxpr; the lists say what flows between them.

    once    consts                              -> once_out
    before  consts + once_out, xs               -> before_out
    during  consts + once_out, carry, dx        -> carry, during_out    dx: of xs and before_out
    after   consts + once_out, ax               -> after_out            ax: of xs, before_out, during_out
    """

    whole: Jaxpr
    consts: list[Var]
    carry: list[Var]
    xs: list[Var]
    once: Jaxpr
    before: Jaxpr
    during: Jaxpr
    after: Jaxpr
    next_carry: list[Atom]  # one for each of `carry`
    ys: list[Atom]  # where each output is found, over all the parts

    @property
    def invariant(self) -> list[Var]:
        return [*self.consts, *filter(is_var, self.once.outvars)]


Level = Callable[[Var], Needs]


def split(jaxpr: Jaxpr, num_consts: int, num_carry: int, *, hoist: bool = True) -> Parts:
    """Splits the jaxpr of a step: inputs consts, carry, x; outputs the next carry, y.

    With `hoist=False` only what needs neither carry nor x leaves the loop.
    """
    consts = list(jaxpr.invars[:num_consts])
    carry = list(jaxpr.invars[num_consts : num_consts + num_carry])
    xs = list(jaxpr.invars[num_consts + num_carry :])
    next_carry, ys = list(jaxpr.outvars[:num_carry]), list(jaxpr.outvars[num_carry:])

    eqns = needed(jaxpr.eqns, [*next_carry, *ys])
    level = levels(eqns, xs, carry)
    once = [e for e in eqns if level(e.outvars[0]) is Needs.NOTHING]
    before = [e for e in eqns if level(e.outvars[0]) is Needs.X]
    during = [e for e in eqns if level(e.outvars[0]) is Needs.CARRY]
    after: list[Eqn] = []
    if hoist:
        during, after = _move_after(during, next_carry, ys, level)
        during = _move_inside(before, during, level)
    else:
        during, before = [e for e in eqns if level(e.outvars[0]) is not Needs.NOTHING], []

    def read(eqns: Iterable[Eqn], wanted: Iterable[Atom] = ()) -> list[Var]:
        """What some equations, or `wanted`, take from elsewhere."""
        made = {v for e in eqns for v in e.outvars}
        atoms = [*(v for e in eqns for v in reads(e)), *filter(is_var, wanted)]
        return list(dict.fromkeys(v for v in atoms if v not in made))

    after_in = [v for v in read(after, ys) if level(v) is not Needs.NOTHING]
    during_out = [v for v in after_in if level(v) is Needs.CARRY or (not hoist and v not in xs)]
    during_in = [v for v in read(during, [*next_carry, *during_out]) if level(v) is Needs.X]
    crossing = dict.fromkeys([*during_in, *after_in])
    before_out = [v for v in crossing if level(v) is Needs.X and v not in {*xs, *during_out}]
    before = needed(before, before_out)
    once_out = [
        v
        for v in read([*before, *during, *after], [*next_carry, *ys])
        if level(v) is Needs.NOTHING and v not in consts
    ]
    known = [*consts, *once_out]
    after_out = [v for v in dict.fromkeys(filter(is_var, ys)) if v not in known]
    loop_out = [*next_carry, *during_out]
    return Parts(
        whole=jaxpr,
        consts=consts,
        carry=carry,
        xs=xs,
        once=part(jaxpr, consts, once_out, needed(once, once_out)),
        before=part(jaxpr, [*known, *xs], before_out, before),
        during=part(jaxpr, [*known, *carry, *during_in], loop_out, during),
        after=part(jaxpr, [*known, *after_in], after_out, after),
        next_carry=next_carry,
        ys=ys,
    )


def levels(eqns: Iterable[Eqn], xs: Iterable[Var], carry: Iterable[Var]) -> Level:
    """What each variable needs; a pinned equation that needs x is as bound to the loop as a carry."""
    needs = dict.fromkeys(xs, Needs.X) | dict.fromkeys(carry, Needs.CARRY)

    def level(v: Var) -> Needs:
        return needs.get(v, Needs.NOTHING)

    for eqn in eqns:
        found = max(map(level, reads(eqn)), default=Needs.NOTHING)
        if found is Needs.X and is_pinned(eqn):
            found = Needs.CARRY
        needs |= dict.fromkeys(eqn.outvars, found)
    return level


def _move_after(
    during: Sequence[Eqn], next_carry: Sequence[Atom], ys: Sequence[Atom], level: Level
) -> tuple[list[Eqn], list[Eqn]]:
    """Takes out of the loop what no next carry needs, cutting where the fewest bytes are kept."""
    bound = [*next_carry, *(v for e in during if is_pinned(e) for v in e.outvars)]
    recurrent = {v for e in needed(during, bound) for v in e.outvars}
    made_by = producers(e for e in during if e.outvars[0] not in recurrent)

    # A value that a product leads to is only had inside the loop if the product is made there.
    costly: set[Var] = set()
    for eqn in during:
        if eqn.outvars[0] in made_by and (
            is_product_with_weight(eqn, level) or not costly.isdisjoint(reads(eqn))
        ):
            costly.update(eqn.outvars)

    def cost(v: Var) -> int:
        if level(v) is not Needs.CARRY:
            return 0  # to be had on both sides of the border
        return size(v) * (PRODUCT_GROWTH if v in costly else 1)

    kept = minimum_cuts(filter(is_var, ys), made_by, cost).late
    inside = {v for e in needed(during, [*bound, *kept]) for v in e.outvars}
    return (
        [e for e in during if e.outvars[0] in inside],
        between(during, kept, ys),
    )


def _move_inside(before: Sequence[Eqn], during: Sequence[Eqn], level: Level) -> list[Eqn]:
    """Puts light arithmetic on xs back into the loop where that keeps fewer bytes (a broadcast)."""
    made_by = producers(before)
    light = {
        v: e for v, e in made_by.items() if e.primitive.name in LIGHT and not reads_weight(e, level)
    }
    wanted = [v for e in during for v in reads(e) if level(v) is Needs.X]

    # xs lie in memory for all time steps already: reading them in the loop costs nothing more.
    kept = minimum_cuts(wanted, light, lambda v: size(v) if v in made_by else 0).early
    return [*between(before, kept, wanted), *during]


def between(eqns: Sequence[Eqn], kept: Iterable[Var], wanted: Iterable[Atom]) -> list[Eqn]:
    """The equations that make `wanted` out of `kept`."""
    kept = set(kept)
    live, found = {v for v in wanted if is_var(v)} - kept, []
    for eqn in reversed(eqns):
        if not live.isdisjoint(eqn.outvars):
            found.append(eqn)
            live |= set(reads(eqn)) - kept
    return found[::-1]


def is_product_with_weight(eqn: Eqn, level: Level) -> bool:
    return eqn.primitive.name in PRODUCTS and reads_weight(eqn, level)


def reads_weight(eqn: Eqn, level: Level) -> bool:
    """Whether an equation reads an invariant that may be differentiated."""
    return any(level(v) is Needs.NOTHING and is_float(v) for v in reads(eqn))
