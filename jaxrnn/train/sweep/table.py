"""What came of a sweep: a row for each setting."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrnn.train.sweep.plan import Plan
from jaxrnn.train.sweep.settings import Setting


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Table:
    """The n settings of a sweep, and what training with each of them gave.

    A row has the names of its setting and
        loss         of the last update
        validation   the "loss" of the last validation    } NaN, NaN and 0 where nothing
        best         the least of all validations         } was validated
        best_at      after how many updates that was      }
        skipped      updates, as loss or gradient was not finite
        curve        the loss of every update, an array
    """

    settings: list[Setting]
    losses: np.ndarray  # [n, updates]
    counts: np.ndarray  # [v] the updates before each validation
    validations: dict[str, np.ndarray]  # each number of a validation [n, v]; none of none
    skipped: np.ndarray  # [n]
    params: Any  # a tree of arrays [n, ...]; None if they were not kept
    plan: Plan
    seconds: float  # compilation included
    stopped: str  # "finished" or "interrupted"

    @property
    def how(self) -> str:
        """How many settings were run at once, and where."""
        return self.plan.how

    @property
    def because(self) -> str:
        """Why so."""
        return self.plan.because

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [self._row(i) for i in range(len(self.settings))]

    def order(self) -> list[int]:
        """The numbers of the rows, the best first: by best validation, or else by last loss."""
        scores = [row["best"] if self.validations else row["loss"] for row in self.rows]
        worst = [score if math.isfinite(score) else math.inf for score in scores]
        return sorted(range(len(worst)), key=worst.__getitem__)

    def best(self) -> dict[str, Any]:
        """The best row."""
        return self._row(self.order()[0])

    def params_of(self, row: int) -> Any:
        """The params of a row.

        Raises:
          ValueError: if the sweep did not keep them.
        """
        if self.params is None:
            raise ValueError("the params were not kept; sweep with keep_params=True")
        return jax.tree.map(lambda leaf: leaf[row], self.params)

    def plot(self, path: str | Path) -> None:
        """Draws the sweep, as a PNG. Needs matplotlib."""
        from jaxrnn.train.sweep.plot import draw  # most sweeps run where nothing can be drawn

        draw(self, Path(path))

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """The head and the rows as text, the best first, without the curves."""
        rows = [self._row(i) for i in self.order()]
        without = {"curve"} | (set() if self.validations else {"validation", "best", "best_at"})
        head = [name for name in rows[0] if name not in without]
        return head, [[_shown(row[name]) for name in head] for row in rows]

    def __str__(self) -> str:
        head, rows = self.cells()
        lines = [head, *rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        texts = ["  ".join(t.rjust(w) for t, w in zip(line, widths, strict=True)) for line in lines]
        told = f"{len(rows)} settings in {self.seconds:.1f} s, {self.how}: {self.because}"
        return "\n".join([*texts, told])

    def _row(self, i: int) -> dict[str, Any]:
        row = {**self.settings[i], "loss": float(self.losses[i, -1])}
        row |= {"validation": math.nan, "best": math.nan, "best_at": 0}
        if self.validations:
            curve = self.validations["loss"][i]
            row["validation"] = float(curve[-1])
            if np.isfinite(curve).any():
                least = int(np.argmin(np.where(np.isfinite(curve), curve, np.inf)))
                row |= {"best": float(curve[least]), "best_at": int(self.counts[least])}
        return row | {"skipped": int(self.skipped[i]), "curve": self.losses[i]}


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)
