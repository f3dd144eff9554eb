"""Minimal recurrent networks: the gates see the input alone, so that the carry is affine."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cells import parts
from jaxrnn.core import Cell
from jaxrnn.kit import cell
from jaxrnn.origin import factory
from jaxrnn.shapes import Array, Float


def positive(x: jax.Array) -> jax.Array:
    """g(x) = x + ½ where x ≥ 0, σ(x) elsewhere: positive and continuous."""
    return jnp.where(x >= 0, x + 0.5, parts.sigmoid(x))


class MinGRUParams(NamedTuple):
    """Columns in the order z n."""

    input: Float[Array, "D 2H"]
    bias: Float[Array, " 2H"]


@factory
def min_gru(
    features: int,
    *,
    activation: Callable[[jax.Array], jax.Array] = positive,
    input_init: parts.Initialiser = parts.glorot,
    dtype: Any = None,
) -> Cell:
    """Minimal gated recurrent unit.

        z = σ(xₜ·W + b)     n = g(xₜ·W + b)         each its columns
        hₜ = (1 − z) ∘ hₜ₋₁ + z ∘ n                  yₜ = hₜ

    Carry: h [*batch, H], at first 0. Structure: elementwise affine. Here z replaces, as in the paper;
    in `gru` it keeps.

    Args:
      features: H.
      activation: g. `positive` is that of the paper's experiments, whose log-space form needs h > 0;
        `lambda u: u` is the paper's plain form.
      input_init: of each gate's block of W [D, 2H].
      dtype: of the parameters; that of x if None.

    Reference: Feng et al., Were RNNs all we needed?, 2024, arXiv:2410.01201.
    """

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        return MinGRUParams(
            input=parts.weight(input_init, key, d, features, kind, gates=2),
            bias=jnp.zeros(2 * features, kind),
        )

    def step(
        p: MinGRUParams, h: Float[Array, "*batch H"], x: Float[Array, "*batch D"]
    ) -> tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]]:
        u_z, u_n = jnp.split(x @ p.input + p.bias, 2, axis=-1)
        z, n = parts.sigmoid(u_z), activation(u_n)
        h = (1 - z) * h + z * n
        return h, h

    return cell(f"min_gru({features})", init, step, carry=features, dtype=dtype)


class MinLSTMParams(NamedTuple):
    """Columns in the order f i n."""

    input: Float[Array, "D 3H"]
    bias: Float[Array, " 3H"]


@factory
def min_lstm(
    features: int,
    *,
    forget_bias: Any = 0.0,
    activation: Callable[[jax.Array], jax.Array] = positive,
    input_init: parts.Initialiser = parts.glorot,
    dtype: Any = None,
) -> Cell:
    """Minimal long short-term memory, its two gates normalised to sum to 1.

        f, i = σ(xₜ·W + b)     n = g(xₜ·W + b)      each its columns
        hₜ = f/(f + i) ∘ hₜ₋₁ + i/(f + i) ∘ n        yₜ = hₜ

    Carry: h [*batch, H], at first 0. Structure: elementwise affine. The normalised gates are computed
    as f/(f + i) = σ(log f − log i), which is finite, with finite gradients, where f and i underflow.

    Args:
      features: H.
      forget_bias: what the bias of the forget gate is initialised to. May be traced.
      activation: g, as for `min_gru`.
      input_init: of each gate's block of W [D, 3H].
      dtype: of the parameters; that of x if None.

    Reference: Feng et al., Were RNNs all we needed?, 2024, arXiv:2410.01201.
    """

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        return MinLSTMParams(
            input=parts.weight(input_init, key, d, features, kind, gates=3),
            bias=jnp.zeros(3 * features, kind).at[:features].set(jnp.asarray(forget_bias, kind)),
        )

    def step(
        p: MinLSTMParams, h: Float[Array, "*batch H"], x: Float[Array, "*batch D"]
    ) -> tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]]:
        u_f, u_i, u_n = jnp.split(x @ p.input + p.bias, 3, axis=-1)
        odds = jax.nn.log_sigmoid(u_f) - jax.nn.log_sigmoid(u_i)  # log f − log i
        f, i, n = parts.sigmoid(odds), parts.sigmoid(-odds), activation(u_n)
        h = f * h + i * n
        return h, h

    return cell(f"min_lstm({features})", init, step, carry=features, dtype=dtype)
