"""Rows, and what can be computed from them. A row is a plain dictionary, one JSON object a line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

Row = dict[str, Any]


def save(directory: Path, suite: str, rows: list[Row], cases: list[str]) -> None:
    """Writes rows to a suite's file in the order of `cases`; forgets what is not among them.

    A case measured anew is replaced as a whole, all its methods: its ratios belong to one run.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{suite}.jsonl"
    anew = {row["case"] for row in rows}
    old = [row for row in _read(path) if row["case"] not in anew] if path.exists() else []
    known = sorted(
        (r for r in [*old, *rows] if r["case"] in cases), key=lambda r: cases.index(r["case"])
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in known))


def load(directory: Path, suites: list[str]) -> list[Row]:
    files = [directory / f"{name}.jsonl" for name in suites]
    return [row for path in files if path.exists() for row in _read(path)]


def _read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def memory_ratio(row: Row, lax: Row) -> float | None:
    """How many times less temporary memory than `lax`; nothing is claimed of a wrong result."""
    if row["reason"] or not row["temp_bytes"] or not lax["temp_bytes"]:
        return None
    return lax["temp_bytes"] / row["temp_bytes"]


class Chosen(NamedTuple):
    """What `auto` chose for a case and pass, among the options that were measured."""

    case: str
    method: str
    ratio: float  # to lax
    ratios: dict[str, float]  # of every option

    @property
    def best(self) -> str:
        return max(self.ratios, key=self.ratios.__getitem__)

    @property
    def share(self) -> float:
        """Its speed as a share of the best option's."""
        return self.ratio / self.ratios[self.best]


def choices(rows: list[Row]) -> Iterator[Chosen]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(f"{row['case']} {row['pass']}", []).append(row)
    for case, group in groups.items():
        ratios = {row["method"]: row["ratio"] for row in group if row["ratio"] is not None}
        chosen = group[0]["chosen"]
        if chosen in ratios:
            yield Chosen(case, chosen, ratios[chosen], ratios)
