"""What the peers' files share: blocks of gates in other orders, and which cells a peer has."""

from collections.abc import Mapping
from typing import TypeVar

import jax
import jax.numpy as jnp

from benchmarks.entrants import Absent
from jaxrnn.cells import GRUParams

# The orders of jaxrnn's columns.
LSTM, GRU = "ifog", "rzn"

Made = TypeVar("Made")


def split(array: jax.Array, order: str) -> dict[str, jax.Array]:
    """Each gate's block of columns."""
    return dict(zip(order, jnp.split(array, len(order), axis=-1), strict=True))


def joined(blocks: Mapping[str, jax.Array], order: str) -> jax.Array:
    return jnp.concatenate([blocks[gate] for gate in order], axis=-1)


def reordered(array: jax.Array, old: str, new: str) -> jax.Array:
    """Columns of gates in a new order, as in `reordered(bias, "ifog", "ifgo")`."""
    return joined(split(array, old), new)


def found(made: Mapping[str, Made], cell: str, peer: str, lacks: Mapping[str, str]) -> Made:
    """What a peer has for a cell.

    Raises:
      Absent: if it has nothing; for the reason in `lacks` if there is one.
    """
    if cell not in made:
        raise Absent(lacks.get(cell, f"{peer} has no cell that computes {cell}"))
    return made[cell]


def one_bias(w: jax.Array, r: jax.Array, inputs: jax.Array, hidden: jax.Array) -> GRUParams:
    """Of a GRU with two biases: they are added, but within the reset, where the state's stays alone."""
    alone = 2 * inputs.size // 3
    return GRUParams(w, r, inputs.at[:alone].add(hidden[:alone]), hidden[alone:])
