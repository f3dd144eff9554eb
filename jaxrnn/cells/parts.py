"""What the cells share: initialisers, the sigmoid, and how a cell is put together."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn.core import Cell

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


def cell(
    name: str,
    init: Callable[..., Any],
    carry: Callable[..., Any],
    step: Callable[..., Any],
    *,
    parallel: Callable[..., Any] | None = None,
) -> Cell:
    """A cell whose step is written as textbooks print it, a bias [H] added to rows [*batch, H].

    So may its form for all steps at once be, `parallel`, where it has one.
    """
    promoted = promoting(step)

    @functools.wraps(step)
    def textbook(p: Any, carry: Any, x: Any, key: Any = None) -> tuple[Any, Any]:
        del key  # no noise
        return promoted(p, carry, x)

    return Cell(
        name=name,
        init=init,
        carry=carry,
        step=textbook,
        parallel=None if parallel is None else promoting(parallel),
    )


def promoting(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with NumPy's rank promotion, whatever JAX is configured to do."""

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        with jax.numpy_rank_promotion("allow"):
            return function(*args, **options)

    return call


def check_features(name: str, features: Any) -> None:
    if isinstance(features, bool) or not isinstance(features, int) or features < 1:
        raise ValueError(f"{name}() needs a positive number of features, got {features!r}")


def input_features(name: str, x: Any, dtype: Any = None) -> tuple[int, Any]:
    """D, and the dtype of the parameters: that of x unless one is given."""
    check_float(name, x)
    return x.shape[-1], x.dtype if dtype is None else jnp.dtype(dtype)


def check_float(name: str, x: Any) -> None:
    if not hasattr(x, "dtype") or not jnp.issubdtype(x.dtype, jnp.floating):
        came = x.dtype if hasattr(x, "dtype") else type(x).__name__
        raise TypeError(
            f"{name} multiplies x by a weight and needs floating-point x, got {came};"
            " cast it (astype), or embed tokens first"
        )
    if x.ndim == 0:
        raise ValueError(
            f"{name} needs x of shape [*batch, D], got a scalar; is the time axis missing?"
        )


def zero_carry(name: str, x: Any, p: Any, features: int) -> jax.Array:
    """0 [*batch, features] in the promoted dtype of x and the parameters."""
    check_float(name, x)
    rows = p.input.shape[0]
    if x.shape[-1] != rows:
        raise ValueError(
            f"{name} got x with {x.shape[-1]} features (shape {list(x.shape)}), but its params.input"
            f" {list(p.input.shape)} takes {rows}; initialise with an x of this size"
        )
    dtype = jnp.result_type(x.dtype, *(leaf.dtype for leaf in jax.tree.leaves(p)))
    return jnp.zeros_like(x, shape=(*x.shape[:-1], features), dtype=dtype)
