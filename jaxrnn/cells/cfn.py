"""Chaos-free network."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cells import parts
from jaxrnn.core import Cell
from jaxrnn.kit import cell
from jaxrnn.origin import factory
from jaxrnn.shapes import Array, Float


class CFNParams(NamedTuple):
    """Columns in the order θ η n; n has neither recurrent weights nor a bias."""

    input: Float[Array, "D 3H"]
    recurrent: Float[Array, "H 2H"]
    bias: Float[Array, " 2H"]


@factory
def cfn(
    features: int,
    *,
    forget_bias: Any = 1.0,
    input_bias: Any = -1.0,
    input_init: parts.Initialiser = parts.glorot,
    recurrent_init: parts.Initialiser = parts.orthogonal,
    dtype: Any = None,
) -> Cell:
    """Chaos-free network: without inputs its units fall to 0, each by itself.

        θ, η = σ(xₜ·W + hₜ₋₁·R + b)     n = tanh(xₜ·W)            each its columns
        hₜ = θ ∘ tanh(hₜ₋₁) + η ∘ n                               yₜ = hₜ

    Carry: h [*batch, H], at first 0.

    Args:
      features: H.
      forget_bias: what the bias of θ is initialised to. May be traced.
      input_bias: what the bias of η is initialised to. May be traced.
      input_init: of each block of W [D, 3H].
      recurrent_init: of each gate's block of R [H, 2H].
      dtype: of the parameters; that of x if None.

    Reference: Laurent & von Brecht, A recurrent neural network without chaos, 2016,
    arXiv:1612.06212.
    """

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        k, r = jax.random.split(key)
        bias = jnp.zeros(2 * features, kind).at[:features].set(jnp.asarray(forget_bias, kind))
        return CFNParams(
            input=parts.weight(input_init, k, d, features, kind, gates=3),
            recurrent=parts.weight(recurrent_init, r, features, features, kind, gates=2),
            bias=bias.at[features:].set(jnp.asarray(input_bias, kind)),
        )

    def step(
        p: CFNParams, h: Float[Array, "*batch H"], x: Float[Array, "*batch D"]
    ) -> tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]]:
        u, n = jnp.split(x @ p.input, [2 * features], axis=-1)
        theta, eta = jnp.split(parts.sigmoid(u + p.bias + h @ p.recurrent), 2, axis=-1)
        h = theta * jnp.tanh(h) + eta * jnp.tanh(n)
        return h, h

    return cell(f"cfn({features})", init, step, carry=features, dtype=dtype)
