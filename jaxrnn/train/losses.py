"""Losses and regularisers of sequences. Time leads: [T, *batch, ...].

`valid` is bool [T, *batch]. What stands at an invalid position, NaN too, changes neither the value
nor a gradient: it is replaced before anything is computed with it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrnn.checks import as_flags
from jaxrnn.guard import select, zeros
from jaxrnn.named import named_leaves


def cross_entropy(logits: Any, labels: Any, valid: Any = None) -> jax.Array:
    """Mean of -log softmax(logits)[label] over the valid positions, in nats.

    Args:
      logits: [T, *batch, K], or any leading axes.
      labels: int [T, *batch]. One outside 0..K-1 at a valid position makes the loss NaN.
      valid: bool [T, *batch]; None if all are.

    Returns:
      A scalar, in float32 at least; 0 if nothing is valid.

    Raises:
      TypeError, ValueError: if shapes or dtypes do not fit.
    """
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    _check_labels(labels)
    _check_shape("labels", labels, logits.shape[:-1], "logits without its last axis")
    valid = as_flags("valid", valid)
    logits, labels = _blanked("cross_entropy", valid, logits, labels)
    logits = logits.astype(_wide(logits.dtype))
    chosen = jnp.take_along_axis(logits, labels[..., None], -1, mode="clip")[..., 0]
    nats = jax.nn.logsumexp(logits, axis=-1) - chosen
    known = (labels >= 0) & (labels < logits.shape[-1])
    return masked_mean(jnp.where(known, nats, jnp.nan), valid)


def mean_squared_error(ys: Any, targets: Any, valid: Any = None) -> jax.Array:
    """Mean of (y - target)² over the valid positions and all features.

    Args:
      ys: [T, *batch, ...].
      targets: the same shape.
      valid: bool [T, *batch]; None if all are.

    Returns:
      A scalar, in float32 at least; 0 if nothing is valid.

    Raises:
      ValueError: if shapes do not fit.
    """
    ys, targets = jnp.asarray(ys), jnp.asarray(targets)
    _check_shape("targets", targets, ys.shape, "ys")
    valid = as_flags("valid", valid)
    ys, targets = _blanked("mean_squared_error", valid, ys, targets)
    return masked_mean(_square(ys - targets), valid)


def ctc(
    logits: Any,
    labels: Any,
    *,
    lengths: Any = None,
    valid: Any = None,
    label_lengths: Any = None,
    blank: int = 0,
) -> jax.Array:
    """Connectionist temporal classification: mean over the rows of -log p(labels | logits).

        p(labels | logits) = Σ over all alignments π of Πₜ softmax(logitsₜ)[πₜ]

    Args:
      logits: [T, *batch, K].
      labels: int [N, *batch], without blanks, right-padded.
      lengths: int [*batch], of the logits; None if all T steps count. Not together with `valid`.
      valid: bool [T, *batch], instead of lengths.
      label_lengths: int [*batch]; None if all N count.
      blank: which of the K is the blank.

    Returns:
      A scalar. A row whose labels do not fit into its steps costs about 1e5 (Optax's log ε).

    Raises:
      TypeError, ValueError: if shapes or dtypes do not fit.

    Reference: Graves et al., Connectionist temporal classification, ICML 2006.
    """
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    _check_labels(labels)
    batch, classes = logits.shape[1:-1], logits.shape[-1]
    _check_shape("labels", labels, (*labels.shape[:1], *batch), "[N, *batch] of the logits")
    if not 0 <= blank < classes:
        raise ValueError(f"blank must be one of the {classes} classes, got {blank}")
    valid = as_flags("valid", valid)
    if lengths is not None and valid is not None:
        raise ValueError("got lengths and valid; pass one: lengths is the mask t < lengths")
    if valid is None:
        valid = _before("lengths", lengths, logits.shape[0], batch)
    real = _before("label_lengths", label_lengths, labels.shape[0], batch)
    (logits,) = _blanked("ctc", valid, logits)
    rows = optax.ctc_loss(
        _rows(logits.astype(_wide(logits.dtype)), (classes,)),
        _rows(~valid).astype(jnp.float32),
        _rows(jnp.where(real, labels, blank)),
        _rows(~real).astype(jnp.float32),
        blank_id=blank,
    )
    return masked_mean(rows, None)


def no_biases(name: str, leaf: Any) -> bool:
    """Whether a leaf is a weight: that of a name like "0/recurrent" is, of "0/recurrent_bias" not."""
    del leaf
    return "bias" not in name.rsplit("/", 1)[-1]


def l1(params: Any, scale: Any, leaves: Callable[[str, Any], bool] = no_biases) -> jax.Array:
    """λ Σ |θ| over the leaves for which `leaves(name, leaf)` holds. λ may be traced."""
    chosen = [p for name, p in named_leaves(params).items() if leaves(name, p)]
    return scale * sum((jnp.sum(jnp.abs(p)) for p in chosen), jnp.zeros(()))


def l2(params: Any, scale: Any, leaves: Callable[[str, Any], bool] = no_biases) -> jax.Array:
    """λ Σ θ² over the leaves for which `leaves(name, leaf)` holds. λ may be traced."""
    chosen = [p for name, p in named_leaves(params).items() if leaves(name, p)]
    return scale * sum((jnp.sum(_square(p)) for p in chosen), jnp.zeros(()))


def activation(ys: Any, scale: Any, valid: Any = None) -> jax.Array:
    """AR: α mean(yₜ²), which keeps outputs small.

    Args:
      ys: [T, *batch, ...].
      scale: α. May be traced.
      valid: bool [T, *batch]; None if all are.

    Reference: Merity, McCann & Socher, Revisiting activation regularization, arXiv:1708.01009.
    """
    ys = jnp.asarray(ys)
    valid = as_flags("valid", valid)
    (ys,) = _blanked("activation", valid, ys)
    return scale * masked_mean(_square(ys), valid)


def temporal_activation(ys: Any, scale: Any, valid: Any = None) -> jax.Array:
    """TAR: β mean((yₜ₊₁ - yₜ)²), which keeps outputs slow. A pair counts if both are valid.

    Args:
      ys: [T, *batch, ...]; 0 if T is 1.
      scale: β. May be traced.
      valid: bool [T, *batch]; None if all are.

    Reference: Merity, McCann & Socher, Revisiting activation regularization, arXiv:1708.01009.
    """
    ys = jnp.asarray(ys)
    valid = as_flags("valid", valid)
    (ys,) = _blanked("temporal_activation", valid, ys)
    pairs = None if valid is None else valid[1:] & valid[:-1]
    return scale * masked_mean(_square(ys[1:] - ys[:-1]), pairs)


def masked_mean(values: Any, valid: Any) -> jax.Array:
    """Mean over the positions of `values` [T, *batch, ...] that `valid` [T, *batch] names, 0 if none."""
    if valid is None:
        return jnp.sum(values) / max(values.size, 1)
    each = values.size // max(valid.size, 1)
    total = jnp.sum(select(valid, values, zeros(values)))
    return total / jnp.maximum(jnp.sum(valid) * each, 1).astype(values.dtype)


def _blanked(name: str, valid: Any, *arrays: Any) -> tuple[Any, ...]:
    if valid is None:
        return arrays
    if valid.dtype != jnp.bool_:
        raise TypeError(f"{name}() needs valid of bool, got {valid.dtype}; compare it, e.g. != 0")
    for array in arrays:
        _check_shape("valid", valid, array.shape[: valid.ndim], "the leading axes, [T, *batch],")
    return tuple(select(valid, array, zeros(array)) for array in arrays)


def _before(name: str, lengths: Any, total: int, batch: tuple[int, ...]) -> jax.Array:
    if lengths is None:
        return jnp.ones((total, *batch), bool)
    lengths = jnp.asarray(lengths)
    _check_shape(name, lengths, batch, "[*batch] of the logits")
    return jnp.arange(total).reshape(total, *(1 for _ in batch)) < lengths[None]


def _rows(array: jax.Array, features: tuple[int, ...] = ()) -> jax.Array:
    """[T, *batch, *features] as [rows, T, *features], which is how Optax has it."""
    return jnp.moveaxis(array.reshape(array.shape[0], -1, *features), 0, 1)


def _square(values: jax.Array) -> jax.Array:
    return jnp.abs(values.astype(_wide(values.dtype))) ** 2


def _wide(dtype: Any) -> Any:
    return jnp.promote_types(dtype, jnp.float32)


def _check_labels(labels: jax.Array) -> None:
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels must be integers, got {labels.dtype}; of one-hot rows take argmax")


def _check_shape(name: str, array: Any, wanted: tuple[int, ...], of: str) -> None:
    if array.shape != wanted:
        raise ValueError(f"{name} must have the shape of {of}: {wanted}, got {array.shape}")
