"""What a method is: a way for a recurrence to meet time, as a value."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

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
    # The cell's own form for all steps at once, by how many steps a chunk shall have, if it has one.
    parallel: Callable[[int | None], tuple[Any, Any]] | None = None

    @cached_property
    def traced(self) -> Traced:
        return trace(self.step, self.carry, self.xs, self.length, self.reverse)


def _never(_problem: Problem, _options: Any) -> str | None:
    return None


@dataclass(frozen=True, kw_only=True, repr=False)
class Method:
    """A way to run a recurrence. Methods with the same name, options and functions are equal."""

    name: str
    options: Hashable = ()
    run: Callable[[Problem, Any], tuple[Any, Any]]
    refuses: Callable[[Problem, Any], str | None] = _never  # why, and what to do instead

    def __call__(self, problem: Problem) -> tuple[Any, Any]:
        if reason := self.refusal(problem):
            raise NotImplementedError(f"{self.name} {reason}")
        return self.run(problem, self.options)

    def refusal(self, problem: Problem) -> str | None:
        return self.refuses(problem, self.options)

    def __repr__(self) -> str:
        return self.name
