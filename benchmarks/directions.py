"""Both directions of time: in two plain scans, two runs, one loop, or as `bidirectional` chooses."""

from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp

from benchmarks.cases import Case
from benchmarks.contenders import LAX, Contender, Field, with_lax
from jaxrnn import Cell, Layer, around, cells, methods
from jaxrnn.around.bidirectional import BidirectionalCarry, together
from jaxrnn.core import lift, problem_of
from jaxrnn.methods import Method

TWO_RUNS, ONE_LOOP = "two runs", "one loop"


@dataclass(frozen=True)
class BothWays(Case):
    """A cell in both directions, the outputs side by side."""

    @property
    def name(self) -> str:
        return f"bidirectional {super().name}"

    def make_cell(self) -> Layer:
        return around.bidirectional(self.make_inner())

    def make_inner(self) -> Cell:
        return getattr(cells, self.cell)(self.features)


# As many steps as make a call much longer than its dispatch, and a case a matter of seconds.
_LENGTHS = {1: 512, 8: 128, 32: 64}
CASES = [
    BothWays(cell, b, t, h)
    for cell in ("lstm", "gru")
    for b, t in _LENGTHS.items()
    for h in (64, 256)
]


def field(case: Case, given: list[Method]) -> Field:
    """Two plain scans, what `bidirectional` does under each method, and both ways by name."""
    assert isinstance(case, BothWays)
    cell, layer = case.make_inner(), case.make_cell()
    apart, joint = replace(layer, run=_apart(cell)), replace(layer, run=_joint(cell))
    made: Field = {name: Contender(case, method) for name, method in with_lax(given).items()}
    made[LAX] = Contender(case, methods.lax(), layer=apart)
    made[TWO_RUNS] = Contender(case, methods.auto(), layer=apart)
    made[ONE_LOOP] = Contender(case, methods.auto(), layer=joint)
    return made


def _apart(cell: Cell) -> Any:
    def run(params, xs, carry, *, reverse, **options):
        directions = zip(params, carry, (reverse, not reverse), strict=True)
        return _side_by_side(
            [lift(cell).run(p, xs, c, reverse=r, **options) for p, c, r in directions]
        )

    return run


def _side_by_side(ran: list[tuple[Any, Any]]) -> tuple[Any, Any]:
    carries, ys = zip(*ran, strict=True)
    return BidirectionalCarry(*carries), jnp.concatenate(ys, axis=-1)


def _joint(cell: Cell) -> Any:
    def run(params, xs, carry, *, valid, resets, keys, reverse, method):
        problems = [
            problem_of(cell, p, xs, c, valid, resets, keys, r)
            for p, c, r in zip(params, carry, (reverse, not reverse), strict=True)
        ]
        return _side_by_side(together(problems, method))

    return run
