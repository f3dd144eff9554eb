"""What unrolling, hoisting, deferring, chunks and XLA's knobs change: one of them at a time."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from benchmarks.report.numbers import geomean, listed, number, order, timed, times, unique
from benchmarks.rows import Row

FULL = "full"
# What is varied, and the value that changes nothing.
DEFAULTS: dict[str, Any] = {
    "unroll": 1,
    "hoist": True,
    "defer": True,
    "chunk": None,
    "remat": False,
    "feature_major": False,
    "knob": "none",
}


def settings(row: Row) -> dict[str, Any]:
    found = {name: row.get(name, plain) for name, plain in DEFAULTS.items()}
    if found["unroll"] is True:
        found["unroll"] = FULL
    return found


def family(row: Row) -> str:
    """Of `scan(unroll=4)`, `scan`."""
    return re.split(r"[( ]", row["method"], maxsplit=1)[0]


class Effect(NamedTuple):
    """One setting changed to one value, and nothing else: rows with it beside rows without."""

    factor: str
    value: Any
    beside: str  # whatever else is not plain
    name: str  # of the pass
    pairs: list[tuple[Row, Row]]

    @property
    def setting(self) -> str:
        return " with ".join(filter(None, (_written(self.factor, self.value), self.beside)))

    def relative(self, column: str) -> float | None:
        """The geometric mean of what the column becomes, where it is known."""
        known = [(a[column], b[column]) for a, b in self.pairs if a.get(column) and b.get(column)]
        return geomean(a / b for a, b in known) if known else None

    @property
    def time(self) -> float:
        return self.relative("median_us_per_step") or 1.0

    @property
    def faster(self) -> list[Row]:
        return [new for new, old in self.pairs if order(new, old) == 1]

    @property
    def slower(self) -> list[Row]:
        return [new for new, old in self.pairs if order(new, old) == -1]


def effects(rows: list[Row]) -> list[Effect]:
    """In the order of the settings, every setting alone before it is beside others."""
    found: dict[tuple[str, Any, str, str], list[tuple[Row, Row]]] = {}
    for factor, value, new, old in _changes([row for row in rows if timed(row)]):
        key = factor, value, _beside(new, factor), new["pass"]
        found.setdefault(key, []).append((new, old))
    made = [Effect(*key, pairs) for key, pairs in found.items()]
    factors = list(DEFAULTS)
    return sorted(made, key=lambda e: (factors.index(e.factor), e.beside, rank(e.value), e.name))


def _written(factor: str, value: Any) -> str:
    return str(value) if factor == "knob" else f"{factor}={value}"


def _beside(row: Row, factor: str) -> str:
    others = {name: value for name, value in settings(row).items() if name != factor}
    told = [_written(name, value) for name, value in others.items() if value != DEFAULTS[name]]
    return ", ".join([*([] if family(row) == "scan" else [family(row)]), *told])


def rank(value: Any) -> tuple[int, Any]:
    """Numbers, then what is no number, such as full."""
    return (0, value) if isinstance(value, int) else (1, str(value))


def _changes(rows: list[Row]) -> Iterator[tuple[str, Any, Row, Row]]:
    def key(row: Row, values: dict[str, Any]) -> tuple[Any, ...]:
        return row["case"], row["pass"], family(row), *values.values()

    known = {key(row, settings(row)): row for row in rows}
    for row in rows:
        mine = settings(row)
        for factor, plain in DEFAULTS.items():
            old = known.get(key(row, {**mine, factor: plain}))
            if mine[factor] != plain and old is not None:
                yield factor, mine[factor], row, old


class Rule(NamedTuple):
    """Where a change is faster, told by how long a step takes without it."""

    most: float | None  # µs; None where one side holds all
    short: list[bool]  # of the cases up to there: faster?
    long: list[bool]
    fails: list[str]

    @property
    def holds(self) -> bool:
        """The change is faster in most of all cases."""
        won = [*self.short, *self.long]
        return 2 * sum(won) > len(won)

    def __str__(self) -> str:
        if self.most is None:
            return f"faster in {sum(self.short)} of {len(self.short)}, however long a step takes"
        return (
            f"faster in {sum(self.short)} of {len(self.short)} where a step takes at most"
            f" {number(self.most)} µs, in {sum(self.long)} of {len(self.long)} where longer"
        )


def rule(effect: Effect) -> Rule:
    """The cut that leaves the fewest exceptions, which fail it."""
    pairs = sorted(effect.pairs, key=lambda pair: pair[1]["median_us_per_step"])
    won = [order(*pair) == 1 for pair in pairs]
    cuts = [
        (sum(w != (expected == (i < cut)) for i, w in enumerate(won)), -cut, expected)
        for cut in range(1, len(won) + 1)
        for expected in (True, False)  # faster before the cut, or after it
    ]
    _, minus, expected = min(cuts)
    cut = -minus
    fails = [
        f"{new['case']} {times(old['median_us_per_step'] / new['median_us_per_step'])}"
        for i, ((new, old), w) in enumerate(zip(pairs, won, strict=True))
        if w != (expected == (i < cut))
    ]
    most = None if cut == len(won) else pairs[cut - 1][1]["median_us_per_step"]
    return Rule(most, won[:cut], won[cut:], fails)


def words(rows: list[Row]) -> list[str]:
    made = effects(rows)
    said = []
    for factor, plain in DEFAULTS.items():
        for name in unique(e.name for e in made):
            mine = [e for e in made if e.factor == factor and e.name == name]
            if not mine:
                continue
            against = "without the knob" if factor == "knob" else f"with `{factor}={plain}`"
            said.append(
                f"{name.capitalize()}, time relative to that {against}{listed([_told(e) for e in mine])}"
            )
            if factor == "unroll":
                said += _best(rows, name)
            said += _thumb(factor, name, mine)
    return said


def _told(effect: Effect) -> str:
    costs = {"compiling": effect.relative("compile_s"), "code": effect.relative("instructions")}
    told = "".join(f", {what} {times(cost)}" for what, cost in costs.items() if cost)
    return (
        f"`{effect.setting}` {times(effect.time)} (faster in {len(effect.faster)} of"
        f" {len(effect.pairs)}, slower in {len(effect.slower)}{told})"
    )


def _thumb(factor: str, name: str, mine: list[Effect]) -> list[str]:
    alone = [e for e in mine if not e.beside] or mine
    chosen = max(alone, key=lambda e: (len(e.faster) - len(e.slower), -e.time))
    found = rule(chosen)
    if found.most is None and not found.holds:
        names = listed([new["case"] for new in chosen.faster])
        what = "XLA's knobs" if factor == "knob" else f"`{factor}`"
        return [
            f"{name.capitalize()}, rule of thumb: leave {what} alone; `{chosen.setting}`, the best of"
            f" it, is faster in {len(chosen.faster)} of {len(chosen.pairs)}{names}"
        ]
    fails = f"; it fails in {len(found.fails)}{listed(found.fails)}" if found.fails else "."
    return [f"{name.capitalize()}, rule of thumb: `{chosen.setting}` is {found}{fails}"]


def _best(rows: list[Row], name: str) -> list[str]:
    """For every cell and batch the factor with the least time, over all their shapes."""
    gains: dict[str, dict[Any, list[float]]] = {}
    alone = [e for e in effects(rows) if (e.factor, e.beside, e.name) == ("unroll", "", name)]
    for effect in alone:
        for new, old in effect.pairs:
            where = f"{new['shape']['cell']} B={new['shape']['batch']}"
            time = new["median_us_per_step"] / old["median_us_per_step"]
            gains.setdefault(where, {}).setdefault(effect.value, []).append(time)
    told = []
    for where, by_value in gains.items():
        means = {1: 1.0} | {value: geomean(found) for value, found in by_value.items()}
        least = min(means, key=means.__getitem__)
        told.append(f"{where} {least} ({times(means[least])})")
    return (
        [f"{name.capitalize()}, best `unroll` and its time relative to 1{listed(told)}"]
        if told
        else []
    )
