"""A suite's part of a report: its words, its table and its picture."""

from collections.abc import Callable
from typing import NamedTuple

from matplotlib.figure import Figure

from benchmarks.report import peers, scaling, tables, unroll, words
from benchmarks.report.numbers import unique
from benchmarks.report.pictures import (
    draw_choice,
    draw_peers,
    draw_ratios,
    draw_scaling,
    draw_unroll,
)
from benchmarks.rows import Row
from benchmarks.suites import SUITES


class Section(NamedTuple):
    words: Callable[[list[Row]], list[str]]
    table: Callable[[list[Row]], str] = tables.table
    draw: Callable[[list[Row]], Figure | None] = draw_ratios  # None: nothing was timed


# In this order; a suite that is not here is one of methods.
SECTIONS = {
    "peers": Section(peers.words, tables.peer_table, draw_peers),
    "unroll": Section(unroll.words, tables.unroll_table, draw_unroll),
    "methods": Section(words.of_methods),
    "scaling": Section(scaling.words, draw=draw_scaling),
    "choice": Section(words.of_choices, tables.choice_table, draw_choice),
    "bidirectional": Section(words.of_directions),
    "sweep": Section(words.of_sweeps, tables.sweep_table),
}


def of(suite: str) -> Section:
    return SECTIONS.get(suite, SECTIONS["methods"])


def by_suite(rows: list[Row]) -> dict[str, list[Row]]:
    present = unique(row["suite"] for row in rows)
    names = [*(n for n in SECTIONS if n in present), *(n for n in present if n not in SECTIONS)]
    return {name: [row for row in rows if row["suite"] == name] for name in names}


def heading(suite: str) -> str:
    return f"{suite}: {SUITES[suite].asks}" if suite in SUITES else suite


def said(rows: list[Row]) -> dict[str, list[str]]:
    """What every suite concludes, and whom it did not time."""
    return {
        suite: [*of(suite).words(mine), *words.of_failures(mine)]
        for suite, mine in by_suite(rows).items()
    }
