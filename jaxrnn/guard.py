"""Padding, resets and noise, as part of a step.

All three are selections around the cell's own step, so every method runs them: a mask composes with
an associative scan as it does with a loop.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.engine.meshes import is_explicit


class Inputs(NamedTuple):
    """What a step is given: its x, and whether and how to take it. None where there is none."""

    x: Any
    valid: Any = None
    reset: Any = None
    key: Any = None


def guarded(step: Callable[..., Any], params: Any, initial: Any) -> Callable[..., Any]:
    """The step `carry, Inputs -> carry, y` that holds at invalid steps and restarts at resets.

    Both sides of a selection have a gradient, and 0 · NaN is NaN. So an invalid x is replaced before
    the cell sees it, and the result is dropped after.
    """

    def take(carry: Any, inputs: Inputs) -> tuple[Any, Any]:
        x, valid, reset, key = inputs
        held = carry
        if reset is not None:
            carry = select(reset, initial, carry)
        if valid is not None:
            x = select(valid, x, zeros(x))
        noise = () if key is None else (key,)
        carry, y = step(params, carry, x, *noise)
        if valid is not None:
            carry, y = select(valid, carry, held), select(valid, y, zeros(y))
        return carry, y

    return take


def all_steps(
    parallel: Callable[..., Any],
    params: Any,
    carry: Any,
    inputs: Inputs,
    reverse: bool,
    chunk: int | None,
) -> tuple[Any, Any]:
    """A cell's own form for all steps at once, guarded as its step is; noise it has none."""
    x, valid, resets, _ = jax.tree.map(lambda a: a[::-1], inputs) if reverse else inputs
    if valid is not None:
        x = select(valid, x, zeros(x))
        resets = None if resets is None else resets & valid
    carry, ys = parallel(params, carry, x, valid=valid, resets=resets, chunk=chunk)
    if valid is not None:
        ys = select(valid, ys, zeros(ys))
    return carry, jax.tree.map(lambda a: a[::-1], ys) if reverse else ys


def select(where: Any, yes: Any, no: Any) -> Any:
    """Selects whole rows: `where` has the batch axes of the leaves, but not their features."""

    def leaf(a: Any, b: Any) -> Any:
        features = tuple(range(where.ndim, jnp.ndim(a)))
        return jnp.where(jnp.expand_dims(where, features), a, b)

    return jax.tree.map(leaf, yes, no)


def zero_rows(x: Any, features: tuple[int, ...], dtype: Any) -> jax.Array:
    """0 [*batch, *features] for an x [*batch, D], over mesh axes as the batch of x is."""
    shape = (*x.shape[:-1], *features)
    if not is_explicit(x):
        return jnp.zeros_like(x, shape=shape, dtype=dtype)
    rows = _summed(x, -1).astype(dtype)
    return jnp.broadcast_to(jnp.expand_dims(rows, range(rows.ndim, len(shape))), shape)


def zeros(tree: Any) -> Any:
    return jax.tree.map(lambda a: zero(a, jnp.shape(a)), tree)


def template(xs: Any) -> Any:
    """One time step of zeros: the shape and dtype of x, which also varies over its mesh axes."""

    def leaf(a: Any) -> Any:
        if is_explicit(a) and jnp.issubdtype(a.dtype, jnp.number):
            return _summed(a, 0).astype(a.dtype)
        return zero(a, jnp.shape(a)[1:])

    return jax.tree.map(leaf, xs)


def _summed(a: Any, axis: int) -> jax.Array:
    """Zeros without one axis, split over mesh axes as the rest of a is.

    Of float32, as XLA:CPU does not survive a sum of complex zeros over an axis that is split.
    """
    return jnp.zeros_like(a, dtype=jnp.float32).sum(axis)


def zero(like: Any, shape: tuple[int, ...]) -> Any:
    """0 of the dtype of `like`, and of this shape. For a PRNG key that is the key whose data are 0."""
    if not jnp.issubdtype(jnp.result_type(like), jax.dtypes.prng_key):
        return jnp.zeros_like(like, shape=shape)
    data = jax.random.key_data(like)
    data = jnp.zeros_like(data, shape=(*shape, *data.shape[jnp.ndim(like) :]))
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(like))
