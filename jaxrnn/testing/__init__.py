"""The contract of a cell, checked: `check_cell` runs every law of recurrences on your own cell."""

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.core import Cell, Layer
from jaxrnn.testing.case import Case as Case
from jaxrnn.testing.case import case_of as case_of
from jaxrnn.testing.numbers import NUMBERS
from jaxrnn.testing.time import TIME
from jaxrnn.testing.transforms import TRANSFORMS

LAWS = {**TIME, **TRANSFORMS, **NUMBERS}

# What only that promises which has a `step`: elsewhere y may depend on what comes after.
OF_STEPS = frozenset(
    [
        "streaming is running",
        "split anywhere and resume",
        "a reset is a fresh start",
        "the carry keeps its type",
    ]
)
# What needs one y for each x.
OF_FRAMES = frozenset(
    ["reversed is running backwards", "padding is inert", "nothing and one are sizes too"]
)
# What is asked of the one step that a loop runs.
OF_CELLS = frozenset(["structure found is there", "traced once"])


def laws_of(layer: Cell | Layer) -> list[str]:
    """The names of the laws that a cell or a layer keeps by its contract."""
    exempt = frozenset() if isinstance(layer, Cell) else OF_CELLS
    exempt |= frozenset() if layer.step else OF_STEPS
    exempt |= OF_FRAMES if getattr(layer, "stride", 1) > 1 else frozenset()
    return [name for name in LAWS if name not in exempt]


class LawBroken(AssertionError):
    """A cell does not keep a law; `law` is its name."""

    def __init__(self, cell: Cell | Layer, law: str, reason: str):
        super().__init__(f"{cell} breaks the law '{law}': {reason}")
        self.law = law


class Kept(list[str]):
    """The names of the laws found kept; `skipped` has those that could not be checked, and why."""

    def __init__(self, names: Iterable[str] = ()):
        super().__init__(names)
        self.skipped: dict[str, str] = {}


def check_cell(
    cell: Cell | Layer,
    x: Any = None,
    *,
    length: int = 7,
    tolerance: float | None = None,
    laws: Sequence[str] | str | None = None,
    report: Callable[[str], Any] | None = None,
) -> Kept:
    """Checks that a cell or a layer keeps its contract and runs the same under every method.

    Runs in float64 (`jax.enable_x64`), with random parameters near those of `cell.init`.

    Args:
      cell: the cell, or layer, to check.
      x: one time step, an array or ShapeDtypeStruct [*batch, ...] or a pytree of them, with at least
        one batch axis; random numbers [3, 4] if None. Floating-point leaves are made float64.
      length: T.
      tolerance: the relative error allowed where two ways to the same result are compared; 1e-10 if
        None. Give a larger one for a cell that computes in a lower precision inside.
      laws: which to check. None: all that it promises (a layer without `step` does not stream, and may
        look ahead), each with few programs, in 10 to 20 seconds for a small cell on 2 cores. "all": all
        of them under every method, with second derivatives too, which takes minutes. Or the names of
        some, of `jaxrnn.testing.LAWS`, checked as "all" does.
      report: called with what is checked next; if None, it is written to the terminal, where there
        is one.

    Returns:
      The names of the laws, all kept: a list, whose `skipped` names those that need a package that is
      not installed (`jax.export` needs flatbuffers).

    Raises:
      LawBroken: an AssertionError that names the first law that fails, and how.
      TypeError: if `cell` is not a cell or a layer, but a function that makes one, say.
      ValueError: if a name is not that of a law.

    Examples:
      >>> import jaxrnn, jaxrnn.testing
      >>> jaxrnn.testing.check_cell(jaxrnn.cells.elman(5), laws=["split anywhere and resume"])
      ['split anywhere and resume']
    """
    if not isinstance(cell, Cell | Layer):
        raise TypeError(f"check_cell() takes a Cell or a Layer, got {cell!r}")
    named = [laws] if isinstance(laws, str) and laws != "all" else laws
    names = laws_of(cell) if named is None or named == "all" else list(named)
    if unknown := [name for name in names if name not in LAWS]:
        raise ValueError(f"unknown laws {unknown}; there are {list(LAWS)}")
    kept, case = Kept(), None
    with jax.enable_x64(True):
        x = jnp.zeros((3, 4)) if x is None else x
        for number, name in enumerate(names, 1):
            (report or _told)(f"{cell}: law {number} of {len(names)}, {name}")
            try:
                case = case or case_of(cell, x, length, tolerance, brief=laws is None)
                LAWS[name](case)
            except ImportError as error:
                kept.skipped[name] = str(error)
                continue
            except Exception as error:
                reason = str(error) or type(error).__name__
                raise LawBroken(cell, name, reason) from error
            kept.append(name)
    (report or _told)(f"{cell}: {len(kept)} laws kept, {len(kept.skipped)} skipped\n")
    return kept


def _told(line: str) -> None:
    """Shows what is being done on the terminal, in place of what was."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{line}")
        sys.stderr.flush()
