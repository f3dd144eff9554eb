"""Two runs of the same cases: which changes are real, and whether they order contenders alike."""

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

from benchmarks.rows import Row, faster

Place = tuple[str, str, str]  # suite, case, pass


class Change(NamedTuple):
    """A contender's time in two runs; real if the quartiles are apart."""

    place: Place
    method: str
    before: Row
    after: Row

    @property
    def ratio(self) -> float:
        """Above 1 if it became slower."""
        return self.after["median_us_per_step"] / self.before["median_us_per_step"]

    @property
    def real(self) -> bool:
        return faster(self.before, self.after) or faster(self.after, self.before)

    def __str__(self) -> str:
        old, new = (row["median_us_per_step"] for row in (self.before, self.after))
        way = "slower" if self.ratio > 1 else "faster"
        times = max(self.ratio, 1 / self.ratio)
        return f"{_told(self.place)} {self.method}: {old:.4g} to {new:.4g} µs a step, {times:.2f}x {way}"


class Contradiction(NamedTuple):
    """Two contenders whose order is beyond doubt in either run, and not the same."""

    place: Place
    first: str  # the faster one at first
    second: str

    def __str__(self) -> str:
        return f"{_told(self.place)}: {self.first} beats {self.second}, then is beaten by it"


def changes(before: list[Row], after: list[Row]) -> list[Change]:
    """Of everything that was timed in both."""
    old, new = _timed(before), _timed(after)
    return [
        Change(place, method, row, new[place][method])
        for place, rows in old.items()
        for method, row in rows.items()
        if method in new.get(place, {})
    ]


def orderings(before: list[Row], after: list[Row]) -> tuple[int, list[Contradiction]]:
    """How many pairs the first run puts in an order, and which of them the second reverses."""
    old, new = _timed(before), _timed(after)
    ordered = list(_ordered(old, new))
    return len(ordered), [
        Contradiction(place, first, second)
        for place, first, second in ordered
        if faster(new[place][second], new[place][first])
    ]


def told(before: list[Row], after: list[Row]) -> list[str]:
    """What the comparison finds, in lines."""
    found = changes(before, after)
    real = sorted((change for change in found if change.real), key=lambda change: change.ratio)
    pairs, against = orderings(before, after)
    return [
        f"{len(found)} timed in both; {len(real)} changed by more than their spread:",
        *(f"  {change}" for change in real),
        f"{pairs} orderings of two contenders whose quartiles are apart in the first run,"
        f" {len(against)} of them reversed in the second:",
        *(f"  {contradiction}" for contradiction in against),
    ]


def _timed(rows: list[Row]) -> dict[Place, dict[str, Row]]:
    found: dict[Place, dict[str, Row]] = {}
    for row in rows:
        if row["median_us_per_step"] is not None:
            place = row["suite"], row["case"], row["pass"]
            found.setdefault(place, {})[row["method"]] = row
    return found


def _ordered(
    old: dict[Place, dict[str, Row]], new: dict[Place, dict[str, Row]]
) -> Iterator[tuple[Place, str, str]]:
    for place in old.keys() & new.keys():
        shared = sorted(old[place].keys() & new[place].keys())
        for a, b in combinations(shared, 2):
            for first, second in ((a, b), (b, a)):
                if faster(old[place][first], old[place][second]):
                    yield place, first, second


def _told(place: Place) -> str:
    return " ".join(place)
