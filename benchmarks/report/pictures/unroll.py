"""Time and compile time against the unroll factor, each relative to no unrolling."""

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from benchmarks.report import unroll
from benchmarks.report.numbers import unique
from benchmarks.report.pictures import style
from benchmarks.rows import Row

_COLUMNS = {"median_us_per_step": "run time", "compile_s": "compile time"}
_TICKS = {
    "median_us_per_step": [0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, 4, 8, 16],
    "compile_s": [2.0**n for n in range(-2, 11)],
}


def draw_unroll(rows: list[Row]) -> Figure | None:
    """A row of panels for each cell; in it run and compile time of every pass."""
    pairs = [
        (effect.value, new, old)
        for effect in unroll.effects(rows)
        if effect.factor == "unroll" and not effect.beside
        for new, old in effect.pairs
    ]
    if not pairs:
        return None
    factors = [1, *sorted({value for value, _, _ in pairs}, key=unroll.rank)]
    cells = unique(new["shape"]["cell"] for _, new, _ in pairs)
    passes = unique(new["pass"] for _, new, _ in pairs)
    shapes = unique(_shape(new) for _, new, _ in pairs)
    panels = [(column, name) for column in _COLUMNS for name in passes]
    made = style.figure(
        2.9 * len(panels) + 0.6,
        2.3 * len(cells) + 1.3,
        f"What unrolling scan() does: {rows[0]['device']}, {rows[0]['cores']} cores,"
        f" JAX {rows[0]['jax']}",
    )
    grid = made.subplots(len(cells), len(panels), squeeze=False, sharex=True)
    for cell, line in zip(cells, grid, strict=True):
        for (column, name), axes in zip(panels, line, strict=True):
            mine = [p for p in pairs if (p[1]["shape"]["cell"], p[1]["pass"]) == (cell, name)]
            _panel(axes, mine, column, factors, shapes)
            axes.set_ylim(*_limits(pairs, column))
            axes.set_title(f"{cell}, {name}: {_COLUMNS[column]}", loc="left", fontsize=9)
    for axes in grid[-1]:
        axes.set_xlabel("unroll", fontsize=9)
    for axes in grid[:, 0]:
        axes.set_ylabel("relative to unroll=1", fontsize=9)
    style.legend(made)
    return made


def _panel(axes, pairs, column: str, factors: list, shapes: list[str]) -> None:
    axes.axhline(1, color="black", linewidth=1)
    for number, shape in enumerate(shapes):
        mine = [
            (factors.index(value), new[column] / old[column])
            for value, new, old in pairs
            if _shape(new) == shape and new.get(column) and old.get(column)
        ]
        if mine:
            axes.plot(*zip((0, 1.0), *sorted(mine), strict=True), label=shape, **style.line(number))
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(FixedLocator(_TICKS[column]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks(range(len(factors)), map(str, factors))
    style.plain(axes)


def _limits(pairs, column: str) -> tuple[float, float]:
    """The same for every panel of a kind."""
    seen = [
        new[column] / old[column] for _, new, old in pairs if new.get(column) and old.get(column)
    ]
    return 0.9 * min([0.9, *seen]), 1.1 * max([1.1, *seen])


def _shape(row: Row) -> str:
    shape = row["shape"]
    return f"B={shape['batch']} T={shape['length']} H={shape['features']}"
