"""What cells with heads share: how features are divided among them, and put together again."""

from itertools import accumulate
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.cells import parts


def check_heads(name: str, features: int, heads: Any, key_features: Any) -> tuple[int, int]:
    """K and V, the features of a key and of a value of one head."""
    for what, count in (("heads", heads), ("key_features", key_features)):
        if count is None and what == "key_features":
            continue
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"{name}() needs a positive number of {what}, got {count!r}")
    if features % heads:
        raise ValueError(
            f"{name}() divides its features among its heads, got {features} features and {heads}"
            f" heads; choose features that are a multiple of {heads}"
        )
    return key_features or features // heads, features // heads


def titled(name: str, features: int, *, heads: int, **options: Any) -> str:
    """The name as the user wrote it, without what is left as it is."""
    given = {"heads": None if heads == 1 else heads, **options}
    words = [str(features), *(f"{k}={v}" for k, v in given.items() if v is not None)]
    return f"{name}({', '.join(words)})"


def slab(
    init: parts.Initialiser, key: jax.Array, rows: int, widths: list[int], dtype: Any
) -> jax.Array:
    """A weight [rows, sum of widths], each block drawn by itself."""
    keys = jax.random.split(key, len(widths))
    drawn = [parts.weight(init, k, rows, n, dtype) for k, n in zip(keys, widths, strict=True)]
    return jnp.concatenate(drawn, axis=-1)


def blocks(a: jax.Array, widths: list[int]) -> list[jax.Array]:
    """The blocks of columns that a slab makes, each [*batch, width]."""
    return jnp.split(a, list(accumulate(widths[:-1])), axis=-1)


def split(a: jax.Array, heads: int, *features: int) -> jax.Array:
    """[*batch, heads · features] to [*batch, heads, *features]."""
    return a.reshape(*a.shape[:-1], heads, *(features or (a.shape[-1] // heads,)))


def joined(a: jax.Array) -> jax.Array:
    """[*batch, heads, V] to [*batch, heads · V]."""
    return a.reshape(*a.shape[:-2], a.shape[-2] * a.shape[-1])


def outer(k: jax.Array, v: jax.Array) -> jax.Array:
    """K vᵀ, [*batch, heads, K, V]."""
    return k[..., :, None] * v[..., None, :]


def read(s: jax.Array, q: jax.Array) -> jax.Array:
    """Sᵀ q, [*batch, heads, V]."""
    return jnp.einsum("...kv,...k->...v", s, q)
