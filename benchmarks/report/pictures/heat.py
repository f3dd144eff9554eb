"""Ratios of many cases to many methods: a square for each, blue where faster, red where slower."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib import colormaps
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from benchmarks.contenders import LAX
from benchmarks.report import peers
from benchmarks.report.numbers import geomean, timed, times, unique
from benchmarks.rows import Row

_COLOURS = colormaps["RdBu"]
_NORM = LogNorm(1 / 4, 4, clip=True)
_CHARACTER = 0.07  # inches
_LINE = 11  # characters of a column's head
_GAP = 0.3  # between panels
_ABSENT = "#ececec"
_MEAN = "geometric mean"
_BEST = "best JAX library"
_CHOSEN = "what auto chose"
_HOW_TO_READ = "blue: faster; red: slower; framed: slower, and no quartiles touch; grey: not timed"


class Square(NamedTuple):
    panel: str
    line: str
    column: str
    ratio: float | None  # None: not timed
    behind: bool = False  # surely: the quartiles do not touch


def draw_peers(rows: list[Row]) -> Figure | None:
    every = peers.matches(rows)
    best = [m._replace(peer={**m.peer, "method": _BEST}) for m in peers.best_jax(every)]
    squares = [
        Square(m.place[1], m.place[0], m.peer["method"], m.ratio, m.order < 0)
        for m in [*every, *best]
    ]
    if not squares:
        return None
    # Who ran nothing has no column.
    methods = unique(m.peer["method"] for m in every)
    squares += [
        Square(r["pass"], r["case"], r["method"], None)
        for r in rows
        if r["method"] in methods and not timed(r)
    ]
    return _draw(
        squares, [_BEST, *methods], "How many times faster jaxrnn is than each rival", rows
    )


def draw_choice(rows: list[Row]) -> Figure | None:
    chosen = [row | {"method": _CHOSEN} for row in rows if row.get("because")]
    return draw_ratios([*chosen, *rows])


def draw_ratios(rows: list[Row]) -> Figure | None:
    """Every method's ratio to `lax.scan`, or to what else the suite compares with."""
    squares = [
        Square(r["pass"], r["case"], r["method"], r["ratio"], (r["ratio_p75"] or 1) < 1)
        for r in rows
        if not (r["method"] == LAX or _is_base(r))
    ]
    counts = Counter(square.column for square in squares)
    # What was made up for a few cases only has no column.
    methods = [method for method, count in counts.items() if 2 * count >= max(counts.values())]
    squares = [square for square in squares if square.column in methods]
    if all(square.ratio is None for square in squares):
        return None
    title = f"How many times faster than {next(filter(_is_base, rows), {'method': LAX})['method']}"
    return _draw(squares, methods, title, rows)


def _is_base(row: Row) -> bool:
    return row["ratio"] == row.get("ratio_p25") == row.get("ratio_p75") == 1


def _draw(squares: list[Square], columns: Sequence[str], title: str, rows: list[Row]) -> Figure:
    panels = unique(square.panel for square in squares)
    cases = unique(square.line for square in squares)
    asked = {panel: _asked(squares, panel, columns) for panel in panels}
    labels = {column: _broken(column) for column in columns}
    wide = max(
        0.5, *(_CHARACTER * len(part) for label in labels.values() for part in label.splitlines())
    )
    left = _CHARACTER * max(map(len, [*cases, _MEAN])) + 0.2
    top = 0.85 + 0.13 * max(label.count("\n") + 1 for label in labels.values())
    inner = sum(wide * len(mine) + _GAP for mine in asked.values())
    width, high = max(left + inner, 7.5), 0.235 * (len(cases) + 1)
    made = Figure(figsize=(width, top + high + 0.1))
    height = made.get_figheight()
    one = rows[0]
    subtitle = f"{one['device']}, {one['cores']} cores, JAX {one['jax']}; {_HOW_TO_READ}"
    made.suptitle(title, x=0.1 / width, y=1 - 0.08 / height, ha="left", va="top", fontsize=11)
    made.text(0.1 / width, 1 - 0.3 / height, subtitle, va="top", fontsize=8)
    at = left
    for panel, mine in asked.items():
        place = (at / width, 0.05 / height, wide * len(mine) / width, high / height)
        axes = made.add_axes(place)
        _panel(axes, [s for s in squares if s.panel == panel], cases, mine)
        axes.set_xticks(range(len(mine)), [labels[column] for column in mine])
        axes.set_yticks(range(len(cases) + 1), [_MEAN, *cases] if at == left else [])
        made.text(at / width, 1 - 0.52 / height, panel, va="top", fontsize=10, fontweight="bold")
        at += wide * len(mine) + _GAP
    return made


def _asked(squares: list[Square], panel: str, columns: Sequence[str]) -> list[str]:
    here = {s.column for s in squares if s.panel == panel}
    return [column for column in columns if column in here]


def _broken(name: str) -> str:
    """A method's name in short lines."""
    lines = [""]
    for piece in re.split(r"(?<=[.,])(?=\S)|(?= )|(?=\([^)])", name):
        if lines[-1] and len(lines[-1] + piece) > _LINE:
            lines.append(piece.strip())
        else:
            lines[-1] += piece
    return "\n".join(lines)


def _panel(axes, squares: list[Square], cases: list[str], columns: list[str]) -> None:
    lines = {case: i + 1 for i, case in enumerate(cases)}
    for square in squares:
        _square(axes, columns.index(square.column), lines[square.line], square.ratio, square.behind)
    for at, column in enumerate(columns):
        ratios = [s.ratio for s in squares if s.column == column and s.ratio]
        if ratios:
            _square(axes, at, 0, geomean(ratios))
    cells = [case.partition("=")[0] for case in cases]
    for at in [0, *(i + 1 for i in range(len(cells) - 1) if cells[i] != cells[i + 1])]:
        axes.axhline(at + 0.5, color="black", linewidth=0.8)
    axes.xaxis.tick_top()
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(cases) + 0.5, -0.5)
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)


def _square(axes, x: int, y: int, ratio: float | None, behind: bool = False) -> None:
    colour = _COLOURS(_NORM(ratio)) if ratio else _ABSENT
    axes.add_patch(Rectangle((x - 0.47, y - 0.45), 0.94, 0.9, color=colour, linewidth=0))
    if ratio is None:
        return
    if behind:
        axes.add_patch(
            Rectangle((x - 0.45, y - 0.42), 0.9, 0.84, fill=False, edgecolor="black", linewidth=1.4)
        )
    red, green, blue, _ = colour
    dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
    text = times(ratio).rstrip("x")
    axes.text(
        x, y, text, ha="center", va="center", fontsize=7.5, color="white" if dark else "black"
    )
