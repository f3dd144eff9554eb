"""The contract of a cell, checked: `check_cell` runs every law of recurrences on your own cell."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.core import Cell
from jaxrnn.testing.case import Case as Case
from jaxrnn.testing.case import case_of as case_of
from jaxrnn.testing.numbers import NUMBERS
from jaxrnn.testing.time import TIME
from jaxrnn.testing.transforms import TRANSFORMS

LAWS = {**TIME, **TRANSFORMS, **NUMBERS}


class LawBroken(AssertionError):
    """A cell does not keep a law; `law` is its name."""

    def __init__(self, cell: Cell, law: str, reason: str):
        super().__init__(f"{cell} breaks the law '{law}': {reason}")
        self.law = law


def check_cell(
    cell: Cell,
    x: Any = None,
    *,
    length: int = 7,
    tolerance: float | None = None,
    laws: Any = None,
) -> list[str]:
    """Checks that a cell keeps the contract of `Cell` and runs the same under every method.

    Runs in float64 (`jax.enable_x64`), with random parameters near those of `cell.init`.

    Args:
      cell: the cell to check.
      x: one time step, an array or ShapeDtypeStruct [*batch, ...] or a pytree of them, with at least
        one batch axis; random numbers [3, 4] if None. Floating-point leaves are made float64.
      length: T.
      tolerance: the relative error allowed where two ways to the same result are compared; 1e-10 if
        None. Give a larger one for a cell that computes in a lower precision inside.
      laws: the names of the laws to check, of `jaxrnn.testing.LAWS`; all if None.

    Returns:
      The names of the laws, all kept.

    Raises:
      LawBroken: an AssertionError that names the first law that fails, and how.

    Example:
      >>> import jaxrnn, jaxrnn.testing
      >>> jaxrnn.testing.check_cell(jaxrnn.cells.elman(5), laws=["split anywhere and resume"])
      ['split anywhere and resume']
    """
    names = list(LAWS if laws is None else laws)
    if unknown := [name for name in names if name not in LAWS]:
        raise ValueError(f"unknown laws {unknown}; there are {list(LAWS)}")
    with jax.enable_x64(True):
        x = jnp.zeros((3, 4)) if x is None else x
        for name in names:
            try:
                LAWS[name](case_of(cell, x, length, tolerance))
            except ImportError:  # of flatbuffers, which jax.export needs
                raise
            except Exception as error:
                reason = str(error) or type(error).__name__
                raise LawBroken(cell, name, reason) from error
    return names
