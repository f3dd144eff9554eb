"""Independently recurrent network."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cells import parts
from jaxrnn.core import Cell
from jaxrnn.kit import cell
from jaxrnn.origin import factory
from jaxrnn.shapes import Array, Float


class IndRNNParams(NamedTuple):
    input: Float[Array, "D H"]
    recurrent: Float[Array, " H"]
    bias: Float[Array, " H"]


@factory
def indrnn(
    features: int,
    *,
    activation: Callable[[jax.Array], jax.Array] = jax.nn.relu,
    input_init: parts.Initialiser = parts.glorot,
    recurrent_init: parts.Initialiser = parts.uniform,
    dtype: Any = None,
) -> Cell:
    """Independently recurrent network: hₜ = φ(xₜ·W + u ∘ hₜ₋₁ + b), yₜ = hₜ.

    Carry: h [*batch, H], at first 0. Structure: elementwise, each unit sees only itself.

    Args:
      features: H.
      activation: φ.
      input_init: of W [D, H].
      recurrent_init: of u [H]; uniform in [0, 1), as the paper has it for all but the last layer.
      dtype: of the parameters; that of x if None.

    Reference: Li et al., Independently recurrent neural network, 2018, arXiv:1803.04831.
    """

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        k, r = jax.random.split(key)
        return IndRNNParams(
            input=parts.weight(input_init, k, d, features, kind),
            recurrent=parts.draw(recurrent_init, r, (features,), kind),
            bias=jnp.zeros(features, kind),
        )

    def step(
        p: IndRNNParams, h: Float[Array, "*batch H"], x: Float[Array, "*batch D"]
    ) -> tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]]:
        h = activation(x @ p.input + p.bias + p.recurrent * h)
        return h, h

    return cell(f"indrnn({features})", init, step, carry=features, dtype=dtype)
