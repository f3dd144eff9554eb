"""Rows as a page: first what they say in words, losses included, then the tables they say it of."""

from statistics import median
from typing import NamedTuple

from benchmarks.cases import MEMORY_TARGETS, SPEED_TARGETS
from benchmarks.contenders import AUTO, LAX
from benchmarks.directions import ONE_LOOP, TWO_RUNS
from benchmarks.rows import Row, choices, memory_ratio
from benchmarks.suites import SUITES
from benchmarks.sweeps import CHOSEN
from benchmarks.sweeps import TARGETS as SWEEP_TARGETS
from benchmarks.tables import choice_table, sweep_table, table

_HOW_TO_READ = (
    "Times are medians (and quartiles) of interleaved rounds. A ratio is taken within a round and"
    " is above 1 where the method is faster than `lax.scan` over the same cell; ahead or behind"
    " means that three quarters of the rounds say so. The error is the largest ‖a − b‖/‖b‖ of an"
    " output or a gradient against float64."
)
_IF_BUSY = (
    "where the ratio of rounds and the ratio of the fastest rounds disagree, believe neither and"
    " measure again."
)
_TABLES = {"choice": choice_table, "sweep": sweep_table}
BUSY = 0.1  # of the cores used by others
CLOSE = 0.95  # of the best option's speed: a choice this good was right


def page(rows: list[Row], picture: str | None) -> str:
    first = rows[0]
    parts = [
        f"# {first['device']}, {first['cores']} cores, JAX {first['jax']}",
        "\n".join(f"- {sentence}" for sentence in conclusion(rows)),
        _circumstances(rows),
    ]
    if picture:
        parts.append(f"![How many times faster than lax.scan]({picture})")
    for name, suite in SUITES.items():
        if mine := [r for r in rows if r["suite"] == name]:
            parts += [
                f"## {name}: {suite.asks}",
                _TABLES.get(name, table)(mine),
            ]
    return "\n\n".join(parts) + "\n"


def conclusion(rows: list[Row]) -> list[str]:
    return [
        *_verdict(f"speed of the gradient under `{AUTO}`", speed_results(rows)),
        *_verdict("temporary memory of the gradient", memory_results(rows)),
        *_comparison([r for r in rows if r["suite"] in ("speed", "cells") and r["method"] == AUTO]),
        *_verdict("sweeps against one setting after another", sweep_results(rows)),
        *_directions([r for r in rows if r["suite"] == "bidirectional"]),
        *_choices([r for r in rows if r["suite"] == "choice"]),
        *_failures(rows),
    ]


class Result(NamedTuple):
    case: str
    ratio: float  # measured; 0 where nothing may be claimed
    least: float  # wanted

    @property
    def met(self) -> bool:
        return self.ratio >= self.least

    def __str__(self) -> str:
        return f"{self.case} {self.ratio:.2f}x (wanted {self.least:g}x)"


def speed_results(rows: list[Row]) -> list[Result]:
    return [
        Result(row["case"], row["ratio"] or 0.0, SPEED_TARGETS[row["case"]])
        for row in rows
        if row["suite"] == "speed" and row["method"] == AUTO and row["pass"] == "gradient"
        if row["case"] in SPEED_TARGETS
    ]


def memory_results(rows: list[Row]) -> list[Result]:
    found = {(row["case"], row["method"]): row for row in rows if row["suite"] == "memory"}
    return [
        Result(f"{case} {method}", memory_ratio(found[case, method], found[case, LAX]) or 0, least)
        for (case, method), least in MEMORY_TARGETS.items()
        if (case, method) in found and (case, LAX) in found
    ]


def sweep_results(rows: list[Row]) -> list[Result]:
    return [
        Result(row["case"], row["ratio"] or 0.0, SWEEP_TARGETS[row["case"]])
        for row in rows
        if row["suite"] == "sweep" and row["method"] == CHOSEN and row["case"] in SWEEP_TARGETS
    ]


def _verdict(what: str, results: list[Result]) -> list[str]:
    if not results:
        return []
    met, missed = [r for r in results if r.met], [r for r in results if not r.met]
    gains, holds = [r for r in met if r.least > 1], [r for r in met if r.least <= 1]
    told = [str(r) for r in gains]
    if holds:  # the many cases that only must not lose are told by the worst of them
        told.append(f"in {len(holds)} more, at the least {min(holds, key=lambda r: r.ratio)}")
    sentences = [f"Targets, {what}: {len(met)} of {len(results)} met{_listed(told)}"]
    if missed:
        sentences.append(f"**Missed**, {what}{_listed([str(r) for r in missed])}")
    return sentences


def _comparison(rows: list[Row], over: str = "cases") -> list[str]:
    rows = [r for r in rows if r["ratio"] is not None]
    if not rows:
        return []
    ahead = [r for r in rows if r["ratio_p25"] > 1]
    behind = [r for r in rows if r["ratio_p75"] < 1]
    told = [f"{r['case']} {r['pass']} {r['ratio']:.2f}x" for r in behind]
    return [
        f"`{AUTO}` against `lax.scan` over {over} and both passes: ahead in {len(ahead)} of"
        f" {len(rows)}, level in {len(rows) - len(ahead) - len(behind)},"
        f" behind in {len(behind)}{_listed(told)}"
    ]


def _directions(rows: list[Row]) -> list[str]:
    """What `bidirectional` does against two plain scans, and one loop against two runs.

    Of the latter those are apart whose quartiles are, both taken against `lax`.
    """
    found = {(r["case"], r["pass"], r["method"]): r for r in rows if r["ratio"] is not None}
    pairs = [
        (one, found[case, name, TWO_RUNS])
        for (case, name, method), one in found.items()
        if method == ONE_LOOP and (case, name, TWO_RUNS) in found
    ]
    if not pairs:
        return []
    ahead = [pair for pair in pairs if pair[0]["ratio_p25"] > pair[1]["ratio_p75"]]
    behind = [pair for pair in pairs if pair[0]["ratio_p75"] < pair[1]["ratio_p25"]]
    told = [f"{o['case']} {o['pass']} {o['ratio'] / t['ratio']:.2f}x" for o, t in behind]
    return [
        *_comparison([r for r in rows if r["method"] == AUTO], "both directions of time"),
        f"Both directions in {ONE_LOOP} against {TWO_RUNS}: ahead in {len(ahead)} of {len(pairs)},"
        f" level in {len(pairs) - len(ahead) - len(behind)},"
        f" behind in {len(behind)}{_listed(told)}",
    ]


def _choices(rows: list[Row]) -> list[str]:
    measured = list(choices(rows))
    if not measured:
        return []
    wrong = sorted((c for c in measured if c.share < CLOSE), key=lambda c: c.share)
    told = [
        f"{c.case} {c.method} {c.ratio:.2f}x, {c.best} {c.ratios[c.best]:.2f}x" for c in wrong[:10]
    ]
    slow = [f"{c.case} {c.method} {c.ratio:.2f}x" for c in measured if c.ratio < CLOSE]
    return [
        f"What `{AUTO}` chooses reaches {CLOSE:.0%} of the best option's speed in"
        f" {len(measured) - len(wrong)} of {len(measured)}; furthest from it{_listed(told)}",
        f"What `{AUTO}` chooses is slower than {CLOSE:g}x `lax` in {len(slow)}{_listed(slow)}",
    ]


def _failures(rows: list[Row]) -> list[str]:
    failed = {(r["case"], r["method"], r["reason"]) for r in rows if r["reason"]}
    told = [f"{case} under {method}: {reason}" for case, method, reason in sorted(failed)]
    return [f"**Not timed**{_listed(told)}"] if failed else []


def _listed(told: list[str]) -> str:
    return f": {'; '.join(told)}." if told else "."


def _circumstances(rows: list[Row]) -> str:
    shares = [r["others"] for r in rows if r["others"] is not None]
    busy = "."
    if shares:
        busy = (
            f"; others used {median(shares):.0%} of the cores meanwhile (median; at most"
            f" {max(shares):.0%})."
        )
        if median(shares) > BUSY:
            busy += f" **That is much**: {_IF_BUSY}"
    days = sorted({r["date"][:10] for r in rows})
    commits = ", ".join(sorted({r["commit"] for r in rows}))
    return (
        f"jaxrnn {rows[0]['jaxrnn']} at {commits}, Python {rows[0]['python']},"
        f" {' to '.join(dict.fromkeys((days[0], days[-1])))}{busy} {_HOW_TO_READ}"
    )
