"""How time and memory grow with a shape: slopes of straight lines in logarithmic scales."""

from collections.abc import Callable
from typing import NamedTuple

from benchmarks.report.numbers import listed, slope, timed, unique
from benchmarks.rows import Row

# The part of a shape that an axis varies, and how the others are written.
AXES = {"B": "batch", "T": "length", "H": "features", "layers": "layers", "devices": "devices"}


class Curve(NamedTuple):
    """A method over the sizes of an axis, all else equal."""

    axis: str
    rest: str  # the part of the shape that stays, as in lstm B=8 H=128
    name: str  # of the pass
    method: str
    rows: list[Row]

    @property
    def sizes(self) -> list[float]:
        return [row["size"] for row in self.rows]

    def slope(self, value: Callable[[Row], float | None]) -> float | None:
        known = [(row["size"], value(row)) for row in self.rows if value(row)]
        if len({size for size, _ in known}) < 2:
            return None
        sizes, values = zip(*known, strict=True)
        return slope(sizes, values)


def call_time(row: Row) -> float:
    """Microseconds of a call, all its steps."""
    return row["median_us_per_step"] * row["shape"]["length"]


def memory(row: Row) -> float | None:
    return row.get("temp_bytes")


def curves(rows: list[Row]) -> list[Curve]:
    found: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in rows:
        if timed(row) and row.get("axis") in AXES:
            key = row["axis"], _rest(row), row["pass"], row["method"]
            found.setdefault(key, []).append(row)
    return [Curve(*key, sorted(mine, key=lambda r: r["size"])) for key, mine in found.items()]


def _rest(row: Row) -> str:
    shape = row["shape"]
    sizes = {axis: shape.get(part, 1) for axis, part in AXES.items() if axis != row["axis"]}
    # One layer on one device is what everybody expects.
    told = [f"{a}={n}" for a, n in sizes.items() if a in ("B", "T", "H") or n != 1]
    return " ".join([shape["cell"], *told])


def words(rows: list[Row]) -> list[str]:
    made = curves(rows)
    said = [
        _told("Time of a call", axis, name, mine, call_time)
        for axis in AXES
        for name in unique(c.name for c in made)
        if (mine := [c for c in made if (c.axis, c.name) == (axis, name)])
    ]
    long = [c for c in made if (c.axis, c.name) == ("T", "gradient")]
    said.append(_told("Temporary memory", "T", "gradient", long, memory))
    return [sentence for sentence in said if sentence]


def _told(
    what: str,
    axis: str,
    name: str,
    given: list[Curve],
    value: Callable[[Row], float | None],
) -> str | None:
    slopes = [(c, c.slope(value)) for c in given]
    known = [(c, found) for c, found in slopes if found is not None]
    if not known:
        return None
    told = []
    for rest in unique(c.rest for c, _ in known):
        grown = [f"`{c.method}` {axis}^{found:.2f}" for c, found in known if c.rest == rest]
        told.append(f"{rest} {', '.join(grown)}")
    sizes = [size for c, _ in known for size in c.sizes]
    return (
        f"{what} of the {name} against {axis} from {min(sizes):g} to {max(sizes):g}{listed(told)}"
    )
