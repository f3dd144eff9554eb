"""`either(forward, gradient)`: what is fastest forwards need not be what is fastest to differentiate."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax

from jaxrnn.engine.jaxprs import source
from jaxrnn.engine.moving import jvp
from jaxrnn.methods.base import Method, Problem


def either(forward: Method, gradient: Method) -> Method:
    """Runs by `forward` where no derivative is taken, and by `gradient` where one is.

    A loop that is not differentiated keeps nothing for later, so that it may pay to run it in another
    way: in chunks that stay in the cache, say. JAX knows only when it differentiates which it is. Under
    `jax.value_and_grad` the value too comes from `gradient`. All derivatives, of any order and in either
    mode, are those of `gradient`.

    Raises:
      TypeError: if one of them is not a method.

    Examples:
      >>> from jaxrnn import methods
      >>> methods.either(forward=methods.scan(chunk=16), gradient=methods.scan())
      either(forward=scan(chunk=16), gradient=scan())
    """
    for name, method in (("forward", forward), ("gradient", gradient)):
        if not isinstance(method, Method):
            raise TypeError(f"{name} must be a method such as methods.scan(), got {method!r}")
    return Method(
        name=f"either(forward={forward}, gradient={gradient})",
        options=(forward, gradient),
        run=_run,
        refuses=_refuses,
        axis=forward.axis or gradient.axis,
    )


def _run(problem: Problem, methods: tuple[Method, Method]) -> tuple[Any, Any]:
    forward, gradient = methods
    # JAX keeps a rule of differentiation as long as a program that may need it: were the values in it,
    # tracers would outlive their trace.
    values, bare = problem.values, problem.without_values()

    def by(method: Method, values: Sequence[Any]) -> tuple[Any, Any]:
        return method(bare.given(values))

    def differentiated(primals: Any, tangents: Any) -> Any:
        return jvp(partial(by, gradient), *primals, *tangents)

    # What the step closes over is given as well: a rule of differentiation must not close over anything.
    run = jax.custom_jvp(partial(by, forward))
    run.defjvp(differentiated, symbolic_zeros=True)
    return run(values)


def _refuses(problem: Problem, methods: tuple[Method, Method]) -> str | None:
    for method in methods:
        if reason := method.refusal(problem):
            return f"cannot use {method}: it {reason}"
    loop = problem.traced.loop
    if loop is None or not loop.step.effects:
        return None
    eqn = next(e for e in loop.step.eqns if e.effects)
    return (
        f"holds two programs, and {problem.name} has an effect which must happen once:"
        f" {eqn.primitive.name} ({source(eqn)}). Use methods.lax()"
    )
