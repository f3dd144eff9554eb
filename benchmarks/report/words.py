"""What rows of methods, directions, choices and sweeps say in words, losses included."""

import re
from typing import NamedTuple

from benchmarks import cases
from benchmarks.contenders import AUTO, LAX
from benchmarks.directions import ONE_LOOP, TWO_RUNS
from benchmarks.report.numbers import geomean, listed, times, unique
from benchmarks.rows import Row, choices, memory_ratio
from benchmarks.sweeps import CHOSEN
from benchmarks.sweeps import TARGETS as SWEEP_TARGETS

CLOSE = 0.95  # of the best option's speed: a choice this good was right
LONG = 1024  # steps: here memory is what a method is chosen for


class Result(NamedTuple):
    case: str
    ratio: float  # measured; 0 where nothing may be claimed
    least: float  # wanted

    @property
    def met(self) -> bool:
        return self.ratio >= self.least

    def __str__(self) -> str:
        return f"{self.case} {self.ratio:.2f}x (wanted {self.least:g}x)"


def of_methods(rows: list[Row]) -> list[str]:
    return [
        *_comparison([row for row in rows if row["method"] == AUTO]),
        *_means(rows),
        *_verdict("temporary memory of the gradient", memory_results(rows)),
        *_memory(rows),
    ]


def of_sweeps(rows: list[Row]) -> list[str]:
    results = [
        Result(row["case"], row["ratio"] or 0.0, SWEEP_TARGETS[row["case"]])
        for row in rows
        if row["method"] == CHOSEN and row["case"] in SWEEP_TARGETS
    ]
    return _verdict("sweeps against one setting after another", results)


def memory_results(rows: list[Row]) -> list[Result]:
    found = {(r["case"], r["method"]): r for r in rows if r["pass"] == "gradient"}
    return [
        Result(f"{case} {method}", memory_ratio(found[case, method], found[case, LAX]) or 0, least)
        for (case, method), least in cases.MEMORY_TARGETS.items()
        if (case, method) in found and (case, LAX) in found
    ]


def _verdict(what: str, results: list[Result]) -> list[str]:
    if not results:
        return []
    met, missed = [r for r in results if r.met], [r for r in results if not r.met]
    gains, holds = [r for r in met if r.least > 1], [r for r in met if r.least <= 1]
    told = [str(r) for r in gains]
    if holds:  # the many cases that only must not lose are told by the worst of them
        told.append(f"in {len(holds)} more, at the least {min(holds, key=lambda r: r.ratio)}")
    sentences = [f"Targets, {what}: {len(met)} of {len(results)} met{listed(told)}"]
    if missed:
        sentences.append(f"**Missed**, {what}{listed([str(r) for r in missed])}")
    return sentences


def _comparison(rows: list[Row], over: str = "cases") -> list[str]:
    rows = [r for r in rows if r["ratio"] is not None]
    if not rows:
        return []
    ahead = [r for r in rows if r["ratio_p25"] > 1]
    behind = [r for r in rows if r["ratio_p75"] < 1]
    told = [f"{r['case']} {r['pass']} {times(r['ratio'])}" for r in behind]
    return [
        f"`{AUTO}` against `lax.scan` over {over} and their passes: ahead in {len(ahead)} of"
        f" {len(rows)}, level in {len(rows) - len(ahead) - len(behind)},"
        f" behind in {len(behind)}{listed(told)}"
    ]


def _means(rows: list[Row]) -> list[str]:
    """Every method over all cases; only over those that all can run would methods compare."""
    told = []
    for method in unique(r["method"] for r in rows if r["method"] != LAX):
        mine = [r for r in rows if r["method"] == method and r["ratio"]]
        means = [
            f"{name} {times(geomean(r['ratio'] for r in mine if r['pass'] == name))}"
            f" of {sum(r['pass'] == name for r in mine)}"
            for name in unique(r["pass"] for r in mine)
        ]
        if means:
            told.append(f"`{method}` {', '.join(means)}")
    return [f"Times faster than `lax.scan`, geometric means{listed(told)}"] if told else []


def _memory(rows: list[Row]) -> list[str]:
    """What recomputing saves where sequences are long, and what it costs."""
    base = {r["case"]: r for r in rows if r["method"] == LAX and r["pass"] == "gradient"}
    told = []
    for row in rows:
        lax = base.get(row["case"])
        long = row["shape"]["length"] >= LONG and row["pass"] == "gradient"
        if lax is None or not long or "remat=True" not in row["method"]:
            continue
        less = memory_ratio(row, lax)
        if less and row["ratio"]:
            told.append(
                f"{row['case']} `{row['method']}` {less:.2g}x less, at {times(row['ratio'])} the speed"
            )
    return [f"Temporary memory of long gradients against `lax.scan`{listed(told)}"] if told else []


def of_directions(rows: list[Row]) -> list[str]:
    """What `bidirectional` does against two plain scans, and one loop against two runs.

    Of the latter those are apart whose quartiles are, both taken against `lax`.
    """
    found = {(r["case"], r["pass"], r["method"]): r for r in rows if r["ratio"] is not None}
    pairs = [
        (one, found[case, name, TWO_RUNS])
        for (case, name, method), one in found.items()
        if method == ONE_LOOP and (case, name, TWO_RUNS) in found
    ]
    against_lax = _comparison([r for r in rows if r["method"] == AUTO], "both directions of time")
    if not pairs:
        return against_lax
    ahead = [pair for pair in pairs if pair[0]["ratio_p25"] > pair[1]["ratio_p75"]]
    behind = [pair for pair in pairs if pair[0]["ratio_p75"] < pair[1]["ratio_p25"]]
    told = [f"{o['case']} {o['pass']} {o['ratio'] / t['ratio']:.2f}x" for o, t in behind]
    return [
        *against_lax,
        f"Both directions in {ONE_LOOP} against {TWO_RUNS}: ahead in {len(ahead)} of {len(pairs)},"
        f" level in {len(pairs) - len(ahead) - len(behind)},"
        f" behind in {len(behind)}{listed(told)}",
    ]


def of_choices(rows: list[Row]) -> list[str]:
    measured = list(choices(rows))
    if not measured:
        return []
    wrong = sorted((c for c in measured if c.share < CLOSE), key=lambda c: c.share)
    told = [
        f"{c.case} {c.method} {c.ratio:.2f}x, {c.best} {c.ratios[c.best]:.2f}x" for c in wrong[:10]
    ]
    slow = [f"{c.case} {c.method} {c.ratio:.2f}x" for c in measured if c.ratio < CLOSE]
    furthest = f"; furthest from it{listed(told)}" if told else "."
    return [
        f"What `{AUTO}` chooses reaches {CLOSE:.0%} of the best option's speed in"
        f" {len(measured) - len(wrong)} of {len(measured)}{furthest}",
        f"What `{AUTO}` chooses is slower than {CLOSE:g}x `lax` in {len(slow)}{listed(slow)}",
    ]


def of_failures(rows: list[Row]) -> list[str]:
    """Who was not timed, and why: once for each reason, whatever numbers and method it has in it."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row.get("reason"):
            general = row["reason"].replace(row["method"], "it")
            kind = re.sub(r"\d[\d.e+-]*", "", general)
            found.setdefault(kind, []).append(row | {"reason": general})
    told = []
    for mine in found.values():
        names, who = (unique(row[part] for row in mine) for part in ("case", "method"))
        reason = " ".join(mine[0]["reason"].split()).rstrip(".")
        more = f" (and in {len(names) - 1} more)" if len(names) > 1 else ""
        told.append(f"{names[0]}{more} under {', '.join(who)}: {reason}")
    return [f"**Not timed**{listed(told)}"] if told else []
