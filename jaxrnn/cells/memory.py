"""Memories that are matrices, all steps at once: what linear attention, delta nets and mLSTM share.

    Sₜ = aₜ ∘ Sₜ₋₁ + kₜ vₜᵀ                       yₜ = Sₜᵀ qₜ      a linear memory
    Sₜ = aₜ (I − βₜ kₜ kₜᵀ) Sₜ₋₁ + βₜ kₜ vₜᵀ      yₜ = Sₜᵀ qₜ      the gated delta rule

Time is cut into chunks. Products of matrices sum up each chunk for itself: what its outputs read of
what the chunk wrote, how they read the memory from before it, and what the chunk does to that memory.
A short scan over the chunks then finds the memories at their borders.

Decays are multiplied and never divided, by halves of a chunk: what is left of s at t is what is left
of s at a border between them, times what is left of that at t. So nothing overflows, and no digit is
lost. A decay of 0 is a wall that nothing passes: that is what a reset is. It must hold for NaN and Inf
too. So what is behind a wall is selected away before it is multiplied, for the sake of gradients, and
after; and steps that would write what is not finite write nothing, their outputs being NaN until the
next reset, as they are step by step.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

CHUNK = 64  # steps
TOGETHER = (
    1 << 20
)  # numbers in the products [chunk, chunk] of the chunks that are summed up together


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
    keep: (
        jax.Array
    )  # [..., K, K] to multiply with as a matrix, or [..., K or 1, 1] number by number
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
      chunk: how many steps are taken together, rounded up to a power of two; 64 if None.

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
    """One decay for a head: an attention matrix, weighted by what time leaves."""
    q, k, v, decay, _ = writes
    left, since, until = _left(decay)
    return Summary(
        own=_products(q, k, left) @ v,
        queries=q * since,
        sees=since > 0,
        keep=since[..., -1:, :],
        passes=since[..., -1:, :] > 0,
        write=_transposed(k * until) @ v,
    )


def _by_delta(writes: Writes) -> Summary:
    """What is written at t is uₜ = βₜ (vₜ − aₜ Sₜ₋₁ᵀ kₜ): a triangular system of equations.

        uₜ + βₜ Σₛ₍ₛ﹤ₜ₎ aₛ₊₁ … aₜ (kₜ·kₛ) uₛ = βₜ vₜ − βₜ a₁ … aₜ Sᵀ kₜ

    It is solved for both of the right-hand side, u = values − keys S; the rest is as for a head.
    """
    q, k, v, decay, beta = writes
    left, since, until = _left(decay)
    system = jnp.tril(beta * _products(k, k, left), -1)
    sides = jnp.concatenate([beta * v, beta * since * k], axis=-1)
    solved = jax.lax.linalg.triangular_solve(
        system, sides, left_side=True, lower=True, unit_diagonal=True
    )
    values, keys = jnp.split(solved, [v.shape[-1]], axis=-1)
    attention = _products(q, k, left)
    last, kept = since[..., -1:, :], _transposed(k * until)
    return Summary(
        own=attention @ values,
        queries=q * since - attention @ keys,
        sees=since > 0,
        keep=last * jnp.eye(k.shape[-1], dtype=k.dtype) - kept @ keys,
        passes=last > 0,
        write=kept @ values,
    )


def _by_channel(writes: Writes) -> Summary:
    """A decay for each key channel: the later half of a block reads the earlier one by their border."""
    q, k, v, decay, _ = writes
    halves, since, until = _halving(decay)
    own = (q * k).sum(-1, keepdims=True) * v
    for after, before in halves:
        early, late = _halves(own, after.shape[-2])
        (k_0, _), (_, q_1) = _halves(k, after.shape[-2]), _halves(q, after.shape[-2])
        weights = (q_1 * after) @ _transposed(k_0 * before)
        own = _whole(early, late + weights @ _halves(v, after.shape[-2])[0])
    last = _transposed(since[..., -1:, :])
    return Summary(
        own=own,
        queries=q * since,
        sees=(since > 0).any(-1, keepdims=True),
        keep=last,
        passes=last > 0,
        write=_transposed(k * until) @ v,
    )


def _left(decay: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What is left at t of what was written at s, [..., chunk, chunk], of 1 before, of s at the end."""
    halves, since, until = _halving(decay)
    left = jnp.ones_like(decay)[..., None]  # [..., blocks, 1, 1]
    for after, before in halves:
        early, late = left[..., ::2, :, :], left[..., 1::2, :, :]
        above = jnp.concatenate([early, jnp.zeros_like(early)], axis=-1)
        below = jnp.concatenate([after * _transposed(before), late], axis=-1)
        left = jnp.concatenate([above, below], axis=-2)
    return left[..., 0, :, :], since, until


def _products(q: jax.Array, k: jax.Array, left: jax.Array) -> jax.Array:
    """qₜ·kₛ times what is left of it."""
    return jnp.where(left > 0, q @ _transposed(k), 0) * left


def _halving(
    decay: jax.Array,
) -> tuple[list[tuple[jax.Array, jax.Array]], jax.Array, jax.Array]:
    """The products of decays to the borders of blocks, [..., blocks, steps, features].

    For blocks of 2, 4, 8, … steps: from the border between a block's halves to each step of the later
    half, and from each step of the earlier half to that border. Last, from the start of the chunk to
    each of its steps, and from each to the end.
    """
    since, until, halves = decay, jnp.ones_like(decay), []
    while (half := 1 << len(halves)) < decay.shape[-2]:
        (since_0, since_1), (until_0, until_1) = _halves(since, half), _halves(until, half)
        halves.append((since_1, until_0))
        since = _whole(since_0, since_1 * since_0[..., -1:, :])
        until = _whole(until_0 * since_1[..., -1:, :], until_1)
    return halves, since, until


def _halves(a: jax.Array, half: int) -> tuple[jax.Array, jax.Array]:
    """The earlier and the later halves of all blocks, [..., blocks, half, features]."""
    a = a.reshape(*a.shape[:-2], a.shape[-2] // (2 * half), 2, half, a.shape[-1])
    return a[..., 0, :, :], a[..., 1, :, :]


def _whole(early: jax.Array, late: jax.Array) -> jax.Array:
    a = jnp.stack([early, late], axis=-3)
    return a.reshape(*a.shape[:-4], a.shape[-4] * 2 * a.shape[-2], a.shape[-1])


def _column(a: jax.Array | None) -> jax.Array | None:
    return None if a is None else a[..., None]


def _transposed(a: jax.Array) -> jax.Array:
    return jnp.swapaxes(a, -1, -2)


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
    if count == 1:
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
    size = 1 << (min(chunk or CHUNK, length) - 1).bit_length()
    needed = -(-length // size)
    rows = writes.v[0, ..., 0].size
    together = max(1, min(needed, TOGETHER // max(1, rows * size * size)))
    count = -(-needed // together)

    def cut(a: jax.Array, fill: float = 0.0) -> jax.Array:
        filling = jnp.full_like(a, fill, shape=(count * together * size - length, *a.shape[1:]))
        a = jnp.concatenate([a, filling]).reshape(count, together, size, *a.shape[1:])
        return jnp.moveaxis(a, 2, -2)

    return count, jax.tree.map(cut, writes)._replace(decay=cut(writes.decay, 1.0))
