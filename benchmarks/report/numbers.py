"""The arithmetic of reports, and how they write numbers."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.rows import Row, faster


def geomean(values: Iterable[float]) -> float:
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs))


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Of the straight line through the logarithms, by least squares: the exponent of the growth."""
    xs, ys = [math.log(size) for size in sizes], [math.log(value) for value in values]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    rise = sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True))
    return rise / sum((a - x) ** 2 for a in xs)


def timed(row: Row) -> bool:
    return not row.get("reason") and bool(row.get("median_us_per_step"))


def order(one: Row, other: Row) -> int:
    """1 where the quartiles do not touch and one is faster than the other, −1 where it is slower."""
    return faster(one, other) - faster(other, one)


def times(ratio: float) -> str:
    """As in 1.23x; what is less than 1 is never shown as 1."""
    if ratio >= 10:
        return f"{ratio:,.1f}x" if ratio < 100 else f"{ratio:,.0f}x"
    return f"{ratio:.3f}x" if 0.995 <= ratio < 1 else f"{ratio:.2f}x"


def number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def spread(middle: str, low: str, high: str) -> str:
    return f"{middle} ({low} to {high})"


def listed(told: Sequence[str]) -> str:
    return f": {'; '.join(told)}." if told else "."


def unique(values: Iterable[Any]) -> list[Any]:
    """Each once, in the order in which they come, without None."""
    return [value for value in dict.fromkeys(values) if value is not None]
