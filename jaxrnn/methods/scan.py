"""`scan()`: a loop that holds only what needs the carry."""

from functools import partial
from typing import Any

from jaxrnn.checks import plain
from jaxrnn.engine.jaxprs import source
from jaxrnn.engine.loop import Options
from jaxrnn.engine.prefix import Way
from jaxrnn.engine.scan import check_options, run_traced
from jaxrnn.engine.trajectory import along, obstacle, step_by_step
from jaxrnn.methods.base import Method, Problem


def scan(
    unroll: int | bool = 1,
    chunk: int | None = None,
    remat: bool = False,
    hoist: bool = True,
    defer: bool = True,
    feature_major: bool = False,
    backward: str = "loop",
) -> Method:
    """Scans what needs the carry; runs everything else for all time steps at once.

    Args:
      unroll: how many steps one iteration of the loop holds, as in `jax.lax.scan`.
      chunk: how many steps to take at a time (a scan of scans), None for all of them. Smaller arrays
        stay in the cache; T need not be a multiple; one that is a symbol (`jax.export`) runs in one
        piece.
      remat: keep only the carries between chunks for the backward pass and recompute the rest:
        memory O(T/chunk + chunk) instead of O(T). Needs `chunk`.
      hoist: compute before and after the loop what needs no carry.
      defer: compute weight gradients after the backward loop.
      feature_major: hold [F, B] in the loop where the step says [B, F], so that a product is
        W · v with W transposed before the loop: faster on CPUs where B is small and the weight
        large. A carry whose leaves do not share their first axis runs as it is written.
      backward: how the gradient meets time. "loop" runs the derivative of each step, backwards.
        "associative" makes the Jacobians of all steps at once, and solves the linear recurrence that the
        gradient is in O(log T) depth: one number for each element where the step is elementwise, N × N
        for a row of N numbers of carry where it is not. On a CPU that paid for one row of up to 8
        numbers of a GRU or an LSTM, and for linear recurrences as well as `associative()` does; for
        IndRNN the loop was faster.

    Raises:
      ValueError: if `chunk` is not a positive integer, if `remat` is set without it, or if `backward` is
        neither.
    """
    options = Options(plain(unroll), plain(chunk), remat, hoist, defer, feature_major)
    check_options(options)
    if backward not in ("loop", "associative"):
        raise ValueError(f'backward must be "loop" or "associative", got {backward!r}')
    # As they are written: True, which unrolls everything, equals 1, which unrolls nothing.
    usual = Options._field_defaults
    given = {k: v for k, v in options._asdict().items() if repr(v) != repr(usual[k])}
    given |= {} if backward == "loop" else {"backward": backward}
    shown = ", ".join(f"{k}={v!r}" for k, v in given.items())
    if backward == "associative":
        return Method(
            name=f"scan({shown})", options=options, run=_run_along, refuses=_refuses_along
        )
    return Method(name=f"scan({shown})", options=options, run=_run, refuses=_refuses)


def _run(problem: Problem, options: Options) -> tuple[Any, Any]:
    return run_traced(problem.traced, problem.reverse, options)


def _run_along(problem: Problem, options: Options) -> tuple[Any, Any]:
    runner = partial(along, step_by_step, None, Way())
    return run_traced(problem.traced, problem.reverse, options, runner)


def _refuses_along(problem: Problem, _: Options) -> str | None:
    loop = problem.traced.loop
    reason = None if loop is None else obstacle(loop, problem.name)
    return None if reason is None else f"{reason}: use methods.scan()"


def _refuses(problem: Problem, _: Options) -> str | None:
    loop = problem.traced.loop
    if loop is None or not loop.step.effects:
        return None
    eqn = next(e for e in loop.step.eqns if e.effects)
    return (
        f"moves the equations of a step about, and {problem.name} has one whose effect must happen in"
        f" its place: {eqn.primitive.name} ({source(eqn)}). Use methods.lax()"
    )
