"""`scan()`: a loop that holds only what needs the carry."""

from typing import Any

from jaxrnn.engine.jaxprs import source
from jaxrnn.engine.loop import Options
from jaxrnn.engine.scan import check_options, run_traced
from jaxrnn.methods.base import Method, Problem


def scan(
    unroll: int | bool = 1,
    chunk: int | None = None,
    remat: bool = False,
    hoist: bool = True,
    defer: bool = True,
    feature_major: bool = False,
) -> Method:
    """Scans what needs the carry; runs everything else for all time steps at once.

    Args:
      unroll: how many steps one iteration of the loop holds, as in `jax.lax.scan`.
      chunk: how many steps to take at a time (a scan of scans), None for all of them. Smaller arrays
        stay in the cache; T need not be a multiple.
      remat: keep only the carries between chunks for the backward pass and recompute the rest:
        memory O(T/chunk + chunk) instead of O(T). Needs `chunk`.
      hoist: compute before and after the loop what needs no carry.
      defer: compute weight gradients after the backward loop.
      feature_major: hold [F, B] in the loop where the step says [B, F], so that a product is
        W · v with W transposed before the loop: faster on CPUs where B is small and the weight
        large. A carry whose leaves do not share their first axis runs as it is written.

    Raises:
      ValueError: if `chunk` is not a positive integer, or `remat` is set without it.
    """
    options = Options(unroll, chunk, remat, hoist, defer, feature_major)
    check_options(options)
    # As they are written: True, which unrolls everything, equals 1, which unrolls nothing.
    usual = Options._field_defaults
    shown = ", ".join(f"{k}={v}" for k, v in options._asdict().items() if repr(v) != repr(usual[k]))
    return Method(name=f"scan({shown})", options=options, run=_run, refuses=_refuses)


def _run(problem: Problem, options: Options) -> tuple[Any, Any]:
    return run_traced(problem.traced, problem.reverse, options)


def _refuses(problem: Problem, _: Options) -> str | None:
    loop = problem.traced.loop
    if loop is None or not loop.step.effects:
        return None
    eqn = next(e for e in loop.step.eqns if e.effects)
    return (
        f"moves the equations of a step about, and {problem.name} has one whose effect must happen in"
        f" its place: {eqn.primitive.name} ({source(eqn)}). Use methods.lax()"
    )
