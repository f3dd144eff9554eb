"""Rows as Markdown tables."""

from collections.abc import Iterable

from benchmarks.contenders import LAX, OURS
from benchmarks.report import peers, unroll
from benchmarks.report.numbers import number, spread, timed, times, unique
from benchmarks.rows import Row, choices, memory_ratio

_HEAD = (
    *("case", "pass", "method", "µs a step", "times lax", "of the fastest"),
    *("temporary MiB", "times less", "compile s", "code", "GFLOP/s", "roofline", "error"),
)


def table(rows: list[Row]) -> str:
    """One line for each case, pass and method."""
    base = {(row["case"], row["pass"]): row for row in rows if row["method"] == LAX}
    lines = []
    for row in rows:
        start = [row["case"], row["pass"], row["method"]]
        if not timed(row):
            lines.append([*start, f"**{row['reason'] or 'not timed'}**", *[""] * (len(_HEAD) - 4)])
            continue
        lax = base.get((row["case"], row["pass"]))
        less = memory_ratio(row, lax) if lax else None
        lines.append(
            [
                *start,
                spread(*(number(row[f"{q}_us_per_step"]) for q in ("median", "p25", "p75"))),
                _ratio(row),
                f"{row['ratio_fastest']:.2f}" if row["ratio_fastest"] else "",
                number((row.get("temp_bytes") or 0) / 2**20),
                f"{less:.2g}" if less else "",
                _given(row.get("compile_s"), ".1f"),
                _given(row.get("instructions"), ",d"),
                number(row.get("gflops")),
                _given(row.get("roofline"), ".0%"),
                _given(row.get("error"), ".0e"),
            ]
        )
    return markdown(_HEAD, lines)


def peer_table(rows: list[Row]) -> str:
    """One line for each case and pass: µs a step, and how many times faster we are."""
    # Who ran nothing has no column: the words say why.
    methods = [OURS, *unique(r["method"] for r in rows if r["method"] != OURS and timed(r))]
    matched = {(*m.place, m.peer["method"]): m for m in peers.matches(rows)}
    strongest = {m.place: m for m in peers.best_jax(list(matched.values()))}
    found = {(r["case"], r["pass"], r["method"]): r for r in rows}
    lines = []
    for place in unique((r["case"], r["pass"]) for r in rows):
        cells = []
        for method in methods:
            row, match = found.get((*place, method)), matched.get((*place, method))
            time = number(row["median_us_per_step"]) if row and timed(row) else _absence(row)
            cells.append(f"{time} ({marked(match)})" if match else time)
        best = strongest.get(place)
        lines.append([*place, *cells, f"{best.peer['method']} {marked(best)}" if best else ""])
    how = (
        "Microseconds a step, and in brackets how many times faster we are: bold where ahead, with"
        " an arrow where behind, plain where the quartiles touch."
    )
    return f"{how}\n\n{markdown(['case', 'pass', *methods, 'best JAX library'], lines)}"


def marked(match: peers.Match) -> str:
    text = times(match.ratio)
    return {1: f"**{text}**", 0: text, -1: f"{text} ↓"}[match.order]


def _absence(row: Row | None) -> str:
    if row is None:
        return ""
    kind = (row["reason"] or "not timed").partition(":")[0]
    return "wrong" if kind.startswith("relative error") else kind


def unroll_table(rows: list[Row]) -> str:
    """What every setting does over all cases, then every row."""
    lines = []
    for effect in unroll.effects(rows):
        found = unroll.rule(effect)
        costs = [effect.relative(c) for c in ("compile_s", "instructions", "temp_bytes")]
        counts = [len(effect.pairs), len(effect.faster), len(effect.slower)]
        lines.append(
            [
                *(effect.setting, effect.name, f"{effect.time:.2f}", *map(str, counts)),
                *(_given(cost, ".2f") for cost in costs),
                *(str(found), "; ".join(found.fails)),
            ]
        )
    head = (
        *("changed", "pass", "time", "cases", "faster in", "slower in", "compiling", "code"),
        *("memory", "rule", "fails (times faster)"),
    )
    how = "Time, compile time, instructions and temporary memory are relative to the same without."
    effects = f"{how}\n\n{markdown(head, lines)}\n\n" if lines else ""
    return f"{effects}{table(rows)}"


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
    return markdown(["case", *options, "auto chose", "share of the best"], lines)


def sweep_table(rows: list[Row]) -> str:
    """One line for each case: every way's ratio to one setting after another, the chosen one's first."""
    ways = unique(row["method"] for row in rows if row["how"])
    lines = []
    for case in unique(row["case"] for row in rows):
        mine = {row["method"]: row for row in rows if row["case"] == case}
        cells = ["" if way not in mine else _way(mine[way]) for way in ways]
        alone = next((row for row in mine.values() if row["how"] is None), None)
        time = number(alone["median_us_per_step"]) if alone else ""
        error = max(
            (row["error"] for row in mine.values() if row["error"] is not None), default=None
        )
        how = mine[ways[0]]["how"] if ways and ways[0] in mine else ""
        lines.append([case, time, *cells, how, _given(error, ".0e")])
    head = ["case", "µs a step, alone", *ways, f"how it was {ways[0] if ways else 'done'}"]
    return markdown([*head, "largest error"], lines)


def _way(row: Row) -> str:
    return f"**{row['reason']}**" if row["reason"] else _ratio(row)


def _ratio(row: Row) -> str:
    ratios = [row.get(q) for q in ("ratio", "ratio_p25", "ratio_p75")]
    return "" if None in ratios else spread(*(f"{ratio:.2f}" for ratio in ratios))


def _given(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def markdown(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """A table without the columns that nobody fills."""
    texts = [[" ".join(text.split()).replace("|", "\\|") for text in line] for line in lines]
    columns = [c for c in zip(head, *texts, strict=True) if not texts or any(c[1:])]
    head, *texts = zip(*columns, strict=True)
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *texts])
