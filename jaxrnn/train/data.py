"""Where batches come from: a pure function on the device, or an iterable on the host.

Both give a loop on the device its batches, those of some updates at a time:

    like()              a batch, or its shapes and dtypes
    take(start, stop)   what the device needs for the updates from start on, and up to which it lasts
    pick(taken, i, n)   the batch of update n, the i-th of those taken: traced
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import core
from jax.sharding import NamedSharding, PartitionSpec

from jaxrnn.train.sharding import on_mesh


class OnDevice:
    """The arrays the function closes over are arguments of the loop, not constants in its program."""

    def __init__(self, data: Callable[..., Any], sharding: Any):
        number = jax.ShapeDtypeStruct((), jnp.int32)
        self.traced, self.shape = jax.make_jaxpr(data, return_shape=True)(number)
        self.constants = on_mesh(list(map(jnp.asarray, self.traced.consts)), sharding)
        self.sharding = sharding

    def like(self) -> Any:
        return self.shape

    def take(self, start: int, stop: int) -> tuple[Any, int]:
        del start
        return self.constants, stop

    def pick(self, taken: Any, i: Any, n: Any) -> Any:
        del i
        leaves = core.eval_jaxpr(self.traced.jaxpr, taken, n)
        batch = jax.tree.unflatten(jax.tree.structure(self.shape), leaves)
        if self.sharding is None:
            return batch
        return jax.lax.with_sharding_constraint(batch, self.sharding)


class FromHost:
    """Stacks the batches of a chunk and transfers them at once."""

    def __init__(self, data: Iterable[Any], chunk: int, sharding: Any, start: int):
        self.chunk, self.sharding, self.count = chunk, sharding, start
        batches = endless(data)
        if (first := next(batches, None)) is None:
            raise ValueError("data holds no batch")
        self.first = jax.tree.map(np.asarray, first)
        self.batches = itertools.islice(itertools.chain([first], batches), start, None)

    def like(self) -> Any:
        if self.sharding is None:
            return self.first
        # With several processes, the global batch is larger than what this one has of it.
        whole = self.placed(jax.tree.map(lambda a: a[None], self.first))
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), whole)

    def take(self, start: int, stop: int) -> tuple[Any, int]:
        parts = list(itertools.islice(self.batches, stop - start))
        for i, part in enumerate(parts):
            check_batch(part, self.first, start + i)
        if not parts:
            return None, start
        # One shape for all chunks is one program for all: a shorter one is filled up.
        filled = parts + parts[-1:] * (self.chunk - len(parts))
        stacked = jax.tree.map(lambda *rows: np.stack(rows), *filled)
        return self.placed(stacked), start + len(parts)

    def placed(self, stacked: Any) -> Any:
        if self.sharding is None:
            return jax.device_put(stacked)

        def leaves(sharding: NamedSharding, part: Any) -> Any:
            chunked = NamedSharding(sharding.mesh, PartitionSpec(None, *sharding.spec))
            # With several processes, what each has is its part of the global batch.
            return jax.tree.map(lambda a: jax.make_array_from_process_local_data(chunked, a), part)

        return jax.tree.map(leaves, self.sharding, stacked)

    def pick(self, taken: Any, i: Any, n: Any) -> Any:
        del n
        return jax.tree.map(lambda a: jax.lax.dynamic_index_in_dim(a, i, keepdims=False), taken)


def endless(data: Iterable[Any]) -> Iterator[Any]:
    """The batches, again and again if they can be had again: an iterator ends where it ends."""
    again = iter(data)
    if again is data:
        yield from again
        return
    while True:
        empty = True
        for batch in again:
            empty = False
            yield batch
        if empty:
            return
        again = iter(data)


def check_batch(batch: Any, first: Any, number: int) -> None:
    if jax.tree.structure(batch) != jax.tree.structure(first):
        raise ValueError(
            f"batch {number} of data has the structure {jax.tree.structure(batch)}, the first has"
            f" {jax.tree.structure(first)}"
        )
    pairs = zip(jax.tree_util.tree_leaves_with_path(batch), jax.tree.leaves(first), strict=True)
    for (path, leaf), like in pairs:
        if np.shape(leaf) != like.shape or np.asarray(leaf).dtype != like.dtype:
            raise ValueError(
                f"batch{jax.tree_util.keystr(path)} number {number} of data is"
                f" {np.asarray(leaf).dtype}{list(np.shape(leaf))}, that of the first is"
                f" {like.dtype}{list(like.shape)}; all must be alike: drop a last one that is"
                " smaller, or pad it and mask the padding"
            )


Source = OnDevice | FromHost


def source(data: Any, chunk: int, sharding: Any, start: int) -> Source:
    if callable(data):
        return OnDevice(data, sharding)
    if not isinstance(data, Iterable):
        raise TypeError(
            "data must be a function of the update number or an iterable of batches, got"
            f" {type(data).__name__}"
        )
    return FromHost(data, chunk, sharding, start)
