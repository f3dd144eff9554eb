"""Correctness before the clock: every contender, `lax` too, is compared with `lax` in float64."""

from typing import Any

import jax
import numpy as np

from benchmarks.cases import Case
from benchmarks.programs import PASSES
from jaxrnn import methods

TOLERANCE = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}


def references(case: Case, arrays: Any, passes: tuple[str, ...]) -> dict[str, Any]:
    """What each pass should give: plain `lax` in float64, from the same numbers."""
    with jax.enable_x64(True):
        exact = jax.tree.map(lambda a: np.asarray(a).astype(np.float64), arrays)
        cell = case.make_cell()
        made = {name: jax.jit(PASSES[name](cell, methods.lax()))(*exact) for name in passes}
        return jax.tree.map(np.asarray, made)


def error(result: Any, reference: Any) -> float:
    """The largest relative error of a leaf, ‖a − b‖ / ‖b‖; NaN if a leaf has one."""
    pairs = zip(jax.tree.leaves(result), jax.tree.leaves(reference), strict=True)
    return max((_relative(np.asarray(a), b) for a, b in pairs), key=_nan_last, default=0.0)


def complaint(error: float, dtype: str) -> str | None:
    """Why a result with this error must not be timed; None if it may be."""
    allowed = TOLERANCE[dtype]
    return None if error <= allowed else f"relative error {error:.1e}, {allowed:.0e} is allowed"


def _relative(a: np.ndarray, b: np.ndarray) -> float:
    if a.shape != b.shape:
        return float("nan")
    scale = np.linalg.norm(b)
    distance = np.linalg.norm(a.astype(np.float64) - b)
    return float(distance / scale if scale else distance)


def _nan_last(value: float) -> float:
    return float("inf") if np.isnan(value) else value
