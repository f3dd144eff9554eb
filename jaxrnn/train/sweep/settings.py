"""What a grid says: the settings, one after another, and their columns as arrays."""

import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

Setting = dict[str, Any]
# What a row of the table has beside its setting.
COLUMNS = ("loss", "validation", "best", "best_at", "skipped", "curve")


def listed(grid: Any) -> list[Setting]:
    """The settings of a grid: every combination of its columns, or those that it lists.

    Raises:
      TypeError, ValueError: with the column at fault, what came, and what to do.
    """
    if isinstance(grid, Mapping):
        columns = {name: _values(name, values) for name, values in grid.items()}
        rows = itertools.product(*columns.values())
        settings = [dict(zip(columns, row, strict=True)) for row in rows]
    elif isinstance(grid, Sequence) and all(isinstance(row, Mapping) for row in grid):
        settings = [dict(row) for row in grid]
    else:
        raise TypeError(
            f"grid must be a dict of names and values, or a list of dicts, got {grid!r}; e.g."
            " {'learning_rate': [1e-3, 1e-2], 'seed': range(3)}"
        )
    if not settings or not settings[0]:
        raise ValueError(f"grid holds no setting, got {grid!r}")
    names = list(settings[0])
    if taken := [name for name in names if name in COLUMNS]:
        raise ValueError(f"grid may not have the names {taken}: the table has columns called so")
    for number, setting in enumerate(settings):
        if list(setting) != names:
            raise ValueError(
                f"setting {number} of grid has {list(setting)}, setting 0 has {names};"
                " all must have the same names in the same order"
            )
        for name, value in setting.items():
            _check_value(name, value)
    return settings


def columns(settings: list[Setting]) -> dict[str, np.ndarray]:
    """The settings as arrays [n]: integers stay integers, and floats are of JAX's default type."""
    made = {}
    for name in settings[0]:
        column = np.asarray([setting[name] for setting in settings])
        if not np.array_equal(kept := column.astype(_dtype(column)), column) and (
            column.dtype.kind in "iu"
        ):
            worst = column[kept != column][0]
            raise ValueError(f"grid[{name!r}] has {worst}, which is too large for {kept.dtype}")
        made[name] = kept
    return made


def check_make(make: Callable[..., Any], setting: Setting) -> None:
    """That `make` takes what the grid has."""
    if not callable(make):
        raise TypeError(f"make must be a function of a setting, got {make!r}")
    try:
        inspect.signature(make).bind(**setting)
    except TypeError as error:
        takes = inspect.signature(make)
        raise TypeError(
            f"make{takes} cannot be called with the names of grid, {', '.join(setting)}: {error}"
        ) from None


def _values(name: str, values: Any) -> list[Any]:
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__iter__"):
        raise TypeError(f"grid[{name!r}] must be a list of values, got {values!r}; wrap it: [...]")
    if not (made := list(values)):
        raise ValueError(f"grid[{name!r}] is empty: there is nothing to combine it with")
    return made


def _check_value(name: str, value: Any) -> None:
    array = np.asarray(value)
    if not isinstance(name, str):
        raise TypeError(f"the names of grid must be strings, got {name!r}")
    if array.shape != () or array.dtype.kind not in "biuf":
        raise TypeError(
            f"grid[{name!r}] has {value!r}: a value must be one number, as it is traced. Sweep what is"
            " no number (a cell, an optimizer) in a Python loop, one sweep for each"
        )


def _dtype(column: np.ndarray) -> Any:
    # What a Python number of this kind is to JAX.
    kind = {"b": bool, "i": int, "u": int, "f": float}[column.dtype.kind]
    return jax.dtypes.canonicalize_dtype(kind)
