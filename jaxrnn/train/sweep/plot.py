"""A sweep as a picture: the curves, and what each hyperparameter does to the result."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

if TYPE_CHECKING:
    from jaxrnn.train.sweep.table import Table

POINT, MIDDLE, BEST = "#9aa5b1", "#1d4ed8", "#c2410c"
_ACROSS = 3  # panels side by side
_FEW = 8  # so many values are named below a panel
_WIDE = 10  # a range that is so many times its least value is drawn logarithmically


def draw(table: "Table", path: Path) -> None:
    """One panel of curves, and one for each name that has several values."""
    names = [n for n in table.settings[0] if len({s[n] for s in table.settings}) > 1]
    down = -(-(1 + len(names)) // _ACROSS)
    across = min(_ACROSS, 1 + len(names))
    figure = Figure(figsize=(4.2 * across, 3.6 * down), layout="constrained")
    first, *others = figure.subplots(down, across, squeeze=False).ravel()
    best = table.order()[0]
    _curves(first, table, best)
    what = "best validation" if table.validations else "last loss"
    scores = np.array([row["best"] if table.validations else row["loss"] for row in table.rows])
    for axes, name in zip(others, names, strict=False):
        values = np.array([setting[name] for setting in table.settings], float)
        _effect(axes, values, scores, best)
        axes.set(xlabel=name, ylabel=what)
        if axes is others[0]:
            axes.legend(frameon=False)
    for axes in others[len(names) :]:
        axes.set_axis_off()
    told = ", ".join(f"{name} {_number(value)}" for name, value in table.settings[best].items())
    title = f"{len(scores)} settings; best: {told} ({what} {scores[best]:.4g})"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    figure.savefig(path, dpi=150, format="png")


def _curves(axes: Any, table: "Table", best: int) -> None:
    """What was validated if anything was, and else the losses, smoothed."""
    if table.validations:
        counts, curves, name = table.counts, table.validations["loss"], "validation"
    else:
        width = max(1, table.losses.shape[1] // 50)
        curves = np.lib.stride_tricks.sliding_window_view(table.losses, width, axis=1).mean(-1)
        counts, name = np.arange(curves.shape[1]) + width, "loss"
    marker = "." if len(counts) < 30 else ""
    for i in [*(i for i in range(len(curves)) if i != best), best]:
        mine = i == best
        axes.plot(
            counts,
            curves[i],
            marker=marker,
            color=BEST if mine else POINT,
            linewidth=2 if mine else 0.8,
            alpha=1 if mine else 0.6,
            label="best" if mine else None,
        )
    axes.set(xlabel="update", ylabel=name)
    _scale(axes, "y", curves)
    axes.legend(frameon=False)
    _clean(axes)


def _effect(axes: Any, values: np.ndarray, scores: np.ndarray, best: int) -> None:
    """Every setting as a point, the middle ones joined; what is not finite stands on top."""
    finite = np.isfinite(scores)
    axes.plot(values[finite], scores[finite], "o", color=POINT, markersize=4, alpha=0.7)
    each = np.unique(values[finite])
    middle = [np.median(scores[finite & (values == value)]) for value in each]
    axes.plot(each, middle, "-", color=MIDDLE, label="median")
    if finite[best]:
        axes.plot(values[best], scores[best], "o", color=BEST, markersize=8, label="best")
    if not finite.all():
        top = axes.get_xaxis_transform()
        lost = values[~finite]
        axes.plot(lost, np.full(len(lost), 0.97), "kx", transform=top, label="not finite")
    _scale(axes, "x", values)
    _scale(axes, "y", scores)
    if len(each := np.unique(values)) <= _FEW:
        axes.set_xticks(each, [f"{value:g}" for value in each])
        axes.xaxis.set_minor_locator(NullLocator())
    _clean(axes)


def _scale(axes: Any, axis: str, values: np.ndarray) -> None:
    """Logarithmic where the values are positive and wide apart."""
    finite = values[np.isfinite(values)]
    if finite.size and finite.min() > 0 and finite.max() > _WIDE * finite.min():
        (axes.set_xscale if axis == "x" else axes.set_yscale)("log")


def _clean(axes: Any) -> None:
    axes.grid(color="#e5e7eb")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
