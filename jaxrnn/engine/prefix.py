"""Solves a linear recurrence in parallel: blocks of steps side by side, and a recurrence of blocks.

    reduce   every block alone, all blocks at once:  P = ∏ aₜ,  H = the block's end from 0
    solve    the recurrence of the blocks' ends:     Eₖ = Pₖ · Eₖ₋₁ + Hₖ   by the same means
    fill     every block from its true beginning, all blocks at once

Reading a and b twice and keeping nothing beats the textbook's scan, which keeps prefix products
(Blelloch, Prefix sums and their applications, 1990; reduce-then-scan: Merrill & Garland 2016). With
blocks of r steps the depth is 2r·logᵣ T. Blocks of 1 stand for JAX's `associative_scan`, a binary tree.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


class Way(NamedTuple):
    """How to solve a linear recurrence."""

    block: int | None = None  # steps that each block takes one after another; by the device if None


DEFAULT = Way()
BLOCK = 128  # on a CPU, where it was best for 64 channels and T of 2¹⁶ and 2²⁰ (benchmarks/reports)


def solve(a: Any, b: Any, h0: Any, *, matrix: bool, reverse: bool, way: Way) -> Any:
    """The h of a recurrence; a, b and h0 as `linear_recurrence` takes them."""
    block = way.block or (BLOCK if jax.default_backend() == "cpu" else 1)
    run = _tree if block == 1 else _blocks
    return run(a, b, h0, matrix, reverse, block)


def times(a: Any, h: Any, matrix: bool) -> Any:
    """The product a · h."""
    if not matrix:
        return a * h
    return (a * h[..., None, :]).sum(-1) if _small(a) else jnp.einsum("...ij,...j->...i", a, h)


def _after(late: Any, early: Any, matrix: bool) -> Any:
    """The product of two a, of which the second comes first in time."""
    if not matrix:
        return late * early
    if _small(late):
        return (late[..., :, :, None] * early[..., None, :, :]).sum(-2)
    return late @ early


def _small(a: Any) -> bool:
    """Whether to multiply by hand: a batch of tiny products is slow as a batch of calls."""
    return a.shape[-1] <= 4


def _step(a: Any, h: Any, b: Any, matrix: bool) -> Any:
    """One step, a · h + b, where 0 · NaN is 0: a reset leaves nothing of what was."""
    dropped = (a == 0).all(-1) if matrix else a == 0
    return jnp.where(dropped, b, times(a, h, matrix) + b)


def _blocks(a: Any, b: Any, h0: Any, matrix: bool, reverse: bool, size: int) -> Any:
    length = b.shape[0]
    if length <= size:
        return _one_by_one(a, b, h0, matrix, reverse)
    a, b = (_in_blocks(v, length, size, reverse) for v in (a, b))
    count = b.shape[0]

    def at(v: Any, i: Any) -> Any:
        """Step i of every block, in the order in which steps are taken."""
        if v.shape[1] == 1:
            return v[:, 0]
        return lax.dynamic_index_in_dim(v, size - 1 - i if reverse else i, 1, keepdims=False)

    def reduce(i: Any, state: Any) -> Any:
        product, end = state
        return _after(at(a, i), product, matrix), _step(at(a, i), end, at(b, i), matrix)

    start = at(a, 0), at(b, 0)
    products, ends = lax.fori_loop(1, size, reduce, start)
    ends = _blocks(products, ends, h0, matrix, reverse, size)
    starts = [ends[1:], h0[None]] if reverse else [h0[None], ends[:-1]]

    def fill(i: Any, state: Any) -> Any:
        h, out = state
        h = _step(at(a, i), h, at(b, i), matrix)
        place = size - 1 - i if reverse else i
        return h, lax.dynamic_update_index_in_dim(out, h, place, 1)

    _, out = lax.fori_loop(0, size, fill, (jnp.concatenate(starts), jnp.zeros_like(b)))
    out = out.reshape(count * size, *out.shape[2:])
    return out[-length:] if reverse else out[:length]


def _in_blocks(v: Any, length: int, size: int, reverse: bool) -> Any:
    """[blocks, size, ...]; what is missing is 0 and comes after the last step."""
    if v.shape[0] == 1 < length:
        return v[None]
    missing = -length % size
    padding = jnp.zeros_like(v, shape=(missing, *v.shape[1:]))
    v = jnp.concatenate([padding, v] if reverse else [v, padding]) if missing else v
    return v.reshape(-1, size, *v.shape[1:])


def _one_by_one(a: Any, b: Any, h0: Any, matrix: bool, reverse: bool) -> Any:
    def step(h: Any, ab: Any) -> tuple[Any, Any]:
        h = _step(ab[0], h, ab[1], matrix)
        return h, h

    if a.shape[0] == 1:
        fixed = a[0]
        return lax.scan(lambda h, b: step(h, (fixed, b)), h0, b, reverse=reverse)[1]
    return lax.scan(step, h0, (a, b), reverse=reverse)[1]


def _tree(a: Any, b: Any, h0: Any, matrix: bool, reverse: bool, _: int) -> Any:
    first = -1 if reverse else 0
    b = b.at[first].set(_step(a[first], h0, b[first], matrix))
    a = jnp.broadcast_to(a, (b.shape[0], *a.shape[1:]))

    def combine(early: Any, late: Any) -> Any:
        return _after(late[0], early[0], matrix), _step(late[0], early[1], late[1], matrix)

    return lax.associative_scan(combine, (a, b), reverse=reverse)[1]
