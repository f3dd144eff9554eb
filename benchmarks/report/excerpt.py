"""What the README quotes of the rows: `QUOTES`, by the suite, which is the name of its marks too."""

from collections.abc import Callable

from benchmarks.contenders import LAX
from benchmarks.report import peers
from benchmarks.report.circumstances import software, title
from benchmarks.report.numbers import number, timed, times, unique
from benchmarks.report.tables import markdown, marked
from benchmarks.rows import Row

CASES = 8
PASSES = ("gradient", "forward")
_RIVALS = ("lax.scan", "flax.linen")
_WAYS = (
    *("auto()", "scan()", "scan(chunk=2048)", "scan(backward='associative')"),
    *("associative()", "associative(chunk=2048)", "newton()"),
)


def of_peers(rows: list[Row]) -> str:
    """A table of a few cases, how many of all we lose, and where it was measured."""
    rows = [row for row in rows if row["suite"] == "peers"]
    every = peers.matches(rows)
    jax, torch = peers.best_jax(every), peers.torch(every)
    lookup = {(*m.place, m.peer["method"]): m for m in every}
    of_jax, of_torch = ({m.place: m for m in given} for given in (jax, torch))
    ours = {(r["case"], r["pass"]): r for r in rows if r["method"] == peers.OURS and timed(r)}
    lines = []
    for name in PASSES:
        for case in thinned(rows):
            place = case, name
            if place not in ours:
                continue
            best = of_jax.get(place)
            matches = [
                *(lookup.get((*place, rival)) for rival in _RIVALS),
                best,
                of_torch.get(place),
            ]
            cells = [marked(match) if match else "" for match in matches]
            if best:
                cells[2] += f" {best.peer['method']}"
            lines.append([name, case, number(ours[place]["median_us_per_step"]), *cells])
    head = ["pass", "case", "µs a step", "`lax.scan`", "Flax linen", "best JAX library", "PyTorch"]
    counts = [
        f"{len(peers.below(given))} of {len(given)} against {whom}"
        for whom, given in (("the best JAX library", jax), ("PyTorch", torch))
        if given
    ]
    lost = (
        f"Over all cases and passes we are slower in {' and '.join(counts)}: the report names each.\n"
        if counts
        else ""
    )
    return (
        f"{markdown(head, lines)}\n\n"
        "How many times faster we are: bold where three quarters of our rounds beat three"
        f" quarters of the rival's, ↓ where theirs beat ours.\n{lost}"
        f"{title(rows)}; {software(rows)}.\n"
    )


def thinned(rows: list[Row]) -> list[str]:
    """A few cases, chosen by their shapes alone: each the one whose like was taken least."""
    shapes = {row["case"]: row["shape"] for row in rows}
    taken: list[str] = []
    counts: dict[tuple[str, object], int] = {}
    while len(taken) < min(CASES, len(shapes)):
        left = [case for case in shapes if case not in taken]
        parts = {
            case: [(name, shapes[case][name]) for name in ("cell", "batch", "features", "length")]
            for case in left
        }
        chosen = min(left, key=lambda case: sum(counts.get(part, 0) for part in parts[case]))
        taken.append(chosen)
        for part in parts[chosen]:
            counts[part] = counts.get(part, 0) + 1
    return [case for case in shapes if case in taken]


def of_long(rows: list[Row]) -> str:
    """Every case: how many times faster each way through time is than `lax.scan`, and where."""
    rows = [row for row in rows if row["suite"] == "long"]
    found = {(row["pass"], row["case"], row["method"]): row for row in rows if timed(row)}
    lines = []
    for name in PASSES:
        for case in unique(row["case"] for row in rows):
            plain, *ways = (found.get((name, case, way)) for way in (LAX, *_WAYS))
            if plain is None:
                continue
            best = max((row["ratio"] for row in ways if row), default=None)
            told = [times(row["ratio"]) if row else "" for row in ways]
            cells = [
                f"**{text}**" if row and row["ratio"] == best else text
                for row, text in zip(ways, told, strict=True)
            ]
            lines.append([name, case, number(plain["median_us_per_step"]), *cells])
    head = ["pass", "case", "`lax.scan`, µs a step", *(f"`{way}`" for way in _WAYS)]
    return (
        f"{markdown(head, lines)}\n\nTimes faster than `lax.scan`, the best in bold; empty where a"
        f" method refuses.\n{title(rows)}; {software(rows)}.\n"
    )


QUOTES: dict[str, Callable[[list[Row]], str]] = {"peers": of_peers, "long": of_long}
