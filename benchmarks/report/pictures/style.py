"""How all pictures look."""

from matplotlib.figure import Figure

# Okabe and Ito's colours, which all eyes tell apart, and marks for those that see none.
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c8c8c"]
MARKS = ["o", "s", "^", "D", "v", "P", "X", "*"]
GRID = "#e5e7eb"


def figure(width: float, height: float, title: str) -> Figure:
    made = Figure(figsize=(width, height), layout="constrained")
    made.suptitle(title, x=0.01, ha="left", fontsize=11)
    return made


def line(number: int) -> dict[str, object]:
    """Colour and mark of a figure's line of this number."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKS[number % len(MARKS)],
        "markersize": 5,
        "linewidth": 1.5,
        "linestyle": "-" if number < len(COLOURS) else "--",
    }


def plain(axes) -> None:
    axes.grid(color=GRID)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=8, which="both")


def legend(made: Figure, rows: int = 1) -> None:
    """One for all panels, each line once, below them."""
    named = {}
    for axes in made.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    if named:
        ncols = -(-len(named) // rows)
        made.legend(
            named.values(), named, loc="outside lower left", ncols=ncols, frameon=False, fontsize=8
        )
