"""Layer-normalised cells: each product is normalised over its features before it is used."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cells import parts
from jaxrnn.cells.lstm import LSTMCarry, gate_bias
from jaxrnn.core import Cell
from jaxrnn.kit import cell
from jaxrnn.origin import factory
from jaxrnn.shapes import Array, Float


class LayerNormLSTMParams(NamedTuple):
    """Columns in the order i f o g."""

    input: Float[Array, "D 4H"]
    recurrent: Float[Array, "H 4H"]
    bias: Float[Array, " 4H"]
    input_scale: Float[Array, " 4H"]
    recurrent_scale: Float[Array, " 4H"]
    carry_scale: Float[Array, " H"]
    carry_bias: Float[Array, " H"]


@factory
def layer_norm_lstm(
    features: int,
    *,
    forget_bias: Any = 1.0,
    input_init: parts.Initialiser = parts.glorot,
    recurrent_init: parts.Initialiser = parts.orthogonal,
    dtype: Any = None,
) -> Cell:
    """Long short-term memory with layer normalisation.

        u = α₁ ∘ N(xₜ·W) + α₂ ∘ N(hₜ₋₁·R) + b        N(a) = (a − mean a) / √(var a + ε)
        i, f, o = σ(u)     g = tanh(u)                 each its columns
        cₜ = f ∘ cₜ₋₁ + i ∘ g
        hₜ = o ∘ tanh(α₃ ∘ N(cₜ) + β₃)                yₜ = hₜ

    N is over the last axis, ε = 10⁻⁵. Carry: `LSTMCarry(h, c)`, both [*batch, H], at first 0.

    Args:
      features: H.
      forget_bias: what the bias of the forget gate is initialised to. May be traced.
      input_init: of each gate's block of W [D, 4H].
      recurrent_init: of each gate's block of R [H, 4H].
      dtype: of the parameters; that of x if None. Means and variances are taken in float32 at least.

    Reference: Ba, Kiros & Hinton, Layer normalization, 2016, arXiv:1607.06450, eq. 20–22.
    """

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        k, r = jax.random.split(key)
        return LayerNormLSTMParams(
            input=parts.weight(input_init, k, d, features, kind, gates=4),
            recurrent=parts.weight(recurrent_init, r, features, features, kind, gates=4),
            bias=gate_bias(features, forget_bias, kind),
            input_scale=jnp.ones(4 * features, kind),
            recurrent_scale=jnp.ones(4 * features, kind),
            carry_scale=jnp.ones(features, kind),
            carry_bias=jnp.zeros(features, kind),
        )

    def step(
        p: LayerNormLSTMParams, carry: LSTMCarry, x: Float[Array, "*batch D"]
    ) -> tuple[LSTMCarry, Float[Array, "*batch H"]]:
        h, c = carry
        u = p.input_scale * parts.normalise(x @ p.input) + p.bias
        u = u + p.recurrent_scale * parts.normalise(h @ p.recurrent)
        gates, g = jnp.split(u, [3 * features], axis=-1)
        i, f, o = jnp.split(parts.sigmoid(gates), 3, axis=-1)
        c = f * c + i * jnp.tanh(g)
        h = o * jnp.tanh(p.carry_scale * parts.normalise(c) + p.carry_bias)
        return LSTMCarry(h, c), h

    return cell(
        f"layer_norm_lstm({features})", init, step, carry=LSTMCarry(features, features), dtype=dtype
    )


class LayerNormGRUParams(NamedTuple):
    """Columns in the order r z n."""

    input: Float[Array, "D 3H"]
    recurrent: Float[Array, "H 3H"]
    bias: Float[Array, " 3H"]
    input_scale: Float[Array, " 3H"]
    recurrent_scale: Float[Array, " 3H"]


@factory
def layer_norm_gru(
    features: int,
    *,
    input_init: parts.Initialiser = parts.glorot,
    recurrent_init: parts.Initialiser = parts.orthogonal,
    dtype: Any = None,
) -> Cell:
    """Gated recurrent unit with layer normalisation.

        v = β ∘ N(xₜ·W) + b     u = α ∘ N(hₜ₋₁·R)     N of the columns r z together, of n apart
        r, z = σ(v + u)                                each its columns
        n = tanh(v + r ∘ u)
        hₜ = (1 − z) ∘ n + z ∘ hₜ₋₁                    yₜ = hₜ

    N(a) = (a − mean a) / √(var a + ε) over the last axis, ε = 10⁻⁵. Carry: h [*batch, H], at first 0.
    Here z keeps, as in all cells of this library; in the paper it replaces. Arguments as for
    `layer_norm_lstm`.

    Reference: Ba, Kiros & Hinton, Layer normalization, 2016, arXiv:1607.06450, eq. 23–26.
    """
    gates = 2 * features

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        k, r = jax.random.split(key)
        return LayerNormGRUParams(
            input=parts.weight(input_init, k, d, features, kind, gates=3),
            recurrent=parts.weight(recurrent_init, r, features, features, kind, gates=3),
            bias=jnp.zeros(3 * features, kind),
            input_scale=jnp.ones(3 * features, kind),
            recurrent_scale=jnp.ones(3 * features, kind),
        )

    def blockwise(a):
        rz, n = jnp.split(a, [gates], axis=-1)
        return jnp.concatenate([parts.normalise(rz), parts.normalise(n)], axis=-1)

    def step(
        p: LayerNormGRUParams, h: Float[Array, "*batch H"], x: Float[Array, "*batch D"]
    ) -> tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]]:
        v = p.input_scale * blockwise(x @ p.input) + p.bias
        u = p.recurrent_scale * blockwise(h @ p.recurrent)
        v_rz, v_n = jnp.split(v, [gates], axis=-1)
        u_rz, u_n = jnp.split(u, [gates], axis=-1)
        r, z = jnp.split(parts.sigmoid(v_rz + u_rz), 2, axis=-1)
        n = jnp.tanh(v_n + r * u_n)
        h = (1 - z) * n + z * h
        return h, h

    return cell(f"layer_norm_gru({features})", init, step, carry=features, dtype=dtype)
