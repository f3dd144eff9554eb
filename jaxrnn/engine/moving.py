"""Derivatives in what moves, and in nothing else."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.custom_derivatives import SymbolicZero

from jaxrnn.engine.jaxprs import is_float


def jvp(
    f: Callable[[list[Any]], Any], primals: Sequence[Any], tangents: Sequence[Any]
) -> tuple[Any, Any]:
    """`jax.jvp` of f(list) where some tangents are symbolic zeros: those inputs stay constants."""
    moving = [
        i
        for i, (value, d) in enumerate(zip(primals, tangents, strict=True))
        if not isinstance(d, SymbolicZero) and is_float(jax.typeof(value))
    ]

    def of_moving(*values: Any) -> Any:
        filled = list(primals)
        for i, value in zip(moving, values, strict=True):
            filled[i] = value
        return f(filled)

    return jax.jvp(of_moving, [primals[i] for i in moving], [tangents[i] for i in moving])
