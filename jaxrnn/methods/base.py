"""What a method is: a way for a recurrence to meet time, as a value."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax

from jaxrnn.engine.trace import Traced, trace


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """A recurrence to run: a step, the carry it starts from, and what it runs over."""

    name: str  # of the cell, for messages
    step: Callable[..., Any] | None  # carry, x -> carry, y; None once other values are given
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
        assert self.step is not None
        return trace(self.step, self.carry, self.xs, self.length, self.reverse)

    @property
    def values(self) -> list[Any]:
        """All that a run depends on, the values that the step closes over among them."""
        return [*self.traced.values, *jax.tree.leaves(self.arguments)]

    def without_values(self) -> "Problem":
        """The same problem of no values, for what lives longer than they do; `given` gives it others."""
        none = jax.tree.map(lambda _: None, self.traced.values)
        carry, xs, arguments = jax.tree.map(lambda _: 0, (self.carry, self.xs, self.arguments))
        return self._of(self.traced.given(none), carry, xs, arguments)

    def given(self, values: Sequence[Any]) -> "Problem":
        """The same problem of other values of the same types."""
        count = len(self.traced.values)
        traced = self.traced.given(values[:count])
        arguments = jax.tree.unflatten(jax.tree.structure(self.arguments), values[count:])
        carry, xs = jax.tree.unflatten(jax.tree.structure((self.carry, self.xs)), traced.inputs)
        return self._of(traced, carry, xs, arguments)

    def _of(self, traced: Traced, carry: Any, xs: Any, arguments: Any) -> "Problem":
        # The step closes over the values it was written with: what is left of it is its trace.
        other = replace(self, step=None, carry=carry, xs=xs, arguments=arguments)
        other.__dict__["traced"] = traced
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
