"""How fast the machine itself is, and the least time in which it could run a case."""

import time
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.cases import Case
from benchmarks.gate import plain
from benchmarks.programs import OPTIMIZER, PASSES
from jaxrnn.engine import cost

COPIED = 64 << 20  # bytes: more than caches hold
ORDER = 2048  # of the matrices multiplied
TRIES = 5


class Rates(NamedTuple):
    copy_gbps: float  # read and written
    matmul_gflops: float


@cache
def rates(dtype: str) -> Rates:
    """What this machine reaches at its best when it only copies, or only multiplies matrices."""
    draw = np.random.default_rng(0).standard_normal
    flat = jnp.asarray(draw(COPIED // 4, dtype=np.float32))
    square = jnp.asarray(draw((ORDER, ORDER), dtype=np.float32), dtype)
    # A sum of one: a copy that the compiler cannot leave out.
    copying = _fastest(jax.jit(lambda a: a + 1), flat)
    multiplying = _fastest(jax.jit(jnp.matmul), square, square)
    return Rates(round(2e-9 * COPIED / copying, 1), round(2e-9 * ORDER**3 / multiplying, 1))


def _fastest(call: Callable[..., Any], *args: Any) -> float:
    jax.block_until_ready(call(*args))
    taken = []
    for _ in range(TRIES):
        start = time.perf_counter()
        jax.block_until_ready(call(*args))
        taken.append(time.perf_counter() - start)
    return min(taken)


class Work(NamedTuple):
    """What a pass cannot do without."""

    flops: int  # of `lax`, an elementary function of an element counted as one
    bytes: int  # of arguments and results, each read or written once

    def columns(self, seconds: float | None, dtype: str) -> dict[str, float | int | None]:
        """FLOP/s, and the least time as a share of the time taken."""
        machine = rates(dtype)
        row: dict[str, Any] = {"flops": self.flops, "gflops": None, "roofline": None}
        if seconds is not None:
            computing = self.flops / (1e9 * machine.matmul_gflops)
            moving = self.bytes / (1e9 * machine.copy_gbps)
            row |= {"gflops": round(1e-9 * self.flops / seconds, 2)}
            row |= {"roofline": round(max(computing, moving) / seconds, 4)}
        return {**row, **machine._asdict()}


def work(case: Case, name: str, params: Any, xs: Any) -> Work:
    """Counted from the shapes of the plain loop."""
    program = PASSES[name](plain(case))
    state = (params, OPTIMIZER.init(params)) if name == "update" else params
    closed, results = jax.make_jaxpr(program, return_shape=True)(state, xs)
    moved = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves((state, xs, results)))
    return Work(sum(map(cost.flops, closed.jaxpr.eqns)), moved)
