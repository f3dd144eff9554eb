"""What a method is: a way for a recurrence to meet time, as a value."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
from jax import core

from jaxrnn.engine.trace import Traced, trace


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """A recurrence to run: a step, the carry it starts from, and what it runs over."""

    name: str  # of the cell, for messages
    step: Callable[..., Any]  # carry, x -> carry, y
    carry: Any
    xs: Any
    length: int | None = None  # where xs does not tell
    reverse: bool = False
    # The cell's own form for all steps at once, if it has one: of `arguments`, and of how many steps a
    # chunk shall have.
    parallel: Callable[[Any, int | None], tuple[Any, Any]] | None = None
    arguments: Any = ()

    @cached_property
    def traced(self) -> Traced:
        return trace(self.step, self.carry, self.xs, self.length, self.reverse)

    @property
    def values(self) -> list[Any]:
        """All that a run depends on, the values that the step closes over among them."""
        return [*self.traced.values, *jax.tree.leaves(self.arguments)]

    def given(self, values: Sequence[Any]) -> "Problem":
        """The same problem of other values of the same types."""
        count = len(self.traced.values)
        traced = self.traced.given(values[:count])
        arguments = jax.tree.unflatten(jax.tree.structure(self.arguments), values[count:])
        carry, xs = jax.tree.unflatten(jax.tree.structure((self.carry, self.xs)), traced.inputs)
        of = {id(old): new for old, new in zip(self.traced.values, values[:count], strict=True)}

        def step(carry: Any, x: Any) -> tuple[Any, Any]:
            closed, out = jax.make_jaxpr(self.step, return_shape=True)(carry, x)
            consts = [of.get(id(c), c) for c in closed.consts]
            outs = core.eval_jaxpr(closed.jaxpr, consts, *jax.tree.leaves((carry, x)))
            return jax.tree.unflatten(jax.tree.structure(out), outs)

        other = replace(self, step=step, carry=carry, xs=xs, arguments=arguments)
        other.__dict__["traced"] = traced  # it is read already
        return other


def _never(_problem: Problem, _options: Any) -> str | None:
    return None


@dataclass(frozen=True, kw_only=True, repr=False)
class Method:
    """A way to run a recurrence. Methods with the same name, options and functions are equal."""

    name: str
    options: Hashable = ()
    run: Callable[[Problem, Any], tuple[Any, Any]]
    refuses: Callable[[Problem, Any], str | None] = _never  # why, and what to do instead
    axis: str | None = None  # of a mesh, over which it splits time

    def __call__(self, problem: Problem) -> tuple[Any, Any]:
        if reason := self.refusal(problem):
            raise NotImplementedError(f"{self.name} {reason}")
        return self.run(problem, self.options)

    def refusal(self, problem: Problem) -> str | None:
        return self.refuses(problem, self.options)

    def __repr__(self) -> str:
        return self.name
