"""Truncated backpropagation through time, with a carry that goes on from update to update."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.sharding import NamedSharding, PartitionSpec

from jaxrnn import core
from jaxrnn.checks import as_flags, check_run
from jaxrnn.guard import template
from jaxrnn.methods.base import Method
from jaxrnn.train import checks


class Past(NamedTuple):
    """The steps an update runs again: the last k2 - k1 before its own, and the carry before them."""

    carry: Any
    xs: Any  # [k2 - k1, *batch, ...]
    valid: Any  # bool [k2 - k1] or [k2 - k1, *batch]; None if k2 = k1
    resets: Any  # bool [k2 - k1, *batch]; None if batches have none


def tbptt(
    layer: core.Cell | core.Layer,
    loss: Callable[[Any, Any], Any],
    k1: int,
    k2: int | None = None,
    *,
    method: Method | None = None,
) -> tuple[Callable[..., Any], Callable[..., Past]]:
    """Backpropagation through k2 steps after every k1 steps: TBPTT(k1, k2).

        update n:   L = loss(y of the steps n·k1 … n·k1 + k1 - 1),   ∂/∂θ through the last k2 steps

    Each output counts once. With k2 = k1, as most do it, the gradient of a window's first output
    reaches one step back; with k2 = 2 k1 that of every output reaches k1 steps at least. The carry
    goes on without a gradient. Steps that are run again are run with the params and noise of now.

    Args:
      layer: a cell or a layer; one that needs the whole sequence, as a bidirectional one, will not do.
      loss: `loss(ys, batch) -> value` or `(value, metrics)`; ys are the outputs [k1, *batch, ...] of
        the new steps.
      k1: new steps of an update.
      k2: steps the gradient goes back, at least k1; k1 if None.
      method: how to run, one of `jaxrnn.methods`.

    Returns:
      Two functions. The first is a loss for `step` and `fit`, to be given

          batch = {"xs": [k1, *batch, ...], …}      with "valid" and "resets", bool [k1, *batch], if any

      The second, `memory(params, batch)`, makes the memory before the first update; of the batch,
      shapes and dtypes count only.

    Raises:
      TypeError, ValueError: if the arguments do not fit.

    Reference: Williams & Peng, An efficient gradient-based algorithm for on-line training of recurrent
    network trajectories, Neural Computation 2, 1990.

    Examples:
      >>> import jax, jax.numpy as jnp, optax
      >>> from jaxrnn import cells, train
      >>> cell = cells.gru(4)
      >>> batch = {"xs": jnp.ones((5, 2, 3)), "targets": jnp.zeros((5, 2, 4))}
      >>> params = cell.init(jax.random.key(0), batch["xs"][0])
      >>> loss, memory = train.tbptt(
      ...     cell, lambda ys, batch: train.mean_squared_error(ys, batch["targets"]), k1=5, k2=8
      ... )
      >>> optimizer = optax.adam(0.01)
      >>> state = train.init(params, optimizer, memory=memory(params, batch))
      >>> state, metrics = train.step(loss, optimizer)(state, batch)
      >>> state.memory.xs.shape
      (3, 2, 3)
    """
    k2 = k1 if k2 is None else k2
    checks.check_count("k1", k1)
    checks.check_count("k2", k2, k1)
    if layer.step is None or getattr(layer, "stride", 1) != 1:
        raise ValueError(
            f"tbptt() goes on step by step, which {layer} cannot: it needs whole sequences"
        )

    def initial(params: Any, batch: Any) -> Past:
        checks.check_window(batch, k1)
        xs = batch["xs"]
        x = template(xs)
        carry = _split_as(xs, layer.carry(params, x))
        if k1 == k2:
            return Past(carry, None, None, None)
        valid, resets = (as_flags(name, batch.get(name)) for name in ("valid", "resets"))
        shape = () if valid is None else valid.shape[1:]
        return Past(
            carry,
            jax.tree.map(lambda a: jnp.broadcast_to(a[None], (k2 - k1, *a.shape)), x),
            jnp.zeros((k2 - k1, *shape), bool),  # there is none yet
            None if resets is None else jnp.zeros((k2 - k1, *resets.shape[1:]), bool),
        )

    def windowed(params: Any, batch: Any, key: Any, past: Past) -> tuple[Any, dict[str, Any], Past]:
        checks.check_window(batch, k1)
        xs = batch["xs"]
        valid, resets = (as_flags(name, batch.get(name)) for name in ("valid", "resets"))
        if k1 < k2:
            if valid is None:
                valid = jnp.ones((k1, *past.valid.shape[1:]), bool)
            old = (past.xs, past.valid, past.resets)
            xs, valid, resets = jax.tree.map(_joined, old, (xs, valid, resets))
        check_run(layer, params, xs, past.carry, None, valid, resets, key)
        flags = core.time_flags(xs, None, valid, resets, key)
        drawn = params
        if key is not None:  # without one there is no noise, as where a model is evaluated
            drawn = core.draw(layer, params, template(xs), core.sequence_key(key))

        def run(begin: int, end: int, carry: Any) -> tuple[Any, Any]:
            part, told = jax.tree.map(lambda a: a[begin:end], (xs, flags))
            return core.lift(layer).run(drawn, part, carry, **told, reverse=False, method=method)

        carry, ys = run(0, k1, past.carry)
        after = Past(carry, None, None, None)
        if k1 < k2:
            _, later = run(k1, k2, carry)
            ys = jax.tree.map(lambda a, b: _joined(a, b)[-k1:], ys, later)
            after = Past(carry, *jax.tree.map(lambda a: a[k1:], (xs, valid, resets)))
        result = loss(ys, batch)
        value, metrics = result if isinstance(result, tuple) else (result, {})
        return value, metrics, jax.lax.stop_gradient(after)

    return windowed, initial


def _split_as(xs: Any, carry: Any) -> Any:
    """The first carry, its rows over the devices as those of xs: what is made of shapes is on one."""
    x = jax.tree.leaves(xs)[0]
    placed = None if isinstance(x, Tracer) else getattr(x, "sharding", None)
    if not isinstance(placed, NamedSharding):
        return carry
    rows = tuple(placed.spec)[1:2]

    def leaf(a: jax.Array) -> jax.Array:
        if not rows or a.shape[:1] != x.shape[1:2]:
            return a
        return jax.device_put(a, NamedSharding(placed.mesh, PartitionSpec(*rows)))

    return jax.tree.map(leaf, carry)


def _joined(before: jax.Array, after: jax.Array) -> jax.Array:
    return jnp.concatenate([before, after])
