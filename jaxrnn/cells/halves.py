"""Matrices of one chunk of time, by halves: what a later step reads of an earlier one, and when.

Decays are multiplied and never divided: what is left of s at t is what is left of s at a border between
them, times what is left of that at t. So nothing overflows, and no digit is lost.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def halving(
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


def assembled(
    diagonal: jax.Array, halves: list[tuple[jax.Array, jax.Array]], corner: Callable[..., jax.Array]
) -> jax.Array:
    """A lower triangular matrix, [..., chunk, chunk]: blocks on the diagonal, and corners below them."""
    blocks = diagonal[..., None]
    for after, before in halves:
        early, late = blocks[..., ::2, :, :], blocks[..., 1::2, :, :]
        above = jnp.concatenate([early, jnp.zeros_like(early)], axis=-1)
        below = jnp.concatenate([corner(after, before, early, late), late], axis=-1)
        blocks = jnp.concatenate([above, below], axis=-2)
    return blocks[..., 0, :, :]


def remaining(after: jax.Array, before: jax.Array, *blocks: jax.Array) -> jax.Array:
    """What is left in the later halves of what was written in the earlier."""
    del blocks
    return after * transposed(before)


def across(
    q: jax.Array, k: jax.Array, after: jax.Array, before: jax.Array, *blocks: jax.Array
) -> jax.Array:
    """What the later halves read of the earlier: qₜ·kₛ, times what is left of it channel by channel."""
    del blocks
    (k_0, _), (_, q_1) = _halves(k, before.shape[-2]), _halves(q, after.shape[-2])
    return (q_1 * after) @ transposed(k_0 * before)


def _halves(a: jax.Array, half: int) -> tuple[jax.Array, jax.Array]:
    """The earlier and the later halves of all blocks, [..., blocks, half, features]."""
    a = a.reshape(*a.shape[:-2], a.shape[-2] // (2 * half), 2, half, a.shape[-1])
    return a[..., 0, :, :], a[..., 1, :, :]


def _whole(early: jax.Array, late: jax.Array) -> jax.Array:
    a = jnp.stack([early, late], axis=-3)
    return a.reshape(*a.shape[:-4], a.shape[-4] * 2 * a.shape[-2], a.shape[-1])


def transposed(a: jax.Array) -> jax.Array:
    return jnp.swapaxes(a, -1, -2)
