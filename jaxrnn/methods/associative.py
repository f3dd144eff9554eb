"""`associative()`: affine recurrences in parallel over time."""

from functools import partial
from typing import Any, NamedTuple

from jax.sharding import AxisType, Mesh

from jaxrnn.checks import plain
from jaxrnn.engine.affine import solved
from jaxrnn.engine.jaxprs import source
from jaxrnn.engine.loop import Options
from jaxrnn.engine.prefix import DEFAULT, Way
from jaxrnn.engine.scan import run_traced
from jaxrnn.engine.trace import Loop
from jaxrnn.engine.triangle import first_obstacle, groups_of
from jaxrnn.methods.base import Method, Problem


class Settings(NamedTuple):
    chunk: int | None
    way: Way


def associative(
    chunk: int | None = None,
    block: int | None = None,
    *,
    mesh: Mesh | None = None,
    axis: str | None = None,
) -> Method:
    """Solves a carry that is affine in itself, element by element, in O(log T) depth.

        c' = a(x) ∘ c + b(x)

    is found by reading the step: for real and complex leaves, for leaves that need earlier ones (solved
    one after another), and for leaves that need each other. Masks and resets are part of a and b. What
    comes before and after the recurrence runs for all time steps at once; the gradient is such a
    recurrence again, and keeps no more than a and the carries. A cell that has a `parallel` form of its
    own runs by that, unless blocks or a mesh are asked for.

    Args:
      chunk: how many steps to take at a time, one chunk after the other, None for all of them: less
        memory. T need not be a multiple.
      block: how many steps are taken one after another in each of the blocks that run side by side; None
        chooses by device, 1 is a binary tree, T and more is a loop over what the recurrence needs.
      mesh, axis: a mesh and the name of its axis over which time is split. Give `run` arrays that are
        sharded so (or not: they will be): each device solves its stretch of time, tells the others one
        summary of it, and knows by theirs how its stretch begins. Other axes of the mesh, over a batch
        say, are free. T need not be a multiple of the number of devices.

    Raises:
      ValueError: if `chunk` or `block` is not a positive integer, if the mesh has no such axis, if only
        one of both is given, or together with `chunk`.

    Reference: Blelloch, Prefix sums and their applications, 1990; Martin & Cundy, Parallelizing linear
    recurrent neural nets over sequence length, 2018, arXiv:1709.04057.
    """
    chunk, block = plain(chunk), plain(block)
    for name, value in (("chunk", chunk), ("block", block)):
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int) or value < 1
        ):
            raise ValueError(f"{name} must be a positive number of steps or None, got {value!r}")
    if (mesh is None) != (axis is None) or (mesh is not None and axis not in mesh.axis_names):
        names = None if mesh is None else mesh.axis_names
        raise ValueError(
            "to split time, give a mesh and the name of one of its axes;"
            f" got a mesh with the axes {names} and axis={axis!r}"
        )
    if mesh is not None and chunk is not None:
        raise ValueError("chunks run one after the other and cannot be split: drop chunk= or mesh=")
    if mesh is not None:
        # Within the recurrence the mesh is JAX's to reckon with, whatever it is outside.
        mesh = Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * mesh.devices.ndim)
    given = {"chunk": chunk, "block": block, "axis": axis}
    shown = ", ".join(f"{k}={v!r}" for k, v in given.items() if v is not None)
    settings = Settings(chunk, Way(block, mesh, axis))
    return Method(
        name=f"associative({shown})", options=settings, run=_run, refuses=_refuses, axis=axis
    )


def _run(problem: Problem, settings: Settings) -> tuple[Any, Any]:
    if problem.parallel is not None and settings.way == DEFAULT:
        return problem.parallel(problem.arguments, settings.chunk)
    options = Options(chunk=settings.chunk)
    return run_traced(problem.traced, problem.reverse, options, partial(solved, settings.way))


def _refuses(problem: Problem, settings: Settings) -> str | None:
    own = problem.parallel is not None and settings.way == DEFAULT
    if own or problem.traced.loop is None:
        return None
    reason = obstacle(problem.traced.loop, problem.name)
    return None if reason is None else f"{reason}: use methods.scan() or methods.newton()"


def obstacle(loop: Loop, name: str) -> str | None:
    """Why a loop is not a linear recurrence, or None if it is one."""
    if not isinstance(loop.length, int):
        return "needs to know the number of steps, which here is a symbol"
    if loop.step.effects:
        eqn = next(e for e in loop.step.eqns if e.effects)
        return f"takes all steps at once; {name} has an effect in each: {_at(eqn)}"
    parts = loop.parts
    groups = groups_of(parts.during, parts.carry, parts.next_carry)
    found = first_obstacle(parts.during, groups)
    if found is None:
        return None
    if found.because is None:
        return f"needs a step that is affine in its carry; {name} carries an integer or a key on"
    return (
        "needs a step that is affine in its carry, element by element;"
        f" {name} applies {_at(found.because)} to it"
    )


def _at(eqn: Any) -> str:
    return f"{eqn.primitive.name} ({source(eqn)})"
