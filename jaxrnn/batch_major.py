"""Sequences with time after the batch, [*batch, T, *features], as Flax has them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import core
from jaxrnn.core import Cell, Layer


def check_layer(layer: Any, name: str) -> None:
    if not isinstance(layer, Cell | Layer):
        raise TypeError(
            f"{name}() takes a Cell or a Layer of jaxrnn, e.g. jaxrnn.cells.lstm(64), got"
            f" {type(layer).__name__}; a cell of Flax is run by Flax's RNN, or by jaxrnn.scan"
        )


def time_axis(inputs: Any, time_major: bool, feature_axes: int | None) -> int:
    """Where time stands: at 0, or after the batch.

    The last `feature_axes` axes are features. None: one, but none of integers, which are symbols.

    Raises:
      TypeError: if `inputs` holds something else than arrays.
      ValueError: if it has too few axes, or its leaves differ in batch or T.
    """
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(inputs):
        name = "inputs" + jax.tree_util.keystr(path)
        if not hasattr(leaf, "ndim"):
            raise TypeError(
                f"{name} must be an array, got {type(leaf).__name__}; stack a list of steps with"
                " jnp.stack"
            )
        features = feature_axes
        if features is None:
            features = 0 if jnp.issubdtype(leaf.dtype, jnp.integer) else 1
        axis = 0 if time_major else leaf.ndim - 1 - features
        if not 0 <= axis < leaf.ndim:
            layout = "[T, *batch, ...]" if time_major else "[*batch, T, *features]"
            raise ValueError(
                f"{name} needs a time axis, {layout}, got {list(leaf.shape)} with {features} axes of"
                " features; say how many with feature_axes="
            )
        found[name] = leaf.shape[: axis + 1]
    if len(set(found.values())) > 1:
        told = ", ".join(f"{name} {list(lead)}" for name, lead in found.items())
        raise ValueError(f"the leaves of inputs differ in what is before the features: {told}")
    if not found:
        raise ValueError("inputs holds no array; pass arrays of shape [*batch, T, *features]")
    return len(next(iter(found.values()))) - 1


def one_step(inputs: Any, axis: int) -> Any:
    """The types of x: `inputs` without time."""

    def step(leaf: Any) -> jax.ShapeDtypeStruct:
        shape = leaf.shape[:axis] + leaf.shape[axis + 1 :]
        return jax.ShapeDtypeStruct(shape, jnp.result_type(leaf))

    return jax.tree.map(step, inputs)


def run(
    layer: Cell | Layer,
    params: Any,
    inputs: Any,
    carry: Any,
    axis: int,
    *,
    mask: Any,
    resets: Any,
    **options: Any,
) -> tuple[Any, Any]:
    """`jaxrnn.run` with time at `axis` of inputs and outputs; that of mask and resets is their last.

    With `axis` 0 they are all [T, *batch].
    """
    if axis == 0:
        return core.run(layer, params, inputs, carry, mask=mask, resets=resets, **options)
    rows = jax.tree.leaves(inputs)[0].shape[: axis + 1]
    for name, flags in (("mask", mask), ("resets", resets)):
        if flags is not None and np.shape(flags) != rows:
            raise ValueError(
                f"{name} must be [*batch, T] = {list(rows)}, as inputs begins, got"
                f" {list(np.shape(flags))}"
            )
    flags = {
        name: None if value is None else jnp.moveaxis(jnp.asarray(value), -1, 0)
        for name, value in (("mask", mask), ("resets", resets))
    }
    xs = jax.tree.map(lambda a: jnp.moveaxis(jnp.asarray(a), axis, 0), inputs)
    carry, ys = core.run(layer, params, xs, carry, **flags, **options)
    return carry, jax.tree.map(lambda a: jnp.moveaxis(a, 0, axis), ys)
