"""What training knows at a moment: a pytree of arrays, and nothing beside it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.kit import promoting
from jaxrnn.train import checks


class State(NamedTuple):
    """Everything an update needs and changes. To save it is to save the run."""

    params: Any
    moments: Any  # of the optimizer
    memory: Any  # goes from update to update, and no gradient: a carry of an RNN; None if nothing
    key: jax.Array  # the noise of update n is drawn from fold_in(key, n)
    # int32: updates tried so far, the position in the data
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    skipped: jax.Array  # int32: of these, skipped in all, as loss or gradient was not finite
    failing: jax.Array  # int32: of these, in a row just now


def init(params: Any, optimizer: Any, *, key: Any = None, memory: Any = None) -> State:
    """The state before the first update.

    Args:
      params: a pytree of arrays.
      optimizer: an `optax.GradientTransformation`.
      key: a key made by `jax.random.key`; `jax.random.key(0)` if None.
      memory: what the loss is given as `memory` by the first update, a pytree of arrays. None for
        a loss that takes none.

    Returns:
      A `State` of copies: an update gives the buffers of its state away (donation), and these are
      nobody else's.

    Raises:
      TypeError, ValueError: if the arguments do not fit.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from jaxrnn import train
      >>> state = train.init({"w": jnp.ones(3)}, optax.adam(1e-3))
      >>> int(state.count), state.memory
      (0, None)
    """
    checks.check_optimizer(optimizer)
    checks.check_key(key)
    zero = jnp.zeros((), jnp.int32)
    key = jax.random.key(0) if key is None else key
    state = State(params, promoting(optimizer.init)(params), memory, key, zero, zero, zero)
    return jax.tree.map(copied, state)


def copied(leaf: Any) -> jax.Array:
    """A copy, not weakly typed: after an update its type is what it was before."""
    return jnp.array(leaf, jnp.result_type(leaf), copy=True)
