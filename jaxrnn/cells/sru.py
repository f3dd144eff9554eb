"""Simple recurrent units, with and without a carry in the gates."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cells import parts
from jaxrnn.core import Cell
from jaxrnn.kit import cell
from jaxrnn.origin import factory
from jaxrnn.shapes import Array, Float

lecun = jax.nn.initializers.lecun_uniform()  # variance 1/D, as the paper has it


def half(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Uniform with mean 0 and variance ½."""
    bound = 1.5**0.5
    return jax.random.uniform(key, shape, dtype, -bound, bound)


class SRUParams(NamedTuple):
    """Columns in the order f r n, and s if D ≠ H; v in the order f r."""

    input: Float[Array, "D GH"]
    recurrent: Float[Array, " 2H"]
    bias: Float[Array, " 2H"]


@factory
def sru(
    features: int,
    *,
    highway_bias: Any = 0.0,
    input_init: parts.Initialiser = lecun,
    recurrent_init: parts.Initialiser = half,
    dtype: Any = None,
) -> Cell:
    """Simple recurrent unit.

        f, r = σ(xₜ·W + v ∘ cₜ₋₁ + b)     n = xₜ·W                each its columns
        cₜ = f ∘ cₜ₋₁ + (1 − f) ∘ n
        yₜ = r ∘ cₜ + (1 − r) ∘ α s        α = √(1 + 2 exp(highway_bias))

    s is xₜ itself if D = H, and otherwise has columns of W, s = xₜ·W. The constant α keeps the variance
    from layer to layer; 1 − r alone would halve it.

    Carry: c [*batch, H], at first 0. Structure: elementwise, as v ∘ cₜ₋₁ stands in a gate; `sru_v1` is
    affine.

    Args:
      features: H.
      highway_bias: what the bias of r is initialised to; negative lets more of x through, and helps
        deep stacks. May be traced.
      input_init: of each block of W [D, 3H], or [D, 4H] if D ≠ H. The gates' blocks are then scaled by
        √½: with v of variance ½, their pre-activations have the variance of n.
      recurrent_init: of v [2H].
      dtype: of the parameters; that of x if None.

    Reference: Lei et al., Simple recurrent units for highly parallelizable recurrence, 2018,
    arXiv:1709.02755; the scales of gates and v are those of the authors' program.
    """

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        k, v = jax.random.split(key)
        blocks = parts.weight(input_init, k, d, features, kind, gates=3 + (d != features))
        return SRUParams(
            input=blocks.at[:, : 2 * features].multiply(0.5**0.5),
            recurrent=parts.draw(recurrent_init, v, (2 * features,), kind),
            bias=jnp.zeros(2 * features, kind).at[features:].set(jnp.asarray(highway_bias, kind)),
        )

    def step(
        p: SRUParams, c: Float[Array, "*batch H"], x: Float[Array, "*batch D"]
    ) -> tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]]:
        u_f, u_r, n, s = columns(x, x @ p.input, p.bias)
        v_f, v_r = jnp.split(p.recurrent, 2)
        f, r = parts.sigmoid(u_f + v_f * c), parts.sigmoid(u_r + v_r * c)
        c = f * c + (1 - f) * n
        alpha = jnp.sqrt(1 + 2 * jnp.exp(jnp.asarray(highway_bias, c.dtype)))
        return c, r * c + (1 - r) * alpha * s

    return cell(f"sru({features})", init, step, carry=features, dtype=dtype)


class SRUV1Params(NamedTuple):
    """Columns in the order f r n, and s if D ≠ H."""

    input: Float[Array, "D GH"]
    bias: Float[Array, " 2H"]


@factory
def sru_v1(
    features: int,
    *,
    activation: Callable[[jax.Array], jax.Array] = jnp.tanh,
    highway_bias: Any = 0.0,
    input_init: parts.Initialiser = lecun,
    dtype: Any = None,
) -> Cell:
    """Simple recurrent unit of the paper's first version: the gates see the input alone.

        f, r = σ(xₜ·W + b)     n = xₜ·W                            each its columns
        cₜ = f ∘ cₜ₋₁ + (1 − f) ∘ n
        yₜ = r ∘ g(cₜ) + (1 − r) ∘ s

    s is xₜ itself if D = H, and otherwise has columns of W, s = xₜ·W.

    Carry: c [*batch, H], at first 0. Structure: elementwise affine.

    Args:
      features: H.
      activation: g.
      highway_bias: what the bias of r is initialised to. May be traced.
      input_init: of each block of W [D, 3H], or [D, 4H] if D ≠ H.
      dtype: of the parameters; that of x if None.

    Reference: Lei & Zhang, Training RNNs as fast as CNNs, 2017, version 1 of arXiv:1709.02755.
    """

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        return SRUV1Params(
            input=parts.weight(input_init, key, d, features, kind, gates=3 + (d != features)),
            bias=jnp.zeros(2 * features, kind).at[features:].set(jnp.asarray(highway_bias, kind)),
        )

    def step(
        p: SRUV1Params, c: Float[Array, "*batch H"], x: Float[Array, "*batch D"]
    ) -> tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]]:
        u_f, u_r, n, s = columns(x, x @ p.input, p.bias)
        f, r = parts.sigmoid(u_f), parts.sigmoid(u_r)
        c = f * c + (1 - f) * n
        return c, r * activation(c) + (1 - r) * s

    return cell(f"sru_v1({features})", init, step, carry=features, dtype=dtype)


def columns(x: jax.Array, u: jax.Array, bias: jax.Array) -> list[jax.Array]:
    """Pre-activations of f and r, n, and what passes by the memory: x where it has the size."""
    h = bias.shape[0] // 2
    b_f, b_r = jnp.split(bias, 2)
    u_f, u_r, n, *s = jnp.split(u, u.shape[-1] // h, axis=-1)
    return [u_f + b_f, u_r + b_r, n, s[0] if s else x]
