"""Rows, and what can be computed from them. A row is a plain dictionary, one JSON object a line."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

Row = dict[str, Any]
# Of these columns a resumed run must agree with the rows that it keeps.
CIRCUMSTANCES = ("device", "cores", "python", "jax", "jaxlib", "jaxrnn", "commit")


def save(directory: Path, suite: str, rows: list[Row], cases: list[str]) -> None:
    """Writes rows to a suite's file in the order of `cases`; forgets what is not among them.

    A case measured anew is replaced as a whole, all its methods: its ratios belong to one run. The
    file is replaced at once, so that it is whole whenever the run is stopped.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{suite}.jsonl"
    anew = {row["case"] for row in rows}
    old = [row for row in read(path) if row["case"] not in anew]
    known = sorted(
        (r for r in [*old, *rows] if r["case"] in cases), key=lambda r: cases.index(r["case"])
    )
    new = path.with_suffix(".new")
    new.write_text("".join(json.dumps(row) + "\n" for row in known))
    os.replace(new, path)


def load(directory: Path, suites: list[str]) -> list[Row]:
    return [row for name in suites for row in read(directory / f"{name}.jsonl")]


def read(path: Path) -> list[Row]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def measured(directory: Path, suite: str, circumstances: Row) -> set[str]:
    """The cases that need not be measured again: the same machine, versions and commit did."""
    same = {key: circumstances[key] for key in CIRCUMSTANCES}
    found = read(directory / f"{suite}.jsonl")
    return {row["case"] for row in found if all(row.get(k) == v for k, v in same.items())}


def faster(one: Row, other: Row) -> bool:
    """Beyond doubt: the one's 75th percentile beats the other's 25th."""
    return one["p75_us_per_step"] < other["p25_us_per_step"]


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
        for row in group:
            if row.get("because") and row["method"] in ratios:
                yield Chosen(case, row["method"], ratios[row["method"]], ratios)
