"""The loop: what is left of a step once everything that does not need the carry is gone."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax.extend import core as jex
from jax.extend.core import primitives
from jax.sharding import AxisType

from jaxrnn.engine.jaxprs import Jaxpr
from jaxrnn.engine.turned import evaluate_products, is_turned


class Recurrence(NamedTuple):
    """A step `invariant, carry, x -> carry, y` and how many times it runs."""

    step: Jaxpr
    num_invariant: int
    num_carry: int
    length: int
    reverse: bool = False
    unroll: int | bool = 1

    def scan(self, step: Callable[..., Any], init: Any, xs: Any) -> tuple[Any, Any]:
        return lax.scan(step, init, xs, self.length, self.reverse, self.unroll)


def plain(
    loop: Recurrence, invariant: Sequence[Any], init: Sequence[Any], xs: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """Runs the loop as it stands; JAX differentiates it as it does any scan."""
    m = loop.num_carry
    if _fits(loop, invariant, init, xs):
        # The step is a jaxpr, and of the types it was traced for: `lax.scan` would trace it again.
        outs = primitives.scan_p.bind(
            *invariant,
            *init,
            *xs,
            jaxpr=jex.ClosedJaxpr(loop.step, ()),
            num_consts=loop.num_invariant,
            num_carry=m,
            length=loop.length,
            reverse=loop.reverse,
            unroll=_steps(loop.unroll, loop.length),
        )
        return list(outs[:m]), list(outs[m:])

    def step(carry: list[Any], x: list[Any]) -> tuple[list[Any], list[Any]]:
        out = evaluate_products(loop.step, *invariant, *carry, *x)
        return out[:m], out[m:]

    return loop.scan(step, list(init), list(xs))


def _fits(
    loop: Recurrence, invariant: Sequence[Any], init: Sequence[Any], xs: Sequence[Any]
) -> bool:
    """Whether the values have the very types that the step was traced for."""
    if not _is_known() or any(map(is_turned, loop.step.eqns)):
        return False
    types = [jax.typeof(v) for v in (*invariant, *init, *xs)]
    streamed = len(invariant) + len(init)
    for i, (v, given) in enumerate(zip(loop.step.invars, types, strict=True)):
        wanted, time = v.aval, int(i >= streamed)
        if given.shape[time:] != wanted.shape or given.dtype != wanted.dtype:
            return False
        if getattr(given, "vma", None) != getattr(wanted, "vma", None) or _is_explicit(given):
            return False
    return True


def _is_explicit(aval: Any) -> bool:
    mesh = aval.sharding.mesh
    return not mesh.empty and AxisType.Explicit in mesh.axis_types


@cache
def _is_known() -> bool:
    """Whether this JAX has a scan equation of the parameters that are given here, and no others."""
    traced = jax.make_jaxpr(lambda x: lax.scan(lambda c, x: (c + x, c), 0.0, x))(np.zeros(1))
    [eqn] = [e for e in traced.jaxpr.eqns if e.primitive.name == "scan"]
    known = {"jaxpr", "num_consts", "num_carry", "length", "reverse", "unroll"}
    return eqn.primitive is primitives.scan_p and set(eqn.params) == known


def _steps(unroll: int | bool, length: int) -> int:
    """How many steps one iteration holds, as `lax.scan` counts."""
    if isinstance(unroll, bool):
        return max(length, 1) if unroll else 1
    return unroll
