"""The automatic choice, `method=None`: the measured rules of `methods/rules.py`, asked of a problem."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.engine.jaxprs import count, dtype
from jaxrnn.engine.trace import Loop
from jaxrnn.methods.associative import associative, obstacle
from jaxrnn.methods.base import Method, Problem
from jaxrnn.methods.either import either
from jaxrnn.methods.hoisting import choose
from jaxrnn.methods.lax import lax
from jaxrnn.methods.rules import ACCELERATOR, CPU, Narrow, Passes, Rules
from jaxrnn.methods.scan import scan


def auto() -> Method:
    """Chooses a method by the step's structure, its sizes and the device, for each pass the fastest.

    Where a run that is not differentiated has another fastest method than one that is, it takes
    `either` of them. `jaxrnn.explain` says which, and why; `jaxrnn.tune` measures instead.
    """
    return Method(name="auto()", run=_run)


def _run(problem: Problem, _: Any) -> tuple[Any, Any]:
    return take(problem).method(problem)


class Taken(NamedTuple):
    method: Method
    because: str


class Both(NamedTuple):
    """What a run is taken by that is not differentiated, and by what one that is."""

    forward: Taken
    gradient: Taken


def take(problem: Problem, platform: str | None = None) -> Taken:
    """The method `auto` runs a problem with, and why."""
    forward, gradient = for_each_pass(problem, platform)
    if forward.method == gradient.method:
        return forward
    because = f"without a derivative: {forward.because}; with one: {gradient.because}"
    return Taken(either(forward.method, gradient.method), because)


def for_each_pass(problem: Problem, platform: str | None = None) -> Both:
    """The fastest method by our rules, for each pass by itself."""
    loop = problem.traced.loop
    if loop is None:
        return _always(lax(), "JAX makes no loop of this scan")
    if loop.step.effects:
        return _always(lax(), "the step has effects, so JAX runs it as it is written")
    if not isinstance(loop.length, int):
        return _always(scan(), "the number of steps is not known yet")
    return Both(*(_best(problem, loop, rules) for rules in passes(platform)))


def _always(method: Method, because: str) -> Both:
    return Both(Taken(method, because), Taken(method, because))


def passes(platform: str | None = None) -> Passes:
    """The rules of a platform, the default one of JAX if None."""
    return CPU if (platform or jax.default_backend()) == "cpu" else ACCELERATOR


def _best(problem: Problem, loop: Loop, rules: Rules) -> Taken:
    if problem.parallel is not None and loop.length >= rules.parallel:
        return Taken(associative(), "the cell has a form of its own for all steps at once")
    if obstacle(loop, problem.name) is None:
        if rules.narrow is not None and _is_narrow(loop, rules.narrow):
            because = (
                "the carry is affine in itself, complex and small: it is solved chunk by chunk"
            )
            return Taken(associative(chunk=rules.narrow.chunk), because)
        if (times := _swelling(loop)) >= rules.swollen:
            because = f"the carry has {times} numbers for one of output: nothing so large is kept"
            return Taken(scan(hoist=False), because)
        if loop.length >= rules.associative:
            because = "the carry is affine in itself, so that all steps are taken at once"
            return Taken(associative(), because)
    options, because = choose(loop, rules)
    return Taken(scan(**options._asdict()), because)


def _swelling(loop: Loop) -> int:
    """How many numbers of carry there are for one of output."""
    last, ys = loop.step.outvars[: loop.num_carry], loop.step.outvars[loop.num_carry :]
    return sum(map(count, last)) // max(sum(map(count, ys)), 1)


def _is_narrow(loop: Loop, narrow: Narrow) -> bool:
    carry = loop.step.invars[loop.num_consts : loop.num_consts + loop.num_carry]
    complex_ = all(jnp.issubdtype(dtype(v), jnp.complexfloating) for v in carry)
    few = sum(map(count, carry)) <= narrow.numbers
    return complex_ and few and loop.length >= 2 * narrow.chunk
