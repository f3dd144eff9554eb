"""The default method's ratio to `lax.scan` as a picture."""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from benchmarks.contenders import AUTO
from benchmarks.rows import Row

COLOURS = {"forward": "#9aa5b1", "gradient": "#c2410c"}
_TICKS = [0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16]


def draw(rows: list[Row], path: Path) -> bool:
    """Draws the suites `speed` and `cells`; False, and no picture, if nothing of them was timed."""
    drawn = [r for r in rows if r["method"] == AUTO and r["ratio"] is not None]
    panels = {name: [r for r in drawn if r["suite"] == name] for name in ("speed", "cells")}
    panels = {name: mine for name, mine in panels.items() if mine}
    if not panels:
        return False
    cases = {name: list(dict.fromkeys(r["case"] for r in mine)) for name, mine in panels.items()}
    figure = Figure(figsize=(1.9 + 0.52 * sum(map(len, cases.values())), 5.0), layout="constrained")
    widths = [len(names) for names in cases.values()]
    all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False, width_ratios=widths)[0]
    for axes, (name, mine) in zip(all_axes, panels.items(), strict=True):
        _panel(axes, mine, cases[name])
    first = all_axes[0]
    first.set_ylabel("times faster than lax.scan")
    first.set_yscale("log")
    low = 0.9 * min([0.9, *(r["ratio_p25"] for r in drawn)])
    high = 1.1 * max([1.2, *(r["ratio_p75"] for r in drawn)])
    first.set_ylim(low, high)
    ticks = [tick for tick in _TICKS if low <= tick <= high]
    first.set_yticks(ticks, [f"{tick:g}×" for tick in ticks])
    first.yaxis.set_minor_locator(NullLocator())
    first.yaxis.set_minor_formatter(NullFormatter())
    figure.legend(
        *first.get_legend_handles_labels(), frameon=False, loc="upper right", ncols=2, fontsize=10
    )
    one = drawn[0]
    figure.suptitle(
        f"jaxrnn's default method against lax.scan over the same cell\n{one['device']},"
        f" {one['cores']} cores, JAX {one['jax']}; medians and quartiles of interleaved rounds",
        x=0.01,
        ha="left",
        fontsize=10,
    )
    figure.savefig(path, dpi=150)
    return True


def _panel(axes, rows: list[Row], cases: list[str]) -> None:
    axes.axhline(1, color="black", linewidth=1)
    axes.axhspan(1e-3, 1, color="#fdf2f0", zorder=0)  # slower
    for shift, (name, colour) in zip((-0.14, 0.14), COLOURS.items(), strict=True):
        mine = [r for r in rows if r["pass"] == name]
        middle = [r["ratio"] for r in mine]
        spread = [
            [r["ratio"] - r["ratio_p25"] for r in mine],
            [r["ratio_p75"] - r["ratio"] for r in mine],
        ]
        at = [cases.index(r["case"]) + shift for r in mine]
        axes.errorbar(
            at, middle, spread, fmt="o", color=colour, markersize=6, elinewidth=1.5, label=name
        )
    # What all cases share is said once.
    words = [case.split() for case in cases]
    shared = [word for word in words[0] if len(cases) > 1 and all(word in other for other in words)]
    labels = [" ".join(word for word in case if word not in shared) for case in words]
    axes.set_xticks(range(len(cases)), labels, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_title(" ".join(shared), loc="left", fontsize=10, fontweight="bold")
    axes.tick_params(axis="x", length=0, labelsize=9)
    axes.set_xlim(-0.6, len(cases) - 0.4)
    axes.grid(axis="y", color="#e5e7eb")
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.tick_params(axis="y", length=0)
