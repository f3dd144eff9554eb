"""What came of a run: its result, its history, and how it can fail."""

import math
from typing import Any, NamedTuple

import numpy as np

from jaxrnn.train.state import State


class History(NamedTuple):
    metrics: dict[str, np.ndarray]  # of every update: "loss", "gradient_norm", those of the loss
    validations: list[dict[str, Any]]  # each with "count", the updates before it, and "loss"

    @property
    def losses(self) -> np.ndarray:
        """The loss of every update, what was skipped included."""
        return self.metrics.get("loss", np.zeros(0))

    def __repr__(self) -> str:
        seen = [v["loss"] for v in self.validations]
        told = f", {len(seen)} validations, the last {seen[-1]:.6g}" if seen else ""
        return (
            f"History({len(self.losses)} updates of {', '.join(self.metrics) or 'nothing'}{told})"
        )

    def best(self) -> int | None:
        """Which validation had the least loss, the first if several; None if none had a number."""
        losses = [v["loss"] if math.isfinite(v["loss"]) else math.inf for v in self.validations]
        return None if not losses or min(losses) == math.inf else losses.index(min(losses))

    def stale(self) -> int:
        """How many validations in a row, up to the last, had no new best."""
        best = self.best()
        return len(self.validations) - (0 if best is None else best + 1)

    def extended(self, metrics: dict[str, np.ndarray]) -> "History":
        """With the metrics of further updates."""
        former = {name: self.metrics.get(name, rows[:0]) for name, rows in metrics.items()}
        both = {name: np.concatenate([former[name], rows]) for name, rows in metrics.items()}
        return self._replace(metrics=both)


class Result(NamedTuple):
    state: State  # after the last update
    best: Any  # the params of the least validation loss; those of `state` if nothing was validated
    history: History
    stopped: str  # "finished", "patience", "interrupted", "data" (it ended), "diverged"


class Diverged(FloatingPointError):
    """Too many updates in a row had a loss or gradient that was not finite."""

    def __init__(self, result: Result):
        self.result = result
        state, losses = result.state, result.history.losses
        finite = np.flatnonzero(np.isfinite(losses))
        last = "no loss was finite"
        if len(finite):
            last = f"the last finite loss was {losses[finite[-1]]:.6g}, of update {finite[-1]}"
        super().__init__(
            f"{int(state.failing)} updates in a row, from number"
            f" {int(state.count) - int(state.failing)} on, had a loss or a gradient that is not finite;"
            f" {last}. The params are those before them, in the .result of this error. Make the"
            " learning rate smaller, clip gradients (clip=1.0), look for NaN in these batches, or"
            " find the operation with jax.config.update('jax_debug_nans', True)"
        )
