"""What the combinators share: constants for carry leaves, masks, outputs that follow the carry."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import core

from jaxrnn.core import Cell, draw
from jaxrnn.kit import promoting


class Drawn(NamedTuple):
    """Parameters, with what was drawn once for a sequence."""

    params: Any
    masks: Any


def derived(cell: Cell, **changes: Any) -> Cell:
    """The cell with other functions.

    Its form for all steps at once is left behind, as it gives what the old functions gave; where it
    holds for the new ones too, it is among the changes.
    """
    _check_is_cell(changes.get("name", "this"), cell)
    functions = {k: promoting(v) if callable(v) else v for k, v in changes.items()}
    return replace(cell, **{"parallel": None, **functions})


def _check_is_cell(name: str, cell: Any) -> None:
    if isinstance(cell, Cell):
        return
    remedy = "call it, as it makes one" if callable(cell) else "only a cell has a step to change"
    raise TypeError(f"{name} needs a cell inside, got {cell!r}: {remedy}")


def wrap(
    cell: Cell,
    *,
    name: str,
    init: Callable[..., Any],
    carry: Callable[..., Any],
    step: Callable[..., Any],
) -> Cell:
    """A cell with parameters of its own beside those of the cell inside, its field `cell`."""
    _check_is_cell(name, cell)

    def noise(params, x, key):
        return params._replace(cell=draw(cell, params.cell, x, key))

    drawn = noise if cell.noise else None
    return derived(cell, name=name, init=init, carry=carry, step=step, noise=drawn)


def is_float(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def check_rate(name: str, rate: Any) -> None:
    """A rate is the probability of the effect; one that is traced cannot be looked at."""
    for value in jax.tree.leaves(rate):
        if isinstance(value, core.Tracer):
            continue
        array = np.asarray(value)
        if array.dtype.kind not in "fiu" or not ((array >= 0) & (array < 1)).all():
            raise ValueError(f"{name}() needs a rate with 0 <= rate < 1, got {value!r}")


def check_positive(name: str, argument: str, value: Any) -> None:
    for leaf in jax.tree.leaves(value):
        if isinstance(leaf, core.Tracer):
            continue
        array = np.asarray(leaf)
        if array.dtype.kind not in "fiu" or not (array > 0).all():
            raise ValueError(f"{name}() needs {argument} > 0, got {leaf!r}")


def shown(constant: Any) -> str:
    """A constant in the name of a cell: a number as it is, anything else by its kind."""
    return f"{constant:g}" if isinstance(constant, int | float) else "…"


def dropping(key: Any, rate: Any, like: Any) -> jax.Array:
    """1/(1 − rate) where kept, 0 where dropped: the mean of what is multiplied stays."""
    kept = jax.random.bernoulli(key, 1 - jnp.asarray(rate), like.shape)
    scale = (1 / (1 - jnp.asarray(rate))).astype(like.dtype)
    return jnp.where(kept, scale, jnp.zeros_like(scale))


def leafwise(what: str, constant: Any, carry: Any) -> list[Any]:
    """The constant of each carry leaf: the same for all, or a tree like the carry, None for "not here".

    A leaf that is no float (a counter, a key) has none.
    """
    leaves, tree = jax.tree.flatten(carry)
    given, structure = jax.tree.flatten(constant, is_leaf=lambda leaf: leaf is None)
    if len(given) == 1 and jax.tree.structure(given[0]) == structure:
        given = given * len(leaves)
    elif structure != tree:
        raise ValueError(
            f"{what} has the structure {structure}, but the carry has {tree};"
            " give one constant for all leaves, or a tree like the carry"
        )
    return [c if is_float(leaf) else None for c, leaf in zip(given, leaves, strict=True)]


def change(
    function: Callable[..., Any], constants: list[Any], before: Any, after: Any, y: Any
) -> tuple[Any, Any]:
    """Replaces each new carry leaf by function(constant, its number, old leaf, new leaf).

    An output that *is* a leaf of the new carry (`return h, h`) remains that leaf.
    """
    leaves, tree = jax.tree.flatten(after)
    changed = [
        new if c is None else function(c, i, old, new)
        for i, (c, old, new) in enumerate(
            zip(constants, jax.tree.leaves(before), leaves, strict=True)
        )
    ]
    same = {id(old): new for old, new in zip(leaves, changed, strict=True)}
    return tree.unflatten(changed), jax.tree.map(lambda leaf: same.get(id(leaf), leaf), y)


def split_key(key: Any) -> tuple[Any, tuple[Any, ...]]:
    """A key of one's own, and what the cell inside is called with; nothing of nothing."""
    if key is None:
        return None, ()
    own, inner = jax.random.split(key)
    return own, (inner,)
