"""One update: loss, gradient, clipping, optimizer, and what happens if a number is not finite."""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import core
from jax.extend import core as jex

from jaxrnn.kit import promoting
from jaxrnn.train import checks
from jaxrnn.train.state import State

Metrics = dict[str, Any]

with core.eval_context():
    _EAGER = jex.get_opaque_trace_state()  # what it is where nothing is being traced


def step(
    loss: Callable[..., Any], optimizer: Any, *, clip: Any = None, accumulate: int = 1
) -> Callable[[State, Any], tuple[State, Metrics]]:
    """A pure function that updates a state.

        g = ∇L(θ)     g ← g · min(1, clip / ‖g‖)     θ ← θ + optimizer(g)

    Args:
      loss: `loss(params, batch, key) -> value` or `(value, metrics)` if the state has no memory,
        else `loss(params, batch, key, memory) -> (value, metrics, memory)`. The value is a scalar,
        metrics a dict of arrays. No gradient goes through the memory.
      optimizer: an `optax.GradientTransformation`. It is given `value=`, the loss, so that
        `optax.contrib.reduce_on_plateau` works. May hold traced hyperparameters.
      clip: the largest global norm of the gradient, or None. May be traced.
      accumulate: k micro-batches make an update. Every leaf of the batch has a leading axis k;
        gradients, loss and metrics are means over it, and the memory goes from one to the next.

    Returns:
      `update(state, batch) -> (state, metrics)`, jitted; the buffers of the state it is given are
      reused (donated), so go on with the one it returns. Metrics are "loss", "gradient_norm"
      (before clipping) and those of the loss. Noise is drawn from `fold_in(state.key, state.count)`;
      micro-batch i of several has `fold_in` of that with i. If loss or gradient is not finite,
      params and moments stay as they were, and the state counts it; the memory goes on, as the next
      batch begins where this one ends, unless it is not finite itself.

    Raises:
      TypeError, ValueError: if the arguments do not fit; what the loss returns is checked by the
        first update, before it runs.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from jaxrnn import train
      >>> def loss(params, batch, key):
      ...     return jnp.mean((params["w"] - batch) ** 2)
      >>> optimizer = optax.sgd(0.25)
      >>> update = train.step(loss, optimizer)
      >>> state, metrics = update(train.init({"w": jnp.zeros(2)}, optimizer), jnp.ones(2))
      >>> state.params["w"].tolist(), float(metrics["loss"])
      ([0.25, 0.25], 1.0)
    """
    checks.check_optimizer(optimizer)
    checks.check_clip(clip)
    checks.check_count("accumulate", accumulate)
    # Optax counts on promotion, as its bias corrections do, whatever the loss is held to.
    apply = promoting(optax.with_extra_args_support(optimizer).update)
    differentiated = gradients(loss) if accumulate == 1 else accumulated(loss, accumulate)

    def updated(state: State, batch: Any) -> tuple[State, Metrics]:
        key = jax.random.fold_in(state.key, state.count)
        gradient, value, metrics, memory = differentiated(state.params, batch, key, state.memory)
        norm = global_norm(gradient)
        finite = jnp.isfinite(value) & jnp.isfinite(norm)
        if clip is not None:
            scale = jnp.minimum(1, clip / norm)
            gradient = jax.tree.map(lambda g: (g * scale).astype(g.dtype), gradient)
        change, moments = apply(gradient, state.moments, state.params, value=value)
        params = promoting(optax.apply_updates)(state.params, change)

        def kept(after: Any, before: Any, where: Any = finite) -> Any:
            return jax.tree.map(lambda a, b: jnp.where(where, a, b), after, before)

        after = State(
            params=kept(params, state.params),
            moments=kept(moments, state.moments),
            memory=kept(memory, state.memory, where=_is_finite(memory)),
            key=state.key,
            count=state.count + 1,
            skipped=jnp.where(finite, state.skipped, state.skipped + 1),
            failing=jnp.where(finite, 0, state.failing + 1),
        )
        return after, {"loss": value, "gradient_norm": norm, **metrics}

    donating, sharing = jax.jit(updated, donate_argnums=0), jax.jit(updated)

    @wraps(updated)
    def update(state: State, batch: Any) -> tuple[State, Metrics]:
        # Inside a transformation there is nothing to give away, and `vmap` would warn of trying.
        eager = jex.get_opaque_trace_state() == _EAGER
        return (donating if eager else sharing)(state, batch)

    return update


def gradients(loss: Callable[..., Any]) -> Callable[..., Any]:
    """The function params, batch, key, memory -> gradient, value, metrics, memory."""

    def value_of(params: Any, batch: Any, key: Any, memory: Any) -> Any:
        given = () if memory is None else (jax.lax.stop_gradient(memory),)
        result = loss(params, batch, key, *given)
        value, metrics, after = checks.check_loss(result, memory is not None)
        checks.check_memory(after, memory)
        return value, (metrics, after)

    def differentiated(params: Any, batch: Any, key: Any, memory: Any) -> Any:
        (value, (metrics, memory)), gradient = jax.value_and_grad(value_of, has_aux=True)(
            params, batch, key, memory
        )
        # JAX gives ∂L/∂x - i ∂L/∂y for z = x + iy; downhill is along its conjugate.
        return jax.tree.map(jnp.conj, gradient), value, metrics, memory

    return differentiated


def accumulated(loss: Callable[..., Any], accumulate: int) -> Callable[..., Any]:
    """The same over micro-batches, one after the other: the memory of one at a time."""
    once = gradients(loss)

    def differentiated(params: Any, batch: Any, key: Any, memory: Any) -> Any:
        checks.check_micro_batches(batch, accumulate)

        def micro(carry: Any, inputs: Any) -> Any:
            total, memory = carry
            i, part = inputs
            gradient, value, metrics, memory = once(
                params, part, jax.random.fold_in(key, i), memory
            )
            total = jax.tree.map(lambda t, g: t + g.astype(t.dtype), total, gradient)
            return (total, memory), (value, metrics)

        zero = jax.tree.map(lambda p: jnp.zeros_like(p, dtype=_wide(p.dtype)), params)
        numbers = jnp.arange(accumulate)
        (total, memory), (values, metrics) = jax.lax.scan(micro, (zero, memory), (numbers, batch))
        gradient = jax.tree.map(lambda t, p: (t / accumulate).astype(p.dtype), total, params)
        metrics = jax.tree.map(partial(jnp.mean, axis=0), metrics)
        return gradient, jnp.mean(values), metrics, memory

    return differentiated


def global_norm(tree: Any) -> jax.Array:
    """‖g‖ over all leaves, in float32 at least; finite if ‖g‖ is, though the squares overflow."""
    sizes = [jnp.abs(g.astype(_wide(g.dtype))) for g in jax.tree.leaves(tree)]
    largest = jnp.max(jnp.stack([jnp.max(size, initial=0) for size in sizes] or [jnp.zeros(())]))
    # All are divided by a power of two first, which rounds nothing.
    _, exponent = jnp.frexp(largest)
    unit = jnp.where(
        (largest >= 4 * jnp.finfo(largest.dtype).tiny) & jnp.isfinite(largest),
        jnp.ldexp(jnp.ones_like(largest), exponent - 1),
        1,
    )
    squares = [jnp.sum((size / unit.astype(size.dtype)) ** 2) for size in sizes]
    return unit * jnp.sqrt(sum(squares, jnp.zeros(())))


def _is_finite(tree: Any) -> Any:
    """Whether every number in a tree is finite."""
    numbers = [v for v in jax.tree.leaves(tree) if jnp.issubdtype(v.dtype, jnp.inexact)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(v)) for v in numbers] or [jnp.array(True)]))


def _wide(dtype: Any) -> Any:
    return jnp.promote_types(dtype, jnp.float32)
