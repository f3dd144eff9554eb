"""`either(forward, gradient)`: what is fastest forwards need not be what is fastest to differentiate."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
from jax.extend import core as jex

from jaxrnn.engine.jaxprs import source
from jaxrnn.engine.moving import jvp
from jaxrnn.methods.base import Method, Problem


def either(forward: Method, gradient: Method) -> Method:
    """Runs by `forward` where no derivative is taken, and by `gradient` where one is.

    A loop that is not differentiated keeps nothing for later, so that it may pay to run it in another
    way: in chunks that stay in the cache, say. JAX knows only when it differentiates which it is; both
    are traced, and one of them is compiled. Under `jax.value_and_grad` the value too comes from
    `gradient`. All derivatives, of any order and in either mode, are those of `gradient`.

    Raises:
      TypeError: if one of them is not a method.

    Example:
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
    )


class _Program(NamedTuple):
    """A method applied to a problem, as a function of what it closes over."""

    jaxpr: jex.ClosedJaxpr
    places: list[int]  # of its constants among those of both programs

    def __call__(self, values: Sequence[Any]) -> list[Any]:
        given = [values[i] for i in self.places]
        return jex.jaxpr_as_fun(jex.ClosedJaxpr(self.jaxpr.jaxpr, given))()


def _run(problem: Problem, methods: tuple[Method, Method]) -> tuple[Any, Any]:
    values: dict[int, Any] = {}  # each once, by `id`
    programs = []
    for method in methods:
        jaxpr, out = jax.make_jaxpr(partial(method, problem), return_shape=True)()
        values |= {id(c): c for c in jaxpr.consts}
        places = {key: i for i, key in enumerate(values)}
        programs.append(_Program(jaxpr, [places[id(c)] for c in jaxpr.consts]))
    forward, gradient = programs

    @jax.custom_jvp
    def run(values: list[Any]) -> list[Any]:
        return forward(values)

    def differentiated(primals: Any, tangents: Any) -> Any:
        return jvp(gradient, *primals, *tangents)

    run.defjvp(differentiated, symbolic_zeros=True)
    return jax.tree.unflatten(jax.tree.structure(out), run(list(values.values())))


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
