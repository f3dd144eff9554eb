"""Long short-term memory, without and with peepholes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cells import parts
from jaxrnn.core import Cell
from jaxrnn.kit import cell
from jaxrnn.origin import factory
from jaxrnn.shapes import Array, Float


class LSTMParams(NamedTuple):
    """Columns in the order i f o g: the sigmoid gates stand side by side."""

    input: Float[Array, "D 4H"]
    recurrent: Float[Array, "H 4H"]
    bias: Float[Array, " 4H"]


class LSTMCarry(NamedTuple):
    h: Any  # [*batch, H]
    c: Any  # [*batch, H]


@factory
def lstm(
    features: int,
    *,
    forget_bias: Any = 1.0,
    input_init: parts.Initialiser = parts.glorot,
    recurrent_init: parts.Initialiser = parts.orthogonal,
    dtype: Any = None,
) -> Cell:
    """Long short-term memory.

        i, f, o = σ(xₜ·W + hₜ₋₁·R + b)     g = tanh(xₜ·W + hₜ₋₁·R + b)     each its columns
        cₜ = f ∘ cₜ₋₁ + i ∘ g
        hₜ = o ∘ tanh(cₜ)                   yₜ = hₜ

    Carry: `LSTMCarry(h, c)`, both [*batch, H], at first 0.

    Args:
      features: H.
      forget_bias: what the bias of the forget gate is initialised to; it lives in the parameters,
        not in the equation (Gers et al. 2000; Jozefowicz et al. 2015). May be traced.
      input_init: of each gate's block of W [D, 4H].
      recurrent_init: of each gate's block of R [H, 4H].
      dtype: of the parameters; that of x if None.

    References: Hochreiter & Schmidhuber, Long short-term memory, Neural Computation 9, 1997; Gers,
    Schmidhuber & Cummins, Learning to forget, Neural Computation 12, 2000.
    """

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        k, r = jax.random.split(key)
        return LSTMParams(
            input=parts.weight(input_init, k, d, features, kind, gates=4),
            recurrent=parts.weight(recurrent_init, r, features, features, kind, gates=4),
            bias=gate_bias(features, forget_bias, kind),
        )

    def step(
        p: LSTMParams, carry: LSTMCarry, x: Float[Array, "*batch D"]
    ) -> tuple[LSTMCarry, Float[Array, "*batch H"]]:
        h, c = carry
        gates, g = jnp.split(x @ p.input + p.bias + h @ p.recurrent, [3 * features], axis=-1)
        i, f, o = jnp.split(parts.sigmoid(gates), 3, axis=-1)
        c = f * c + i * jnp.tanh(g)
        h = o * jnp.tanh(c)
        return LSTMCarry(h, c), h

    return cell(f"lstm({features})", init, step, carry=LSTMCarry(features, features), dtype=dtype)


def gate_bias(features: int, forget_bias: Any, dtype: Any) -> jax.Array:
    """0 [4H], and the forget bias in the columns of f."""
    return jnp.zeros(4 * features, dtype).at[features : 2 * features].set(forget_bias)


class PeepholeLSTMParams(NamedTuple):
    """Columns in the order i f o g, peepholes in the order i f o."""

    input: Float[Array, "D 4H"]
    recurrent: Float[Array, "H 4H"]
    bias: Float[Array, " 4H"]
    peephole: Float[Array, " 3H"]


@factory
def peephole_lstm(
    features: int,
    *,
    forget_bias: Any = 1.0,
    input_init: parts.Initialiser = parts.glorot,
    recurrent_init: parts.Initialiser = parts.orthogonal,
    dtype: Any = None,
) -> Cell:
    """Long short-term memory whose gates see the memory.

        i, f = σ(xₜ·W + hₜ₋₁·R + b + p ∘ cₜ₋₁)     g = tanh(xₜ·W + hₜ₋₁·R + b)     each its columns
        cₜ = f ∘ cₜ₋₁ + i ∘ g
        o = σ(xₜ·W + hₜ₋₁·R + b + p ∘ cₜ)
        hₜ = o ∘ tanh(cₜ)                           yₜ = hₜ

    Carry: `LSTMCarry(h, c)`, both [*batch, H], at first 0. The peepholes p are initialised to 0.

    Args:
      features: H.
      forget_bias: what the bias of the forget gate is initialised to. May be traced.
      input_init: of each gate's block of W [D, 4H].
      recurrent_init: of each gate's block of R [H, 4H].
      dtype: of the parameters; that of x if None.

    References: Gers & Schmidhuber, Recurrent nets that time and count, 2000; in this form Graves,
    Generating sequences with recurrent neural networks, 2013, arXiv:1308.0850.
    """
    h1, h2, h3 = features, 2 * features, 3 * features

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        k, r = jax.random.split(key)
        return PeepholeLSTMParams(
            input=parts.weight(input_init, k, d, features, kind, gates=4),
            recurrent=parts.weight(recurrent_init, r, features, features, kind, gates=4),
            bias=gate_bias(features, forget_bias, kind),
            peephole=jnp.zeros(h3, kind),
        )

    def step(
        p: PeepholeLSTMParams, carry: LSTMCarry, x: Float[Array, "*batch D"]
    ) -> tuple[LSTMCarry, Float[Array, "*batch H"]]:
        h, c = carry
        u = x @ p.input + p.bias + h @ p.recurrent
        u_if, u_o, u_g = jnp.split(u, [h2, h3], axis=-1)
        p_i, p_f, p_o = jnp.split(p.peephole, [h1, h2])
        seen = jnp.concatenate([p_i * c, p_f * c], axis=-1)
        i, f = jnp.split(parts.sigmoid(u_if + seen), 2, axis=-1)
        c = f * c + i * jnp.tanh(u_g)
        h = parts.sigmoid(u_o + p_o * c) * jnp.tanh(c)
        return LSTMCarry(h, c), h

    return cell(
        f"peephole_lstm({features})", init, step, carry=LSTMCarry(features, features), dtype=dtype
    )
