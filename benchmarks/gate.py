"""Correctness before the clock: every contender, `lax` too, is compared with `lax` in float64."""

from functools import cached_property, partial
from typing import Any

import jax
import numpy as np

import jaxrnn
from benchmarks.cases import Case
from benchmarks.entrants import Entrant, exact
from benchmarks.programs import Apply, gradient
from jaxrnn import methods

TOLERANCE = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}


def plain(case: Case) -> Apply:
    """The case's cell under `lax`, as it is written."""
    return partial(jaxrnn.run, case.make_cell(), method=methods.lax())


class Oracle:
    """What a case should give: plain `lax` in float64, from the same numbers."""

    def __init__(self, case: Case, params: Any, xs: Any):
        self.apply = plain(case)
        self.args = jax.tree.map(exact, (params, xs))

    @cached_property
    def outputs(self) -> Any:
        return self._exactly(self.apply)

    @cached_property
    def gradients(self) -> Any:
        return self._exactly(gradient(self.apply))

    def _exactly(self, program: Any) -> Any:
        with jax.enable_x64(True):
            return jax.tree.map(np.asarray, jax.jit(program)(*self.args))


def error_of(entrant: Entrant, name: str, call: Any, oracle: Oracle) -> float:
    """The error of a pass of an entrant."""
    return error(call(*entrant.args(name)), entrant.expected(name, oracle))


def error(result: Any, reference: Any) -> float:
    """The largest relative error of a leaf, ‖a − b‖ / ‖b‖; infinite if a leaf has a NaN."""
    pairs = zip(jax.tree.leaves(result), jax.tree.leaves(reference), strict=True)
    return max((_relative(np.asarray(a), np.asarray(b)) for a, b in pairs), default=0.0)


def complaint(error: float, dtype: str) -> str | None:
    """Why a result with this error must not be timed; None if it may be."""
    allowed = TOLERANCE[dtype]
    return None if error <= allowed else f"relative error {error:.1e}, {allowed:.0e} is allowed"


def _relative(a: np.ndarray, b: np.ndarray) -> float:
    if a.shape != b.shape:
        return float("inf")
    scale = np.linalg.norm(b)
    distance = np.linalg.norm(a.astype(np.complex128 if np.iscomplexobj(a) else np.float64) - b)
    found = float(distance / scale if scale else distance)
    return float("inf") if np.isnan(found) else found
