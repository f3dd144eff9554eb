"""Solves a linear recurrence in parallel: blocks of steps side by side, and a recurrence of blocks.

    reduce   every block alone, all blocks at once:  P = ∏ aₜ,  H = the block's end from 0
    solve    the recurrence of the blocks' ends:     Eₖ = Pₖ · Eₖ₋₁ + Hₖ   by the same means
    fill     every block from its true beginning, all blocks at once

Reading a and b twice and keeping nothing beats the textbook's scan, which keeps prefix products
(Blelloch, Prefix sums and their applications, 1990; reduce-then-scan: Merrill & Garland 2016). With
blocks of r steps the depth is 2r·logᵣ T. Blocks of 1 stand for JAX's `associative_scan`, a binary tree.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxrnn.engine import meshes
from jaxrnn.engine.jaxprs import assumed


class Way(NamedTuple):
    """How to solve a linear recurrence."""

    block: int | None = None  # steps that each block takes one after another; by the device if None
    mesh: Mesh | None = None
    axis: str | None = None  # of the mesh, over which time is split

    def size(self, h0: Any, length: int, matrix: bool) -> int:
        """How many steps a block takes: on a CPU all of them where a step has many numbers."""
        if self.block is not None:
            return self.block
        if jax.default_backend() != "cpu":
            return 1
        numbers = math.prod(assumed(h0.shape)) * (h0.shape[-1] if matrix else 1)
        numbers *= 2 if jnp.iscomplexobj(h0) else 1
        return BLOCK if numbers <= FEW else length


DEFAULT = Way()
# On a CPU: 128 steps of many blocks were as quick as any other number, and up to 1.2 times as quick as
# a loop where a step has 64 numbers of carry; where it has more, the loop was, up to 1.25 times
# (trials on 2 cores of a Zen 3, gradients of min_gru, rg_lru, lru and s5; no rows are kept of them).
BLOCK, FEW = 128, 64


def solve(a: Any, b: Any, h0: Any, *, matrix: bool, reverse: bool, way: Way) -> Any:
    """The h of a recurrence; a, b and h0 as `linear_recurrence` takes them."""
    if way.mesh is not None and way.axis is not None:
        return _split(a, b, h0, matrix, reverse, way)
    size = way.size(h0, b.shape[0], matrix)
    run = _tree if size == 1 else _blocks
    return run(a, b, h0, matrix, reverse, size)


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
    products, ends = _reduce(a, b, matrix, reverse)
    ends = _blocks(products, ends, h0, matrix, reverse, size)
    starts = [ends[1:], h0[None]] if reverse else [h0[None], ends[:-1]]

    def fill(i: Any, state: Any) -> Any:
        h, out = state
        place = size - 1 - i if reverse else i
        h = _step(_at(a, place), h, _at(b, place), matrix)
        return h, lax.dynamic_update_index_in_dim(out, h, place, 1)

    _, out = lax.fori_loop(0, size, fill, (jnp.concatenate(starts), jnp.zeros_like(b)))
    out = out.reshape(-1, *out.shape[2:])
    return out[-length:] if reverse else out[:length]


def _in_blocks(v: Any, length: int, size: int, reverse: bool, blocks: int | None = None) -> Any:
    """[blocks, size, ...]; what is missing is 0 and comes after the last step."""
    if v.shape[0] == 1 < length:
        return v[None]
    missing = -length % size if blocks is None else blocks * size - length
    before, after = (missing, 0) if reverse else (0, missing)
    padding = [(before, after, 0), *[(0, 0, 0)] * (v.ndim - 1)]
    v = lax.pad(v, jnp.zeros((), v.dtype), padding) if missing else v
    return v.reshape(-1, size, *v.shape[1:])


def _at(v: Any, place: Any) -> Any:
    """One step of every block; what never changes is the same at each."""
    if v.shape[1] == 1:
        return v[:, 0]
    return lax.dynamic_index_in_dim(v, place, 1, keepdims=False)


def _reduce(a: Any, b: Any, matrix: bool, reverse: bool) -> tuple[Any, Any]:
    """What each block does: its end is P · (its beginning) + H."""
    size = b.shape[1]

    def step(i: Any, state: Any) -> Any:
        product, end = state
        place = size - 1 - i if reverse else i
        now = _at(a, place)
        return _after(now, product, matrix), _step(now, end, _at(b, place), matrix)

    first = size - 1 if reverse else 0
    return lax.fori_loop(1, size, step, (_at(a, first), _at(b, first)))


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


def _split(a: Any, b: Any, h0: Any, matrix: bool, reverse: bool, way: Way) -> Any:
    """Each device solves its stretch of time, told by one summary of each other device how it begins."""
    assert way.mesh is not None
    assert way.axis is not None
    length, count = b.shape[0], way.mesh.shape[way.axis]
    size = -(-length // count)
    same = a.shape[0] == 1 < length  # never changes: every device has all of it
    # A stretch for every device, though the last ones may have no step of their own.
    a, b = (_in_blocks(v, length, size, reverse, count) for v in (a, b))
    local = Way(way.block)

    def stretch(a: Any, b: Any, h0: Any) -> Any:
        summary = _reduce(a, b, matrix, reverse)
        products, ends = (lax.all_gather(v, way.axis, tiled=True) for v in summary)
        h0 = lax.pcast(h0, way.axis, to="varying")
        ends = _one_by_one(products, ends, h0, matrix, reverse)
        starts = jnp.concatenate([ends[1:], h0[None]] if reverse else [h0[None], ends[:-1]])
        start = lax.dynamic_index_in_dim(starts, lax.axis_index(way.axis), 0, keepdims=False)
        return solve(a[0], b[0], start, matrix=matrix, reverse=reverse, way=local)[None]

    mesh = None if meshes.is_set() else way.mesh
    split = partial(jax.shard_map, mesh=mesh, axis_names={way.axis})
    in_time = P(way.axis)
    specs = (P() if same else in_time, in_time, P())
    out = split(stretch, in_specs=specs, out_specs=in_time)(a, b, h0)
    out = out.reshape(-1, *out.shape[2:])
    return out[-length:] if reverse else out[:length]
