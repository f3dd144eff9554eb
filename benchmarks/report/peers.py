"""What the suite of peers says: for each rival where we are ahead, and every case we lose."""

from collections.abc import Iterable
from statistics import median
from typing import NamedTuple

from benchmarks.contenders import OURS, PLAIN
from benchmarks.report.numbers import geomean, listed, order, timed, times, unique
from benchmarks.rows import Row

LEAST = 2.0  # wanted over the best JAX library, in the geometric mean
LEAST_TORCH = 1.0


class Match(NamedTuple):
    """A rival and we, both timed in the same rounds of a case and pass."""

    ours: Row
    peer: Row

    @property
    def ratio(self) -> float:
        """Above 1 where we are faster."""
        return self.peer["median_us_per_step"] / self.ours["median_us_per_step"]

    @property
    def order(self) -> int:
        return order(self.ours, self.peer)

    @property
    def place(self) -> tuple[str, str]:
        return self.ours["case"], self.ours["pass"]

    def __str__(self) -> str:
        level = "" if self.order else " (level)"
        return f"{' '.join(self.place)} {self.peer['method']} {times(self.ratio)}{level}"


def matches(rows: list[Row]) -> list[Match]:
    ours = {(r["case"], r["pass"]): r for r in rows if r["method"] == OURS and timed(r)}
    return [
        Match(ours[row["case"], row["pass"]], row)
        for row in rows
        if row["method"] != OURS and timed(row) and (row["case"], row["pass"]) in ours
    ]


def is_torch(method: str) -> bool:
    return method.split()[0] == "torch"


def is_library(method: str) -> bool:
    """Of JAX, and not the plain loop that all others are made of."""
    return method != PLAIN and not is_torch(method)


def best(given: Iterable[Match]) -> list[Match]:
    """The fastest rival of each case and pass."""
    found: dict[tuple[str, str], Match] = {}
    for match in given:
        if match.place not in found or match.ratio < found[match.place].ratio:
            found[match.place] = match
    return list(found.values())


def best_jax(given: list[Match]) -> list[Match]:
    return best(m for m in given if is_library(m.peer["method"]))


def torch(given: list[Match]) -> list[Match]:
    return best(m for m in given if is_torch(m.peer["method"]))


def words(rows: list[Row]) -> list[str]:
    every = matches(rows)
    without = [f"{r['case']} {r['pass']}" for r in rows if r["method"] == OURS and not timed(r)]
    none_below = "met" if not (without or below(best_jax(every))) else "**missed**"
    said = [
        *_against("the best JAX library", best_jax(every), LEAST, none_below),
        *_against(
            "the best of the JAX libraries and plain `lax.scan`",
            best(m for m in every if not is_torch(m.peer["method"])),
        ),
        *_against("PyTorch", torch(every), LEAST_TORCH),
        *_each(every),
        *_rates(every),
    ]
    if without:
        said.append(f"**We have no time** in {len(without)}{listed(without)}")
    return said


def below(given: list[Match]) -> list[Match]:
    """Where we are slower than the rival, the worst first."""
    return sorted((m for m in given if m.ratio < 1), key=lambda m: m.ratio)


def _against(
    whom: str, given: list[Match], least: float | None = None, none_below: str = ""
) -> list[str]:
    if not given:
        return []
    mean = geomean(m.ratio for m in given)
    aim = ""
    if least is not None:
        aim = f" ({least:g}x wanted: {'met' if mean >= least else '**missed**'})"
    passes = unique(m.ours["pass"] for m in given)
    by_pass = [
        f"{name} {times(geomean(m.ratio for m in given if m.ours['pass'] == name))}"
        for name in passes
    ]
    lost = below(given)
    wanted = f" (none wanted: {none_below})" if none_below else ""
    return [
        f"Against {whom} in each of {len(given)} cases and passes: geometric mean"
        f" {times(mean)}{aim}; {', '.join(by_pass)}. Below 1.0x in {len(lost)} of"
        f" {len(given)}{wanted}{listed([str(m) for m in lost])}"
    ]


def _each(given: list[Match]) -> list[str]:
    """Every rival for itself, the strongest first."""
    told = []
    for method in unique(m.peer["method"] for m in given):
        mine = [m for m in given if m.peer["method"] == method]
        orders = [m.order for m in mine]
        counts = f"ahead in {orders.count(1)}, level in {orders.count(0)}, behind in"
        mean = geomean(m.ratio for m in mine)
        text = f"{method} {times(mean)} ({counts} {orders.count(-1)} of {len(mine)})"
        told.append((mean, text))
    return (
        [f"By rival, geometric means{listed([text for _, text in sorted(told)])}"] if told else []
    )


def _rates(given: list[Match]) -> list[str]:
    """What share of the rate of large matrix products either reaches where a rival is ahead."""
    told = []
    for method in unique(m.peer["method"] for m in given):
        lost = [m for m in given if m.peer["method"] == method and m.order == -1]
        known = [m for m in lost if m.ours.get("gflops") and m.peer.get("gflops")]
        if known:
            theirs, ours = (
                median(row["gflops"] / row["matmul_gflops"] for row in rows)
                for rows in zip(*((m.peer, m.ours) for m in known), strict=True)
            )
            told.append(f"{method} {theirs:.0%}, we {ours:.0%} (median of {len(known)})")
    what = "the rate of a large matrix product that is reached where a rival is ahead of us"
    return [f"Share of {what}{listed(told)}"] if told else []
