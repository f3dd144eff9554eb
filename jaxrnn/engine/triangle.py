"""The order in which the leaves of a carry can be solved, each for all time steps at once.

Where the next value of one leaf needs another leaf, but not the other way round, the other is solved
first; from then on it is known for all times, as an input is, and whatever is done to it does no harm.
Leaves that need each other are solved together.
"""

from collections.abc import Sequence
from typing import NamedTuple

from jaxrnn.engine.jaxprs import Atom, Eqn, Jaxpr, Var, is_pinned, is_var, needed, reads
from jaxrnn.engine.structure import Dependence, Kind, at_least, depend, of_leaf


class Group(NamedTuple):
    """Leaves that need each other, by number, and how they depend on themselves."""

    leaves: list[int]
    found: Dependence


def groups_of(step: Jaxpr, carry: Sequence[Var], next_carry: Sequence[Atom]) -> list[Group]:
    """The leaves of a carry in an order in which each needs itself and those before it only."""
    needs = [_leaves_needed(step.eqns, carry, new) for new in next_carry]
    reach = [_closure(needs, i) for i in range(len(carry))]
    together: list[list[int]] = []
    for i in range(len(carry)):
        group = [j for j in range(len(carry)) if j == i or (j in reach[i] and i in reach[j])]
        if group not in together:
            together.append(group)
    # A leaf needs all that is needed by what it needs, and so comes after it.
    together.sort(key=lambda group: len(reach[group[0]] | set(group)))
    return [Group(group, _kind(step, carry, next_carry, group)) for group in together]


def first_obstacle(step: Jaxpr, groups: Sequence[Group]) -> Dependence | None:
    """What keeps a step from being solved for all times at once, if anything does."""
    for eqn in step.eqns:
        if is_pinned(eqn):
            return Dependence(Kind.DENSE, eqn)
    return next((g.found for g in groups if g.found.kind > Kind.AFFINE), None)


def _leaves_needed(eqns: Sequence[Eqn], carry: Sequence[Var], new: Atom) -> set[int]:
    read = {v for e in needed(eqns, [new]) for v in reads(e)} | ({new} if is_var(new) else set())
    return {i for i, v in enumerate(carry) if v in read}


def _closure(needs: Sequence[set[int]], start: int) -> set[int]:
    reached, frontier = set(), set(needs[start])
    while frontier:
        reached |= frontier
        frontier = {k for j in frontier for k in needs[j]} - reached
    return reached


def _kind(
    step: Jaxpr, carry: Sequence[Var], next_carry: Sequence[Atom], group: Sequence[int]
) -> Dependence:
    """How a group depends on itself, all else being known."""
    env = {carry[i]: Dependence(of_leaf(carry[i])) for i in group}
    depend(step.eqns, env)
    found = [env[new] for i in group if is_var(new := next_carry[i]) and new in env]
    worst = max(found, key=lambda d: d.kind, default=Dependence(Kind.FREE))
    if worst.kind is Kind.FREE:
        return worst
    return at_least(worst, max(of_leaf(carry[i]) for i in group))
