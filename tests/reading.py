"""Reads loops off a jaxpr."""

from typing import Any, NamedTuple

import jax
from jax.extend import core as jex


class Loop(NamedTuple):
    body: Any
    carry_shapes: list[tuple[int, ...]]
    stacked_shapes: list[tuple[int, ...]]


class loops:  # noqa: N801
    """Finds scans and products in a jaxpr."""

    @staticmethod
    def products(jaxpr):
        for eqn in jaxpr.eqns:
            if eqn.primitive.name == "dot_general":
                yield eqn
            for sub in jex.jaxprs_in_params(eqn.params):
                yield from loops.products(sub)


def loops_of(traced) -> list[Loop]:
    """The scans of a jaxpr, in order; not those inside scans."""
    return list(_find(traced.jaxpr))


def _find(jaxpr):
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "scan":
            yield _loop(eqn)
        else:
            for sub in jex.jaxprs_in_params(eqn.params):
                yield from _find(sub)


def _loop(eqn) -> Loop:
    [body] = jex.jaxprs_in_params(eqn.params)
    length = eqn.params["length"]
    carried, stacked = [], []
    for inner, outer in zip(body.outvars, eqn.outvars, strict=True):
        is_stacked = outer.aval.shape == (length, *inner.aval.shape)
        (stacked if is_stacked else carried).append(outer.aval.shape)
    return Loop(body, carried, stacked)


def dots_in(jaxpr, *, nested: bool = True) -> int:
    if nested:
        return len(list(loops.products(jaxpr)))
    total = 0
    for eqn in jaxpr.eqns:
        total += eqn.primitive.name == "dot_general"
        if eqn.primitive.name in ("jit", "pjit", "closed_call", "custom_jvp_call"):
            total += sum(dots_in(sub, nested=False) for sub in jex.jaxprs_in_params(eqn.params))
    return total


def count(jaxpr, name: str) -> int:
    """How often a primitive stands in a jaxpr, at any depth."""
    return sum(
        (eqn.primitive.name == name)
        + sum(count(sub, name) for sub in jex.jaxprs_in_params(eqn.params))
        for eqn in jaxpr.eqns
    )


__all__ = ["Loop", "count", "dots_in", "jax", "loops", "loops_of"]
