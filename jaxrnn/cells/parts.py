"""What the cells share: initialisers and the sigmoid."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Initialiser = Callable[..., jax.Array]  # key, shape, dtype -> array

glorot = jax.nn.initializers.glorot_uniform()  # Glorot & Bengio 2010
orthogonal = jax.nn.initializers.orthogonal()  # Saxe et al. 2014
uniform = jax.nn.initializers.uniform(1.0)


def sigmoid(x: jax.Array) -> jax.Array:
    """σ(x) = ½ tanh(½x) + ½: one transcendental, and no division."""
    return 0.5 * jnp.tanh(0.5 * x) + 0.5


def normalise(x: jax.Array) -> jax.Array:
    """(x − mean x) / √(var x + ε) over the last axis, ε = 10⁻⁵, in float32 at least."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    centred = wide - wide.mean(-1, keepdims=True)
    variance = jnp.square(centred).mean(-1, keepdims=True)
    return (centred * jax.lax.rsqrt(variance + 1e-5)).astype(x.dtype)


def weight(
    init: Initialiser, key: jax.Array, rows: int, columns: int, dtype: Any, *, gates: int = 1
) -> jax.Array:
    """A weight [rows, gates·columns], each gate's block drawn by itself."""
    keys = jax.random.split(key, gates)
    return jnp.concatenate([draw(init, k, (rows, columns), dtype) for k in keys], axis=-1)


def draw(init: Initialiser, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Drawn in float32 at least and then cast: an orthogonal matrix has no bfloat16 algorithm."""
    return init(key, shape, jnp.promote_types(dtype, jnp.float32)).astype(dtype)
