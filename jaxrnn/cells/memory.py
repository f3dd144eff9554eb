"""Memories that are matrices, all steps at once: what linear attention, delta nets and mLSTM share.

    Sₜ = aₜ ∘ Sₜ₋₁ + kₜ vₜᵀ                       yₜ = Sₜᵀ qₜ      a linear memory
    Sₜ = aₜ (I − βₜ kₜ kₜᵀ) Sₜ₋₁ + βₜ kₜ vₜᵀ      yₜ = Sₜᵀ qₜ      the gated delta rule

Time is cut into chunks. Products of matrices sum up each chunk for itself: what its outputs read of
what the chunk wrote, how they read the memory from before it, and what the chunk does to that memory.
A short scan over the chunks then finds the memories at their borders.

A decay of 0 is a wall that nothing passes: that is what a reset is. It must hold for NaN and Inf too.
So what is behind a wall is selected away before it is multiplied, for the sake of gradients, and after;
and steps that would write what is not finite write nothing, their outputs being NaN until the next
reset, as they are step by step.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cells.halves import across, assembled, halving, remaining, transposed

# Steps of a chunk. With K of them, products within chunks cost what those with memories [K, V] do.
CHUNK = range(16, 65)
# Numbers in the products [chunk, chunk] of the chunks that are summed up together.
TOGETHER = 1 << 20


class Writes(NamedTuple):
    """What the steps of a chunk do, [..., chunk, features]."""

    q: jax.Array
    k: jax.Array
    v: jax.Array
    decay: Any  # aₜ, [..., chunk, K], or [..., chunk, 1] with one for all of a head
    beta: Any = None  # [..., chunk, 1], of the delta rule


class Summary(NamedTuple):
    """A chunk. It makes of a memory S [K, V] before it: y = own + queries S, S' = keep · S + write."""

    own: jax.Array  # [..., chunk, V]
    queries: jax.Array  # [..., chunk, K]
    sees: jax.Array  # [..., chunk, 1], which of its steps have no wall between S and them
    keep: jax.Array  # [..., K, K], a matrix, or [..., K or 1, 1] to multiply with number by number
    passes: jax.Array  # [..., K or 1, 1], what of S has no wall before it in the whole chunk
    write: jax.Array  # [..., K, V]


def linear(
    memory: jax.Array,
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    decay: jax.Array | None,
    *,
    valid: jax.Array | None,
    resets: jax.Array | None,
    chunk: int | None,
) -> tuple[jax.Array, jax.Array]:
    """Sₜ = aₜ ∘ Sₜ₋₁ + kₜ vₜᵀ, yₜ = Sₜᵀ qₜ, for all t.

    Args:
      memory: S before the first step, [*batch, heads, K, V]; after a reset it is 0.
      q, k, v: [T, *batch, heads, K], the same, and [T, *batch, heads, V].
      decay: aₜ in [0, 1], [T, *batch, heads], or [T, *batch, heads, K] with one for each key channel;
        1 if None.
      valid, resets: bool [T, *batch] or None.
      chunk: how many steps are taken together, rounded up to a power of two; K if None, in 16 … 64.

    Returns:
      S after the last step, and y [T, *batch, heads, V].

    References: Hua et al., Transformer quality in linear time, 2022, arXiv:2202.10447; with decays Sun
    et al. 2023, arXiv:2307.08621; by channel Yang et al. 2023, arXiv:2312.06635, section 4.
    """
    summary = _by_channel
    if decay is None or decay.ndim < k.ndim:
        summary, decay = _by_head, _column(decay)
    return _run(summary, jnp.multiply, memory, Writes(q, k, v, decay), valid, resets, chunk)


def delta(
    memory: jax.Array,
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    decay: jax.Array | None,
    beta: jax.Array,
    *,
    valid: jax.Array | None,
    resets: jax.Array | None,
    chunk: int | None,
) -> tuple[jax.Array, jax.Array]:
    """Sₜ = aₜ (I − βₜ kₜ kₜᵀ) Sₜ₋₁ + βₜ kₜ vₜᵀ, yₜ = Sₜᵀ qₜ, for all t.

    Arguments as for `linear`, aₜ and βₜ [T, *batch, heads].

    References: Yang et al., Parallelizing linear transformers with the delta rule over sequence length,
    2024, arXiv:2406.06484; with decays Yang, Kautz & Hatamizadeh 2024, arXiv:2412.06464, section 3.3.
    """
    writes = Writes(q, k, v, _column(decay), _column(beta))
    return _run(_by_delta, jnp.matmul, memory, writes, valid, resets, chunk)


def _by_head(writes: Writes) -> Summary:
    """One decay for a head: a matrix of attention, times what time leaves."""
    halves, since, until = halving(writes.decay)
    left = assembled(jnp.ones_like(writes.decay), halves, remaining)
    attention = jnp.where(left > 0, writes.q @ transposed(writes.k), 0) * left
    return _added(writes, attention, since, until)


def _by_channel(writes: Writes) -> Summary:
    """A decay for each key channel: attention across the border of two halves is one product."""
    q, k = writes.q, writes.k
    halves, since, until = halving(writes.decay)
    attention = assembled((q * k).sum(-1, keepdims=True), halves, partial(across, q, k))
    return _added(writes, attention, since, until)


def _added(writes: Writes, attention: jax.Array, since: jax.Array, until: jax.Array) -> Summary:
    last = transposed(since[..., -1:, :])
    return Summary(
        own=attention @ writes.v,
        queries=writes.q * since,
        sees=(since > 0).any(-1, keepdims=True),
        keep=last,
        passes=last > 0,
        write=transposed(writes.k * until) @ writes.v,
    )


def _by_delta(writes: Writes) -> Summary:
    """What is written at t is uₜ = βₜ (vₜ − aₜ Sₜ₋₁ᵀ kₜ): a triangular system of equations.

        uₜ + βₜ Σₛ₍ₛ﹤ₜ₎ aₛ₊₁ … aₜ (kₜ·kₛ) uₛ = βₜ vₜ − βₜ a₁ … aₜ Sᵀ kₜ

    Solved for both of the right-hand side, u = values − keys S, it leaves a linear memory that is given
    values and keys. The inverse is found by halves: [A 0; C B]⁻¹ has −B⁻¹ C A⁻¹ in its corner.
    """
    q, k, v, decay, beta = writes
    halves, since, _ = halving(decay)

    def corner(after, before, early, late):
        return -late @ across(beta * k, k, after, before) @ early

    inverse = assembled(jnp.ones_like(beta), halves, corner)
    both = inverse @ jnp.concatenate([beta * v, beta * since * k], axis=-1)
    found = _by_head(Writes(q, k, both, decay))
    own, read = jnp.split(found.own, [v.shape[-1]], axis=-1)
    write, erase = jnp.split(found.write, [v.shape[-1]], axis=-1)
    return found._replace(
        own=own,
        queries=found.queries - read,
        keep=found.keep * jnp.eye(k.shape[-1], dtype=k.dtype) - erase,
        write=write,
    )


def _column(a: jax.Array | None) -> jax.Array | None:
    return None if a is None else a[..., None]


def _run(
    summary: Callable[[Writes], Summary],
    times: Callable[..., jax.Array],
    memory: jax.Array,
    writes: Writes,
    valid: jax.Array | None,
    resets: jax.Array | None,
    chunk: int | None,
) -> tuple[jax.Array, jax.Array]:
    """The memory after the last step, and all outputs."""
    length = writes.v.shape[0]
    dtype = jnp.result_type(memory, writes.q, writes.k, writes.v)
    if length == 0:
        return memory, writes.v.astype(dtype)
    exact = jax.tree.map(lambda a: a.astype(jnp.promote_types(dtype, jnp.float32)), writes)
    held, broken = _held(exact, valid, resets)
    count, chunks = _chunks(held, length, chunk)

    def through(memory, writes):
        found = summary(writes)

        def cross(memory, found):
            keep, passes, write = found
            return times(keep, jnp.where(passes, memory, 0)) + write, memory

        memory, before = jax.lax.scan(cross, memory, (found.keep, found.passes, found.write))
        queries = jnp.where(found.sees, found.queries, 0)
        return memory, found.own + jnp.where(found.sees, queries @ before, 0)

    # Zeros of what is written vary over the mesh axes that it varies over, and so does the memory then.
    first = memory + jnp.zeros_like(held.k, shape=memory.shape)
    if count == 1:  # else gradients sum up a group of chunks anew: only memories are kept
        one = jax.tree.map(lambda a: a[0], chunks)
        last, ys = through(first, one)
        ys = ys[None]
    else:
        last, ys = jax.lax.scan(jax.checkpoint(through, prevent_cse=False), first, chunks)
    ys = jnp.moveaxis(ys, -2, 2)
    ys = ys.reshape(ys.shape[0] * ys.shape[1] * ys.shape[2], *ys.shape[3:])[:length]
    nan = jnp.where(broken, jnp.nan, jnp.zeros_like(ys, shape=broken.shape))
    return (last + nan[-1][..., None]).astype(memory.dtype), (ys + nan).astype(dtype)


def _held(
    writes: Writes, valid: jax.Array | None, resets: jax.Array | None
) -> tuple[Writes, jax.Array]:
    """Steps that do nothing where invalid, walls at resets; and [T, *batch, heads, 1] since when NaN."""
    acts = jnp.isfinite(writes.k).all(-1, keepdims=True)
    for a in (writes.v, writes.decay, writes.beta):
        if a is not None:
            acts &= jnp.isfinite(a).all(-1, keepdims=True)
    fails = ~acts
    if valid is not None:
        acts, fails = acts & valid[..., None, None], fails & valid[..., None, None]
    times = jnp.expand_dims(jnp.arange(acts.shape[0]), range(1, acts.ndim))
    last = jax.lax.cummax(jnp.where(fails, times, -1), axis=0)
    broken = last >= 0
    walls = None if resets is None else resets[..., None, None]
    if walls is not None:
        broken &= last >= jax.lax.cummax(jnp.where(walls, times, -1), axis=0)

    if writes.decay is None:  # the same for all rows: what is left is found once
        decay = jnp.ones(times.shape, writes.k.dtype)
    else:
        decay = jnp.where(acts, writes.decay, 1)
    if walls is not None:
        decay = jnp.where(walls, 0, decay)
    k, v = jnp.where(acts, writes.k, 0), jnp.where(acts, writes.v, 0)
    beta = None if writes.beta is None else jnp.where(acts, writes.beta, 0)
    return Writes(writes.q, k, v, decay, beta), broken


def _chunks(writes: Writes, length: int, chunk: int | None) -> tuple[int, Writes]:
    """[count, together, *batch, heads, chunk, features], filled up with steps that do nothing."""
    chunk = chunk or max(CHUNK[0], min(CHUNK[-1], writes.k.shape[-1]))
    size = 1 << (min(chunk, length) - 1).bit_length()
    needed = -(-length // size)
    rows = writes.v[0, ..., 0].size
    together = max(1, min(needed, TOGETHER // max(1, rows * size * size)))
    count = -(-needed // together)

    def cut(a: jax.Array, fill: float = 0.0) -> jax.Array:
        filling = jnp.full_like(a, fill, shape=(count * together * size - length, *a.shape[1:]))
        a = jnp.concatenate([a, filling]).reshape(count, together, size, *a.shape[1:])
        return jnp.moveaxis(a, 2, -2)

    return count, jax.tree.map(cut, writes)._replace(decay=cut(writes.decay, 1.0))
