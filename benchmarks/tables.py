"""Rows as Markdown tables."""

from collections.abc import Iterable

from benchmarks.contenders import LAX
from benchmarks.rows import Row, choices, memory_ratio

_HEAD = (
    *("case", "pass", "method", "µs a step", "times lax", "of the fastest"),
    *("temporary MiB", "times less", "compile s", "error"),
)


def table(rows: list[Row]) -> str:
    """One line for each case, pass and method."""
    base = {(row["case"], row["pass"]): row for row in rows if row["method"] == LAX}
    lines = []
    for row in rows:
        start = [row["case"], row["pass"], row["method"]]
        if row["reason"]:
            lines.append([*start, f"**{row['reason']}**", *[""] * 6])
            continue
        lax = base.get((row["case"], row["pass"]))
        less = memory_ratio(row, lax) if lax else None
        times = [row[f"{q}_us_per_step"] for q in ("median", "p25", "p75")]
        ratios = [row[q] for q in ("ratio", "ratio_p25", "ratio_p75")]
        lines.append(
            [
                *start,
                _spread([_number(time) for time in times]),
                "" if None in ratios else _spread([f"{ratio:.2f}" for ratio in ratios]),
                f"{row['ratio_fastest']:.2f}" if row["ratio_fastest"] else "",
                _number((row["temp_bytes"] or 0) / 2**20),
                f"{less:.2g}" if less else "",
                f"{row['compile_s']:.1f}",
                f"{row['error']:.0e}",
            ]
        )
    return _markdown(_HEAD, lines)


def choice_table(rows: list[Row]) -> str:
    """One line for each case and pass: every option's ratio to `lax`, the chosen one's in bold."""
    measured = list(choices(rows))
    asked: dict[str, int] = {}
    for choice in measured:
        for method in choice.ratios:
            asked[method] = asked.get(method, 0) + 1
    # What `auto` made up for one case only, such as chunk=27, has its own column.
    options = [m for m, count in asked.items() if m != LAX and count == len(measured)]
    lines = []
    for choice in measured:
        cells = [
            f"**{choice.ratios[m]:.2f}**" if m == choice.method else f"{choice.ratios[m]:.2f}"
            for m in options
        ]
        own = f"{choice.method} {choice.ratio:.2f}"
        lines.append([choice.case, *cells, own, f"{choice.share:.2f}"])
    return _markdown(["case", *options, "auto chose", "share of the best"], lines)


def sweep_table(rows: list[Row]) -> str:
    """One line for each case: every way's ratio to one setting after another, the chosen one's first."""
    ways = list(dict.fromkeys(row["method"] for row in rows if row["how"]))
    lines = []
    for case in dict.fromkeys(row["case"] for row in rows):
        mine = {row["method"]: row for row in rows if row["case"] == case}
        cells = ["" if way not in mine else _way(mine[way]) for way in ways]
        alone = next(row for row in mine.values() if row["how"] is None)
        time = _number(alone["median_us_per_step"])
        error = max(row["error"] for row in mine.values())
        lines.append([case, time, *cells, mine[ways[0]]["how"], f"{error:.0e}"])
    head = ["case", "µs a step, alone", *ways, f"how it was {ways[0]}", "largest error"]
    return _markdown(head, lines)


def _way(row: Row) -> str:
    if row["reason"]:
        return f"**{row['reason']}**"
    return _spread([f"{row[q]:.2f}" for q in ("ratio", "ratio_p25", "ratio_p75")])


def _spread(shown: list[str]) -> str:
    middle, low, high = shown
    return f"{middle} ({low} to {high})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _markdown(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    head = list(head)
    rule = ["---"] * len(head)
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *lines])
