"""Reads the loops of a jaxpr: what each of them carries and how many products its body holds."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
from jax.extend import core as jex

LOOPS = ("scan", "while")


class Loop(NamedTuple):
    carries: list[tuple[int, ...]]  # the shape of each array that one step hands to the next
    primitives: Counter[str]  # of the body, calls included, inner loops not

    contracted: set[int]  # the sizes that products sum over

    @property
    def dots(self) -> int:
        return self.primitives["dot_general"]


def jaxpr_of(function: Any, *args: Any) -> Any:
    return jax.make_jaxpr(function)(*args).jaxpr


def loops(jaxpr: Any) -> list[Loop]:
    """All loops of a jaxpr, at any depth."""
    return [loop(eqn) for eqn in equations(jaxpr) if eqn.primitive.name in LOOPS]


def loop(eqn: Any) -> Loop:
    inside = list(equations(body(eqn), into_loops=False))
    return Loop(
        carries=carries(eqn),
        primitives=Counter(e.primitive.name for e in inside),
        contracted={n for e in inside if e.primitive.name == "dot_general" for n in contracted(e)},
    )


def contracted(eqn: Any) -> list[int]:
    (axes, _), _ = eqn.params["dimension_numbers"]
    return [eqn.invars[0].aval.shape[axis] for axis in axes]


def primitives(jaxpr: Any) -> Counter[str]:
    """How often each primitive occurs, at any depth."""
    return Counter(eqn.primitive.name for eqn in equations(jaxpr))


def equations(jaxpr: Any, *, into_loops: bool = True) -> Iterator[Any]:
    for eqn in jaxpr.eqns:
        yield eqn
        if into_loops or eqn.primitive.name not in LOOPS:
            for inner in subjaxprs(eqn):
                yield from equations(inner, into_loops=into_loops)


def subjaxprs(eqn: Any) -> list[Any]:
    return [getattr(sub, "jaxpr", sub) for sub in jex.jaxprs_in_params(eqn.params)]


def body(eqn: Any) -> Any:
    """The step of a loop: of a `while`, the last jaxpr, which gives back the whole carry."""
    return next(j for j in reversed(subjaxprs(eqn)) if len(j.outvars) == len(eqn.outvars))


def carries(eqn: Any) -> list[tuple[int, ...]]:
    """What a loop hands on has the same shape inside and outside; what it stacks gains an axis."""
    pairs = zip(body(eqn).outvars, eqn.outvars, strict=True)
    return [v.aval.shape for v, out in pairs if v.aval.shape == out.aval.shape]
