"""Who runs a case: methods, named as on the command line."""

import ast
import inspect
from typing import Any, NamedTuple

import jax

import jaxrnn
from benchmarks.cases import Case
from jaxrnn import methods
from jaxrnn.methods import Method
from jaxrnn.methods.auto import Choice, choose

AUTO, LAX = methods.auto().name, methods.lax().name
# Every method that needs no other one.
FACTORIES = {n: f for n, f in vars(methods).items() if inspect.isfunction(f) and n != "first"}


class Contender(NamedTuple):
    """A cell or a layer, and how to run it."""

    layer: jaxrnn.Cell | jaxrnn.Layer
    method: Method


def parse(text: str) -> list[Method]:
    """Methods from `auto,lax,scan:chunk=16:remat=True`.

    Raises:
      ValueError: with one line that says what is wrong.
    """
    made = [_method(part.strip()) for part in text.split(",") if part.strip()]
    if not made:
        raise ValueError(f"name at least one, there are {', '.join(sorted(FACTORIES))}")
    return made


def _method(text: str) -> Method:
    name, *settings = text.split(":")
    if name not in FACTORIES:
        raise ValueError(f"no method is called {name!r}, there are {', '.join(sorted(FACTORIES))}")
    known = inspect.signature(FACTORIES[name]).parameters
    options: dict[str, Any] = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        if key not in known:
            raise ValueError(f"{name} has no option {key!r}, it has {', '.join(known) or 'none'}")
        try:
            options[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            raise ValueError(f"{text}: {value!r} is no number, True, False or None") from None
    try:
        return FACTORIES[name](**options)
    except (TypeError, ValueError) as problem:
        raise ValueError(f"{text}: {problem}") from None


def with_lax(given: list[Method]) -> dict[str, Method]:
    """The methods by name, each once, `lax` first: every ratio is to it."""
    return {method.name: method for method in [methods.lax(), *given]}


def field(case: Case, given: list[Method]) -> dict[str, Contender]:
    """The case's cell under each method, `lax` first."""
    cell = case.make_cell()
    return {name: Contender(cell, method) for name, method in with_lax(given).items()}


def chosen(case: Case) -> tuple[Method, Choice]:
    """What `auto` runs a case with, as a method of its own, and why."""
    seen: list[Choice] = []

    def look(problem: methods.Problem, _: Any) -> Any:
        seen.append(choose(problem.traced.loop))
        return methods.lax()(problem)

    spy = Method(name="spy", run=look)
    cell = case.make_cell()
    jax.eval_shape(lambda params, xs: jaxrnn.run(cell, params, xs, method=spy), *case.arrays())
    return methods.scan(**seen[0].options._asdict()), seen[0]
