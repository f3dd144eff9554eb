"""The loop: what is left of a step once everything that does not need the carry is gone."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jax import lax

from jaxrnn.engine.jaxprs import Jaxpr
from jaxrnn.engine.turned import evaluate_products


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

    def step(carry: list[Any], x: list[Any]) -> tuple[list[Any], list[Any]]:
        out = evaluate_products(loop.step, *invariant, *carry, *x)
        return out[: loop.num_carry], out[loop.num_carry :]

    return loop.scan(step, list(init), list(xs))
