"""Hierarchically gated recurrent networks, complex and real: forget gates with a lower bound."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import core

from jaxrnn.cells import parts
from jaxrnn.core import Cell
from jaxrnn.kit import Features, cell
from jaxrnn.origin import factory
from jaxrnn.shapes import Array, Float


class HGRNParams(NamedTuple):
    """Columns in the order f o c: o has as many as the memory has real numbers, and so has c."""

    input: Float[Array, "D 5H"]
    bias: Float[Array, " 5H"]
    phase: Float[Array, " H"]
    output: Float[Array, "2H H"]
    output_bias: Float[Array, " H"]


@factory
def hgrn(
    features: int,
    *,
    lower_bound: Any = 0.0,
    input_init: parts.Initialiser = parts.glorot,
    output_init: parts.Initialiser = parts.glorot,
    dtype: Any = None,
) -> Cell:
    """Hierarchically gated recurrent network: a complex memory whose forget gate has a lower bound.

        f = γ + (1 − γ) ∘ σ(xₜ·W + b)     o = σ(xₜ·W + b)        each its columns
        c = silu(xₜ·W + b) + i silu(xₜ·W + b)
        hₜ = f ∘ exp(iθ) ∘ hₜ₋₁ + (1 − f) ∘ c
        yₜ = (o ∘ N([Re hₜ, Im hₜ]))·V + a

    N is `parts.normalise`, without a scale: V has one. Carry: h [*batch, H], complex, at first 0.
    Structure: elementwise affine. The phase θ is a parameter and does not depend on x.

    Args:
      features: H, complex numbers of memory; o has 2H columns, and y has H real features.
      lower_bound: γ, a number or an array [H], 0 ≤ γ < 1: the least that is kept. In a stack it grows
        from layer to layer; `lower_bounds` makes the paper's. May be traced, and so learned.
      input_init: of each gate's block [D, H] of W [D, 5H].
      output_init: of V [2H, H].
      dtype: of the parameters; that of x if None. The output has the promoted dtype of parameters and
        x, the carry the complex dtype of this precision, complex64 at least.

    Raises:
      ValueError: if `lower_bound` is not in [0, 1).

    Reference: Qin, Yang & Zhong, Hierarchically gated recurrent neural network for sequence modeling,
    2023, arXiv:2311.04823; the initial phases are those of the authors' program.
    """
    check_bound("hgrn", lower_bound)

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        k, v = jax.random.split(key)
        return HGRNParams(
            input=parts.weight(input_init, k, d, features, kind, gates=5),
            bias=jnp.zeros(5 * features, kind),
            phase=jnp.asarray(10000.0 ** (-2 * np.arange(features) / features), kind),
            output=parts.weight(output_init, v, 2 * features, features, kind),
            output_bias=jnp.zeros(features, kind),
        )

    def step(
        p: HGRNParams, h: Array, x: Float[Array, "*batch D"]
    ) -> tuple[Array, Float[Array, "*batch H"]]:
        wide = h.real.dtype  # there is no complex bfloat16
        u_f, u_o, u_c = jnp.split(x @ p.input + p.bias, [features, 3 * features], axis=-1)
        f = bounded(u_f, lower_bound).astype(wide)
        c = jax.lax.complex(*jnp.split(silu(u_c).astype(wide), 2, axis=-1))
        turn = jax.lax.complex(*(part(p.phase.astype(wide)) for part in (jnp.cos, jnp.sin)))
        h = f * turn * h + (1 - f) * c
        memory = jnp.concatenate([h.real, h.imag], axis=-1).astype(u_o.dtype)
        return h, (parts.sigmoid(u_o) * parts.normalise(memory)) @ p.output + p.output_bias

    return cell(
        f"hgrn({features})", init, step, carry=Features(features, dtype=jnp.complex64), dtype=dtype
    )


class RealHGRNParams(NamedTuple):
    """Columns in the order f o c."""

    input: Float[Array, "D 3H"]
    bias: Float[Array, " 3H"]
    output: Float[Array, "H H"]
    output_bias: Float[Array, " H"]


@factory
def real_hgrn(
    features: int,
    *,
    lower_bound: Any = 0.0,
    input_init: parts.Initialiser = parts.glorot,
    output_init: parts.Initialiser = parts.glorot,
    dtype: Any = None,
) -> Cell:
    """Hierarchically gated recurrent network with a real memory.

        f = γ + (1 − γ) ∘ σ(xₜ·W + b)     o = σ(xₜ·W + b)     c = silu(xₜ·W + b)     each its columns
        hₜ = f ∘ hₜ₋₁ + (1 − f) ∘ c
        yₜ = (o ∘ N(hₜ))·V + a

    Carry: h [*batch, H], at first 0. Structure: elementwise affine. Arguments as for `hgrn`; V is
    [H, H], and carry and output have the promoted dtype of parameters and x.

    Reference: as for `hgrn`.
    """
    name = f"real_hgrn({features})"
    check_bound("real_hgrn", lower_bound)

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        k, v = jax.random.split(key)
        return RealHGRNParams(
            input=parts.weight(input_init, k, d, features, kind, gates=3),
            bias=jnp.zeros(3 * features, kind),
            output=parts.weight(output_init, v, features, features, kind),
            output_bias=jnp.zeros(features, kind),
        )

    def step(
        p: RealHGRNParams, h: Float[Array, "*batch H"], x: Float[Array, "*batch D"]
    ) -> tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]]:
        u_f, u_o, u_c = jnp.split(x @ p.input + p.bias, 3, axis=-1)
        f = bounded(u_f, lower_bound)
        h = f * h + (1 - f) * silu(u_c)
        return h, (parts.sigmoid(u_o) * parts.normalise(h)) @ p.output + p.output_bias

    return cell(name, init, step, carry=features, dtype=dtype)


def lower_bounds(logits: jax.Array) -> jax.Array:
    """The bounds γ [layers, H] of a stack from free parameters of the same shape.

    γₖ = Σ_{j≤k} Pⱼ − P₁, where P is the softmax over layers: 0 in the first, growing, below 1.
    """
    share = jax.nn.softmax(logits, axis=0)
    return jnp.cumsum(share, axis=0) - share[:1]


def bounded(u: jax.Array, lower_bound: Any) -> jax.Array:
    """γ + (1 − γ) ∘ σ(u)."""
    bound = jnp.asarray(lower_bound, u.dtype)
    return bound + (1 - bound) * parts.sigmoid(u)


def silu(u: jax.Array) -> jax.Array:
    return u * parts.sigmoid(u)


def check_bound(name: str, bound: Any) -> None:
    """A bound that is traced cannot be looked at."""
    if isinstance(bound, core.Tracer):
        return
    array = np.asarray(bound)
    if array.dtype.kind not in "fiu" or not ((array >= 0) & (array < 1)).all():
        raise ValueError(f"{name}() needs a lower_bound with 0 <= lower_bound < 1, got {bound!r}")
