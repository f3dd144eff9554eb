"""`first(*methods)`: the first method that can serve."""

from typing import Any

from jaxrnn.methods.base import Method, Problem


def first(*methods: Method) -> Method:
    """Runs the first of `methods` that does not refuse the recurrence.

    Raises:
      ValueError: if no method is given.
      TypeError: if one of them is not a method.
    """
    if not methods:
        raise ValueError("first() needs at least one method, e.g. first(methods.scan())")
    for method in methods:
        if not isinstance(method, Method):
            raise TypeError(f"first() takes methods such as methods.scan(), got {method!r}")
    name = f"first({', '.join(m.name for m in methods)})"
    axis = next((m.axis for m in methods if m.axis is not None), None)
    return Method(name=name, options=methods, run=_run, refuses=_refuses, axis=axis)


def _run(problem: Problem, methods: tuple[Method, ...]) -> tuple[Any, Any]:
    return next(m for m in methods if m.refusal(problem) is None)(problem)


def _refuses(problem: Problem, methods: tuple[Method, ...]) -> str | None:
    reasons = [m.refusal(problem) for m in methods]
    if not all(reasons):
        return None
    each = "".join(f"\n  {m.name} {r}" for m, r in zip(methods, reasons, strict=True))
    return f"finds no method that can serve {problem.name}:{each}"
