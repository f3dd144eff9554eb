"""What is compiled: one pass of a cell under a method, a function of parameters and inputs.

Both are arguments: XLA would fold what a program closes over into constants.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import jaxrnn

Program = Callable[..., Any]  # params, xs -> what the gate compares


def forward(cell: jaxrnn.Cell | jaxrnn.Layer, method: jaxrnn.methods.Method) -> Program:
    """The loss, and the carry and outputs it is made of so that the gate can see them."""

    def program(params: Any, xs: Any) -> Any:
        outputs = jaxrnn.run(cell, params, xs, method=method)
        # Squares, so that the gradient that enters the backward loop is no constant.
        loss = sum(jnp.mean(jnp.square(v)) for v in jax.tree.leaves(outputs))
        return loss, outputs

    return program


def gradient(cell: jaxrnn.Cell | jaxrnn.Layer, method: jaxrnn.methods.Method) -> Program:
    """The gradients of the loss of carry and outputs with respect to parameters and inputs."""
    program = forward(cell, method)
    return jax.grad(lambda params, xs: program(params, xs)[0], argnums=(0, 1))


PASSES = {"forward": forward, "gradient": gradient}
