"""Gated recurrent units: reset after the product, reset before it, and the minimal one."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cells import parts
from jaxrnn.core import Cell
from jaxrnn.kit import cell
from jaxrnn.origin import factory
from jaxrnn.shapes import Array, Float


class GRUParams(NamedTuple):
    """Columns in the order r z n."""

    input: Float[Array, "D 3H"]
    recurrent: Float[Array, "H 3H"]
    bias: Float[Array, " 3H"]
    recurrent_bias: Float[Array, " H"]


@factory
def gru(
    features: int,
    *,
    input_init: parts.Initialiser = parts.glorot,
    recurrent_init: parts.Initialiser = parts.orthogonal,
    dtype: Any = None,
) -> Cell:
    """Gated recurrent unit, the reset applied after the product: what PyTorch, cuDNN and Keras compute.

        r, z = σ(xₜ·W + b + hₜ₋₁·R)                 each its columns
        n = tanh(xₜ·W + b + r ∘ (hₜ₋₁·R + bₙ))
        hₜ = (1 − z) ∘ n + z ∘ hₜ₋₁                 yₜ = hₜ

    Carry: h [*batch, H], at first 0.

    Args:
      features: H.
      input_init: of each gate's block of W [D, 3H].
      recurrent_init: of each gate's block of R [H, 3H].
      dtype: of the parameters; that of x if None.

    Reference: Cho et al., Learning phrase representations using RNN encoder-decoder, 2014, version 1
    of arXiv:1406.1078.
    """

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        k, r = jax.random.split(key)
        return GRUParams(
            input=parts.weight(input_init, k, d, features, kind, gates=3),
            recurrent=parts.weight(recurrent_init, r, features, features, kind, gates=3),
            bias=jnp.zeros(3 * features, kind),
            recurrent_bias=jnp.zeros(features, kind),
        )

    def step(
        p: GRUParams, h: Float[Array, "*batch H"], x: Float[Array, "*batch D"]
    ) -> tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]]:
        # bₙ joins the whole product: a bias of all its columns is one sum, and needs no loop.
        u = h @ p.recurrent + jnp.pad(p.recurrent_bias, (2 * features, 0))
        x_rz, x_n = jnp.split(x @ p.input + p.bias, [2 * features], axis=-1)
        h_rz, h_n = jnp.split(u, [2 * features], axis=-1)
        r, z = jnp.split(parts.sigmoid(x_rz + h_rz), 2, axis=-1)
        n = jnp.tanh(x_n + r * h_n)
        h = (1 - z) * n + z * h
        return h, h

    return cell(f"gru({features})", init, step, carry=features, dtype=dtype)


class GRUResetBeforeParams(NamedTuple):
    """Columns in the order r z n."""

    input: Float[Array, "D 3H"]
    recurrent: Float[Array, "H 3H"]
    bias: Float[Array, " 3H"]


@factory
def gru_reset_before(
    features: int,
    *,
    input_init: parts.Initialiser = parts.glorot,
    recurrent_init: parts.Initialiser = parts.orthogonal,
    dtype: Any = None,
) -> Cell:
    """Gated recurrent unit, the reset applied before the product, as most textbooks print it.

        r, z = σ(xₜ·W + b + hₜ₋₁·R)                 each its columns
        n = tanh(xₜ·W + b + (r ∘ hₜ₋₁)·R)
        hₜ = (1 − z) ∘ n + z ∘ hₜ₋₁                 yₜ = hₜ

    Carry: h [*batch, H], at first 0. Arguments as for `gru`.

    Reference: Cho et al., Learning phrase representations using RNN encoder-decoder, 2014,
    arXiv:1406.1078.
    """

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        k, r = jax.random.split(key)
        return GRUResetBeforeParams(
            input=parts.weight(input_init, k, d, features, kind, gates=3),
            recurrent=parts.weight(recurrent_init, r, features, features, kind, gates=3),
            bias=jnp.zeros(3 * features, kind),
        )

    def step(
        p: GRUResetBeforeParams, h: Float[Array, "*batch H"], x: Float[Array, "*batch D"]
    ) -> tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]]:
        x_rz, x_n = jnp.split(x @ p.input + p.bias, [2 * features], axis=-1)
        R_rz, R_n = jnp.split(p.recurrent, [2 * features], axis=-1)
        r, z = jnp.split(parts.sigmoid(x_rz + h @ R_rz), 2, axis=-1)
        n = jnp.tanh(x_n + (r * h) @ R_n)
        h = (1 - z) * n + z * h
        return h, h

    return cell(f"gru_reset_before({features})", init, step, carry=features, dtype=dtype)


class MGUParams(NamedTuple):
    """Columns in the order f n."""

    input: Float[Array, "D 2H"]
    recurrent: Float[Array, "H 2H"]
    bias: Float[Array, " 2H"]


@factory
def mgu(
    features: int,
    *,
    forget_bias: Any = 1.0,
    input_init: parts.Initialiser = parts.glorot,
    recurrent_init: parts.Initialiser = parts.orthogonal,
    dtype: Any = None,
) -> Cell:
    """Minimal gated unit: a GRU whose two gates are one.

        f = σ(xₜ·W + b + hₜ₋₁·R)                    each its columns
        n = tanh(xₜ·W + b + (f ∘ hₜ₋₁)·R)
        hₜ = (1 − f) ∘ hₜ₋₁ + f ∘ n                 yₜ = hₜ

    Carry: h [*batch, H], at first 0.

    Args:
      features: H.
      forget_bias: what the bias of the gate is initialised to. May be traced.
      input_init: of each gate's block of W [D, 2H].
      recurrent_init: of each gate's block of R [H, 2H].
      dtype: of the parameters; that of x if None.

    Reference: Zhou et al., Minimal gated unit for recurrent neural networks, 2016, arXiv:1603.09420.
    """

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        k, r = jax.random.split(key)
        return MGUParams(
            input=parts.weight(input_init, k, d, features, kind, gates=2),
            recurrent=parts.weight(recurrent_init, r, features, features, kind, gates=2),
            bias=jnp.zeros(2 * features, kind).at[:features].set(forget_bias),
        )

    def step(
        p: MGUParams, h: Float[Array, "*batch H"], x: Float[Array, "*batch D"]
    ) -> tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]]:
        x_f, x_n = jnp.split(x @ p.input + p.bias, 2, axis=-1)
        R_f, R_n = jnp.split(p.recurrent, 2, axis=-1)
        f = parts.sigmoid(x_f + h @ R_f)
        n = jnp.tanh(x_n + (f * h) @ R_n)
        h = (1 - f) * h + f * n
        return h, h

    return cell(f"mgu({features})", init, step, carry=features, dtype=dtype)
