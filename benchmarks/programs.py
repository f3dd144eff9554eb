"""What is compiled: one pass through a case, a function of parameters and inputs.

Both are arguments: XLA would fold what a program closes over into constants. `apply` is whatever runs
the recurrence: params, inputs -> (carry, outputs).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

Apply = Callable[[Any, Any], tuple[Any, Any]]
Program = Callable[..., Any]  # what the gate compares is what it returns

# An ε that no gradient's rounding error matters beside; the work is the same with any.
OPTIMIZER = optax.adam(1e-3, eps=1e-3)


def forward(apply: Apply) -> Program:
    """The loss, and the carry and outputs it is made of so that the gate can see them."""

    def program(params: Any, inputs: Any) -> Any:
        outputs = apply(params, inputs)
        return loss(outputs), outputs

    return program


def loss(outputs: Any) -> jax.Array:
    """Σ mean |v|² over carry and outputs: squares, so that no constant enters the backward loop."""
    return sum(jnp.mean((v * jnp.conj(v)).real) for v in jax.tree.leaves(outputs))


def gradient(apply: Apply) -> Program:
    """The gradients of the loss of carry and outputs with respect to parameters and inputs."""
    program = forward(apply)
    return jax.grad(lambda params, inputs: program(params, inputs)[0], argnums=(0, 1))


def update(apply: Apply) -> Program:
    """A full step of the optimiser: what one batch does to parameters and optimiser state."""
    program = forward(apply)

    def step(training: Any, inputs: Any) -> Any:
        params, state = training
        found = jax.grad(lambda params: program(params, inputs)[0])(params)
        return updated(params, state, found)

    return step


def updated(params: Any, state: Any, found: Any) -> Any:
    """Parameters and state after a gradient."""
    changes, state = OPTIMIZER.update(found, state, params)
    return optax.apply_updates(params, changes), state


PASSES = {"forward": forward, "gradient": gradient, "update": update}
