"""Layers to wrap, what they read, and the names of their parameters."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import around, cells, inside
from tests.peers.agreement import quickly

B, T, D, H = 3, 5, 2, 4


class Wrapped(NamedTuple):
    layer: Any
    inputs: jax.Array  # [B, T, ...]
    names: set[str]


def drawn(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


FLOATS, SYMBOLS = drawn(B, T, D), jnp.arange(B * T).reshape(B, T) % 7
LENGTHS = jnp.array([5, 0, 3])

DIRECTIONS = {
    f"{way}/{name}" for way in ("forward", "backward") for name in ("input", "recurrent", "bias")
}
CASES = {
    "cell": Wrapped(cells.lstm(H), FLOATS, {"input", "recurrent", "bias"}),
    "combinator": Wrapped(
        inside.learned_carry(cells.gru(H)),
        FLOATS,
        {*(f"cell/{name}" for name in ("input", "recurrent", "bias", "recurrent_bias")), "carry"},
    ),
    "stack": Wrapped(
        around.stack(
            around.embed(7, D), around.bidirectional(cells.elman(H)), around.dropout(0.5, "step")
        ),
        SYMBOLS,
        {"0/embedding", *(f"1/{name}" for name in DIRECTIONS)},
    ),
}


def names(tree: Any, last: Any = None) -> set[str]:
    """The names of the leaves of nested dictionaries."""
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=last)
    return {jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves}


def time_first(value: jax.Array) -> jax.Array:
    return jnp.moveaxis(value, 1, 0)


def with_gradient(function: Callable[[Any], Any], params: Any) -> tuple[Any, Any]:
    """What it returns, and the gradient of the sum of their sines."""

    @quickly
    @partial(jax.grad, has_aux=True)
    def both(params):
        results = function(params)
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(results)), results

    gradient, results = both(params)
    return results, gradient
