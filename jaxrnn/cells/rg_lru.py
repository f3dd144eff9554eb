"""Real-gated linear recurrent unit, the recurrence of Griffin."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cells import parts
from jaxrnn.cells.lru import check_numbers, check_size, fan_in, shown
from jaxrnn.core import Cell
from jaxrnn.kit import cell
from jaxrnn.origin import factory
from jaxrnn.shapes import Array, Float


class RGLRUParams(NamedTuple):
    """One block of the gates for each of G heads, K = H/G; its columns in the order r i."""

    input: Float[Array, "D H"]
    gates: Float[Array, "G K 2K"]
    gate_bias: Float[Array, "G 2K"]
    decay: Float[Array, " H"]


@factory
def rg_lru(
    features: int,
    *,
    heads: int = 1,
    c: Any = 8.0,
    r_min: Any = 0.9,
    r_max: Any = 0.999,
    input_init: parts.Initialiser = parts.glorot,
    gate_init: parts.Initialiser = fan_in,
    dtype: Any = None,
) -> Cell:
    """Real-gated linear recurrent unit.

        uₜ = xₜ·W
        r, i = σ(uₜ·V + v)                          each its columns, head by head
        a = σ(Λ)^(c·r)
        hₜ = a ∘ hₜ₋₁ + √(1 − a²) ∘ i ∘ uₜ            yₜ = hₜ

    Carry: h [*batch, H], at first 0. Structure: elementwise affine. V is block-diagonal: a head's
    gates see that head's features only. W stands for the layer that Griffin's block has before it
    (there with a causal convolution between).

    Args:
      features: H.
      heads: G, the number of blocks of V.
      c: the power at r = 1. May be traced.
      r_min, r_max: at first σ(Λ)ᶜ, the decay at r = 1, is uniform between them. May be traced.
      input_init: of W [D, H].
      gate_init: of each head's block of each gate [H/G, H/G].
      dtype: of the parameters; that of x if None. In bfloat16 an a nearer to 1 than 2⁻⁹
        is 1: float32 remembers longer.

    Raises:
      ValueError: if `features` or `heads` is not a positive integer, `heads` does not divide
        `features`, or not c > 0 and 0 < r_min ≤ r_max < 1.

    Reference: De et al., Griffin: mixing gated linear recurrences with local attention for efficient
    language models, 2024, arXiv:2402.19427.
    """
    check_size("rg_lru", "heads", heads)
    if features % heads:
        raise ValueError(f"rg_lru() needs heads to divide features, got {heads} and {features}")
    check_numbers("rg_lru() needs c > 0", lambda c: c > 0, c=c)
    check_numbers(
        "rg_lru() needs 0 < r_min <= r_max < 1",
        lambda low, high: (low > 0) & (low <= high) & (high < 1),
        r_min=r_min,
        r_max=r_max,
    )
    name = shown("rg_lru", features, heads=(heads, 1))
    width = features // heads

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        wide = jnp.promote_types(kind, jnp.float32)
        k_input, k_gates, k_decay = jax.random.split(key, 3)
        decay = jax.random.uniform(k_decay, (features,), wide, r_min, r_max)
        log_a = jnp.log(decay) / c
        gates = [
            parts.weight(gate_init, k, width, width, kind, gates=2)
            for k in jax.random.split(k_gates, heads)
        ]
        return RGLRUParams(
            input=parts.weight(input_init, k_input, d, features, kind),
            gates=jnp.stack(gates),
            gate_bias=jnp.zeros((heads, 2 * width), kind),
            # The inverse of the sigmoid: log a − log(1 − a).
            decay=(log_a - jnp.log(-jnp.expm1(log_a))).astype(kind),
        )

    def step(
        p: RGLRUParams, h: Float[Array, "*batch H"], x: Float[Array, "*batch D"]
    ) -> tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]]:
        wide = jnp.promote_types(h.dtype, jnp.float32)
        u = x @ p.input
        block = u.reshape(*u.shape[:-1], heads, width)
        gates = jnp.einsum("...gk,gkm->...gm", block, p.gates) + p.gate_bias
        # Not parts.sigmoid: √(1 − a²) sees how far below its smallest number an r is.
        r, i = jnp.split(jax.nn.sigmoid(gates.astype(wide)), 2, axis=-1)
        log_a = jnp.asarray(c, wide) * r.reshape(u.shape) * jax.nn.log_sigmoid(p.decay.astype(wide))
        a, scale = jnp.exp(log_a), complement(log_a)
        h = a.astype(h.dtype) * h + (scale * i.reshape(u.shape)).astype(h.dtype) * u
        return h, h

    return cell(name, init, step, carry=features, dtype=dtype)


def complement(log_a: jax.Array) -> jax.Array:
    """√(1 − a²) of log a ≤ 0.

    At a = 1 the slope of the root is infinite, and times a gate's slope of 0 it would be NaN. So the
    root is not taken of less than ε³, far below what a float sees beside 1.
    """
    return jnp.sqrt(jnp.maximum(-jnp.expm1(2 * log_a), jnp.finfo(log_a.dtype).eps ** 3))
