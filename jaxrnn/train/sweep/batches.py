"""The batches of a sweep: all on the device, as every setting goes through them."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.train.data import OnDevice, check_batch


def source(data: Any, updates: int) -> OnDevice:
    """The batches of `updates` updates, of a function or an iterable of batches.

    Raises:
      TypeError, ValueError: if there are none, too few, or they differ.
    """
    if callable(data):
        return OnDevice(data, None)
    if not hasattr(data, "__iter__"):
        raise TypeError(
            "data must be a function of the update number, or an iterable of batches, got"
            f" {type(data).__name__}"
        )
    batches = [jax.tree.map(np.asarray, batch) for batch in itertools.islice(data, updates)]
    if not batches:
        raise ValueError("data holds no batch")
    if len(batches) < updates and iter(data) is data:
        raise ValueError(
            f"data is an iterator and ended after {len(batches)} of {updates} batches; pass a list of"
            " them, to begin anew where it ends"
        )
    for number, batch in enumerate(batches):
        check_batch(batch, batches[0], number)
    stacked = jax.tree.map(lambda *rows: jax.device_put(np.stack(rows)), *batches)

    def batch_of(number: Any) -> Any:
        which = jnp.mod(number, len(batches))
        pick = jax.lax.dynamic_index_in_dim
        return jax.tree.map(lambda rows: pick(rows, which, keepdims=False), stacked)

    return OnDevice(batch_of, None)
