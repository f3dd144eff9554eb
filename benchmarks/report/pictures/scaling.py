"""Time against every axis of a shape, and memory against T, in logarithmic scales."""

from collections.abc import Callable

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from benchmarks.report import scaling
from benchmarks.report.numbers import unique
from benchmarks.report.pictures import style
from benchmarks.report.scaling import Curve
from benchmarks.rows import Row

_LABELS = {
    "T": "steps T",
    "B": "batch B",
    "H": "features H",
    "layers": "layers",
    "devices": "devices",
}
_WIDE = 4  # panels side by side
_DASHES = ["-", "--", ":", "-."]
_KINDS = ["solid", "dashed", "dotted", "dash-dotted"]


def draw_scaling(rows: list[Row]) -> Figure | None:
    """A column of panels for each axis, a row for each pass; the slopes stand at the lines' names."""
    curves = [c for c in scaling.curves(rows) if len(set(c.sizes)) > 1]
    if not curves:
        return None
    passes = unique(c.name for c in curves)
    axes_names = [axis for axis in scaling.AXES if any(c.axis == axis for c in curves)]
    long = [c for c in curves if (c.axis, c.name) == ("T", "gradient") and c.slope(scaling.memory)]
    drawn = [(axis, name, False) for axis in axes_names for name in passes]
    drawn += [("T", "gradient", True)] if long else []
    columns = min(_WIDE, len(drawn))
    lines = -(-len(drawn) // columns)
    made = style.figure(
        3.5 * columns,
        2.7 * lines + 0.5,
        f"How the time of a call grows, and the slopes of the lines: {rows[0]['device']},"
        f" {rows[0]['cores']} cores, JAX {rows[0]['jax']}",
    )
    numbers = {method: i for i, method in enumerate(unique(c.method for c in curves))}
    grid = list(made.subplots(lines, columns, squeeze=False).flat)
    for axes in grid[len(drawn) :]:
        axes.remove()
    for axes, (axis, name, of_memory) in zip(grid, drawn, strict=False):
        mine = [c for c in curves if (c.axis, c.name) == (axis, name)]
        if not mine:
            axes.set_axis_off()
            continue
        _panel(axes, mine, _mebibytes if of_memory else _milliseconds, numbers)
        what = "memory of the gradient" if of_memory else name
        axes.set_title(f"{what} against {axis}", loc="left", fontsize=9)
        axes.set_ylabel("temporary MiB" if of_memory else "ms a call", fontsize=8)
    return made


def _milliseconds(row: Row) -> float:
    return scaling.call_time(row) / 1e3


def _mebibytes(row: Row) -> float:
    return (scaling.memory(row) or 0) / 2**20


def _panel(
    axes, curves: list[Curve], value: Callable[[Row], float | None], numbers: dict[str, int]
) -> None:
    rests = unique(c.rest for c in curves)
    for method in unique(c.method for c in curves):
        slopes = []
        for curve in [c for c in curves if c.method == method]:
            known = [(row["size"], value(row)) for row in curve.rows if value(row)]
            if (slope := curve.slope(value)) is None:
                continue
            slopes.append(f"{slope:.2f}")
            kind = style.line(numbers[method]) | {"linestyle": _DASHES[rests.index(curve.rest) % 4]}
            [drawn] = axes.plot(*zip(*known, strict=True), **kind)
        if slopes:
            drawn.set_label(f"{method}: {', '.join(slopes)}")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    sizes = unique(size for curve in curves for size in curve.sizes)
    axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    fixed = rests[0]
    if len(rests) > 1:
        fixed = "\n".join(f"{kind} {rest}" for kind, rest in zip(_KINDS, rests, strict=False))
    axes.set_xlabel(f"{_LABELS[curves[0].axis]} ({fixed})", fontsize=8)
    style.plain(axes)
    axes.legend(frameon=False, fontsize=7, loc="upper left")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.35)  # room for the names
