"""A step function and what to scan it over."""

from collections.abc import Callable
from typing import Any, NamedTuple

T, B, D, H = 7, 2, 5, 3


class Case(NamedTuple):
    step: Callable[..., Any]  # params, carry, x -> carry, y
    params: Any
    carry: Any
    xs: Any
    length: int | None = None

    @property
    def args(self) -> tuple[Any, Any, Any]:
        return self.params, self.carry, self.xs

    def run(self, scan: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        """The scan as a function of params, carry and xs: the step closes over its parameters."""

        def scanned(params: Any, carry: Any, xs: Any) -> Any:
            return scan(lambda c, x: self.step(params, c, x), carry, xs, self.length, **options)

        return scanned
