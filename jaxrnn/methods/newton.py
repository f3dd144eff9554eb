"""`newton()`: nonlinear recurrences in parallel over time."""

from functools import partial
from typing import Any, NamedTuple

import jax

from jaxrnn.checks import plain
from jaxrnn.engine.loop import Options
from jaxrnn.engine.newton import Newton, iterate, lyapunov, solve
from jaxrnn.engine.prefix import Way
from jaxrnn.engine.scan import run_traced
from jaxrnn.engine.trajectory import Dynamics, along, frame_of, obstacle, step_by_step
from jaxrnn.methods.base import Method, Problem


class Settings(NamedTuple):
    newton: Newton
    jacobian: str | None


def newton(
    tolerance: float | None = None,
    max_iterations: int = 100,
    jacobian: str | None = None,
) -> Method:
    """Finds all states at once by Newton's method, each iteration a linear recurrence in O(log T) depth.

        sₜ = f(sₜ₋₁, xₜ)        |sₜ − f(sₜ₋₁, xₜ)| ≤ tolerance · (1 + |sₜ|)  for every t

    It pays where an accelerator has time to spare and the recurrence forgets: a contracting one takes a
    few iterations whatever T is, a chaotic one takes up to T. What does not converge is never returned:
    the residual is checked, and the loop takes over in the same compiled program. Derivatives follow the
    implicit function theorem: one linear recurrence, not one for each iteration. `newton.diagnose` says
    how it went.

    Args:
      tolerance: of the residual, relative; by the dtype if None, 1.4e-5 in float32.
      max_iterations: after so many the loop takes over.
      jacobian: "dense", one block for each row of a batch, memory O(T·B·N²) for N numbers of carry;
        "diagonal", that part of it only (quasi-Newton: more iterations, memory O(T·B·N)); None takes
        what is exact and smallest by the step's structure.

    Raises:
      ValueError: if an argument is none of these.

    References: Lim et al., Parallelizing non-linear sequential models over the sequence length (DEER),
    2024, arXiv:2309.12252; Gonzalez et al., Towards scalable and stable parallelization of nonlinear
    RNNs (quasi-DEER), 2024, arXiv:2407.19115. Where it diverges, that paper's ELK damps it by a Kalman
    smoother; here the Jacobian is scaled down, which costs nothing, until the residual falls.
    """
    if jacobian not in (None, "dense", "diagonal"):
        raise ValueError(f'jacobian must be "dense", "diagonal" or None, got {jacobian!r}')
    max_iterations = plain(max_iterations)
    if (
        isinstance(max_iterations, bool)
        or not isinstance(max_iterations, int)
        or max_iterations < 1
    ):
        raise ValueError(f"max_iterations must be a positive integer, got {max_iterations!r}")
    if tolerance is not None and not tolerance > 0:
        raise ValueError(f"tolerance must be positive or None, got {tolerance!r}")
    given = {"tolerance": tolerance, "max_iterations": max_iterations, "jacobian": jacobian}
    usual = {"tolerance": None, "max_iterations": 100, "jacobian": None}
    shown = ", ".join(f"{k}={v!r}" for k, v in given.items() if v != usual[k])
    settings = Settings(Newton(tolerance, max_iterations, Way()), jacobian)
    return Method(name=f"newton({shown})", options=settings, run=_run, refuses=_refuses)


def _run(problem: Problem, settings: Settings) -> tuple[Any, Any]:
    find = partial(solve, settings.newton)
    runner = partial(along, find, settings.jacobian, settings.newton.way)
    return run_traced(problem.traced, problem.reverse, Options(), runner)


def _refuses(problem: Problem, _: Settings) -> str | None:
    loop = problem.traced.loop
    reason = None if loop is None else obstacle(loop, problem.name)
    return None if reason is None else f"{reason}: use methods.scan()"


class Diagnosis(NamedTuple):
    """How Newton's method went on one loop."""

    iterations: int
    residual: float
    converged: bool  # if not, run() gives the result of the loop
    lyapunov: float  # of the row where it is largest: below 0 the recurrence forgets


def diagnose(
    cell: Any,
    params: Any,
    xs: Any,
    carry: Any = None,
    *,
    method: Method | None = None,
    **options: Any,
) -> Diagnosis:
    """Reports iterations, residual and the largest Lyapunov exponent of a cell on its inputs.

    The exponent is that of the states the loop gives: log of the mean factor by which a small difference
    grows in a step. Below 0 Newton's method needs few iterations, above 0 it cannot be quick; a reset,
    which forgets all, makes it −∞.

    Args:
      cell, params, xs, carry: as for `jaxrnn.run`, and its other arguments.
      method: a `newton(...)`; with its defaults if None.

    Raises:
      TypeError: if `method` is another method.
      NotImplementedError: if Newton's method cannot serve the cell.
    """
    from jaxrnn.core import run  # core asks methods, so only who is asked by users may ask core

    method = newton() if method is None else method
    settings = method.options
    if not isinstance(settings, Settings):
        raise TypeError(f"diagnose() needs a method made by methods.newton(), got {method}")
    found: list[Any] = []

    def note(problem: Problem, _: Any) -> tuple[Any, Any]:
        def runner(loop: Any, invariant: Any, init: Any, xs: Any) -> Any:
            dynamics = Dynamics(loop, frame_of(loop, settings.jacobian))
            inputs, start = [*invariant, *xs], dynamics.frame.pack(init)
            solution = iterate(settings.newton, dynamics, inputs, start)
            exact = Dynamics(loop, frame_of(loop, None))
            begin = exact.frame.pack(init)
            states = step_by_step(exact, inputs, begin)
            exponent = lyapunov(exact, inputs, begin, states).max()
            tolerance = settings.newton.tolerance_of(start.dtype)
            converged = solution.residual <= tolerance
            found.append((solution.iterations, solution.residual, converged, exponent))
            return along(lambda *_: states, None, Way(), loop, invariant, init, xs)

        return run_traced(problem.traced, problem.reverse, Options(), runner)

    noting = Method(name="diagnose", options=settings, run=note, refuses=_refuses)

    @jax.jit
    def program(params: Any, xs: Any, carry: Any) -> Any:
        found.clear()
        run(cell, params, xs, carry, method=noting, **options)
        return found[-1]

    iterations, residual, converged, exponent = program(params, xs, carry)
    return Diagnosis(int(iterations), float(residual), bool(converged), float(exponent))


newton.diagnose = diagnose  # type: ignore[attr-defined]
