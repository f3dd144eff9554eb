"""`lax()`: the plain `jax.lax.scan`, the oracle every other method must agree with."""

from typing import Any

import jax

from jaxrnn.checks import plain
from jaxrnn.methods.base import Method, Problem


def lax(unroll: int | bool = 1) -> Method:
    """Scans the step as it is written. The oracle every other method must agree with.

    Args:
      unroll: how many steps one iteration of the loop holds, as in `jax.lax.scan`.
    """
    unroll = plain(unroll)
    given = "" if repr(unroll) == "1" else f"unroll={unroll}"  # True equals 1, and is not it
    return Method(name=f"lax({given})", options=unroll, run=_run)


def _run(problem: Problem, unroll: int | bool) -> tuple[Any, Any]:
    if problem.step is None:
        return problem.traced.run_as_traced(unroll)
    return jax.lax.scan(
        problem.step, problem.carry, problem.xs, reverse=problem.reverse, unroll=unroll
    )
