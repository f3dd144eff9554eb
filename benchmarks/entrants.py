"""One who runs a case, in its own layout: a method of jaxrnn, or a peer."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import clock
from benchmarks.programs import OPTIMIZER, PASSES, loss, updated


class Absent(Exception):
    """Says in a line why an entrant does not run a case: not installed, or has no such cell."""


class Reference(Protocol):
    """What is right, in float64 and in the layout of jaxrnn; NumPy arrays."""

    @property
    def outputs(self) -> Any: ...  # carry, ys [T, B, H]
    @property
    def gradients(self) -> Any: ...  # of parameters, of xs [T, B, D]


class Entrant(Protocol):
    version: str  # as in "flax 0.12.1"

    def args(self, name: str) -> tuple[Any, ...]:
        """What the pass of this name is called with."""
        ...

    def compiled(self, name: str) -> clock.Compiled: ...

    def expected(self, name: str, reference: Reference) -> Any:
        """What the pass should return, in the entrant's own layout, in float64."""
        ...


@dataclass(frozen=True)
class InJax:
    """An entrant that is a JAX function.

    `apply(params, inputs)` gives the carry, its leaves in the order of jaxrnn's, and the outputs. `ours`
    makes jaxrnn's parameters of the entrant's; it must be differentiable, for it is what carries the
    reference's gradient over.
    """

    version: str
    params: Any
    inputs: Any
    apply: Callable[[Any, Any], tuple[Any, Any]]
    ours: Callable[[Any], Any] = lambda params: params
    batch_major: bool = False  # inputs and outputs [B, T, …]
    options: dict[str, Any] | None = None  # of the compiler

    @cached_property
    def training(self) -> tuple[Any, Any]:
        return self.params, OPTIMIZER.init(self.params)

    def args(self, name: str) -> tuple[Any, Any]:
        return (self.training if name == "update" else self.params), self.inputs

    def compiled(self, name: str) -> clock.Compiled:
        return clock.compiled(PASSES[name](self.apply), self.args(name), self.options)

    def expected(self, name: str, reference: Reference) -> Any:
        match name:
            case "forward":
                carry, ys = reference.outputs
                with jax.enable_x64(True):
                    return loss((carry, ys)), (carry, self._own(ys))
            case "gradient":
                return self._gradient(reference), self._own(reference.gradients[1])
            case "update":
                with jax.enable_x64(True):
                    params, state = jax.tree.map(exact, self.training)
                    return updated(params, state, self._gradient(reference))
        raise ValueError(f"no pass is called {name!r}")

    def _gradient(self, reference: Reference) -> Any:
        with jax.enable_x64(True):
            _, pull = jax.vjp(self.ours, jax.tree.map(exact, self.params))
            [found] = pull(jax.tree.map(jnp.asarray, reference.gradients[0]))
            return found

    def _own(self, array: np.ndarray) -> np.ndarray:
        return np.swapaxes(array, 0, 1) if self.batch_major else array


def exact(leaf: Any) -> Any:
    """The same numbers in float64 or complex128; what is neither stays."""
    floating = jnp.issubdtype(leaf.dtype, jnp.floating)
    if np.iscomplexobj(leaf):
        return np.asarray(leaf).astype(np.complex128)
    return np.asarray(leaf).astype(np.float64) if floating else leaf
