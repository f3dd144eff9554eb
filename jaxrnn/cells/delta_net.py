"""Delta nets: memories that correct what a key stands for, without and with forgetting."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import core

from jaxrnn.cells import memory, parts
from jaxrnn.cells.heads import blocks, check_heads, joined, outer, read, slab, split, titled
from jaxrnn.core import Cell
from jaxrnn.kit import Features, cell
from jaxrnn.origin import factory
from jaxrnn.shapes import Array, Float


class DeltaNetParams(NamedTuple):
    """Columns in the order q k v, each of them head by head, and β, one for each head."""

    input: Float[Array, "D N"]


@factory
def delta_net(
    features: int,
    *,
    heads: int = 1,
    key_features: int | None = None,
    input_init: parts.Initialiser = parts.glorot,
    dtype: Any = None,
) -> Cell:
    """Delta net: what the memory returns for a key is moved towards the value, a step of size β.

        q, k, v, b = xₜ·W                    each its columns, and each head by itself:
        q, k = N(silu(q)), N(silu(k))        N(a) = a / √(|a|² + 10⁻⁶)        β = σ(b)
        Sₜ = Sₜ₋₁ + β k (v − Sₜ₋₁ᵀ k)ᵀ
        yₜ = Sₜᵀ q

    The heads' outputs stand side by side. Short convolutions before, normalising each head and
    projecting after are left to the layers around.

    Carry: S [*batch, heads, K, V], at first 0. Structure: dense, each key mixes the rows of S.
    `parallel` takes all steps at once, by products of matrices.

    Args:
      features: of y, heads × V.
      heads: how many memories there are side by side.
      key_features: K, of q and k of one head; V if None.
      input_init: of the columns of W [D, 2 heads K + features + heads] for q, k, v and b.
      dtype: of the parameters; that of x if None.

    Raises:
      ValueError: if `features`, `heads` or `key_features` is not a positive integer, or the heads do
        not divide the features.

    References: Schlag, Irie & Schmidhuber, Linear transformers are secretly fast weight programmers,
    2021, arXiv:2102.11174; with this normalisation Yang et al., Parallelizing linear transformers with
    the delta rule over sequence length, 2024, arXiv:2406.06484.
    """
    rows, columns = check_heads("delta_net", features, heads, key_features)
    name = titled("delta_net", features, heads=heads, key_features=key_features)
    widths = [heads * rows, heads * rows, features, heads]

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        return DeltaNetParams(slab(input_init, key, d, widths, kind))

    def projected(p, x):
        *qkv, b = blocks(x @ p.input, widths)
        q, k, v = (split(a, heads) for a in qkv)
        return unit(jax.nn.silu(q)), unit(jax.nn.silu(k)), v, parts.sigmoid(b)

    def step(
        p: DeltaNetParams, s: Float[Array, "*batch heads K V"], x: Float[Array, "*batch D"]
    ) -> tuple[Float[Array, "*batch heads K V"], Float[Array, "*batch H"]]:
        q, k, v, beta = projected(p, x)
        s = s + outer(k, beta[..., None] * (v - read(s, k)))
        return s, joined(read(s, q))

    def parallel(p, s, xs, **options):
        q, k, v, beta = projected(p, xs)
        s, y = memory.delta(s, q, k, v, None, beta, **options)
        return s, joined(y)

    return cell(
        name, init, step, carry=Features(heads, rows, columns), dtype=dtype, parallel=parallel
    )


def unit(a: jax.Array) -> jax.Array:
    """Of length 1, if it is not near 0. In float32 at least: float16 cannot hold the slope of 1/√ε."""
    wide = a.astype(jnp.promote_types(a.dtype, jnp.float32))
    unit = wide * jax.lax.rsqrt(jnp.square(wide).sum(-1, keepdims=True) + 1e-6)
    return unit.astype(a.dtype)


class GatedDeltaNetParams(NamedTuple):
    """Columns in the order q k v, each of them head by head, β and the step, one for each head."""

    input: Float[Array, "D N"]
    decay: Float[Array, " heads"]
    bias: Float[Array, " heads"]


@factory
def gated_delta_net(
    features: int,
    *,
    heads: int = 1,
    key_features: int | None = None,
    decay_range: tuple[Any, Any] = (1.0, 16.0),
    step_range: tuple[Any, Any] = (1e-3, 0.1),
    input_init: parts.Initialiser = parts.glorot,
    dtype: Any = None,
) -> Cell:
    """Gated delta net: the delta rule on a memory that forgets as the input says.

        q, k, v, b, d = xₜ·W                 each its columns, and each head by itself:
        q, k = N(silu(q)), N(silu(k))        N(a) = a / √(|a|² + 10⁻⁶)        β = σ(b)
        α = e^(−e^A Δ)                       Δ = softplus(d + c)
        Sₜ = α Sₜ₋₁ + β k (v − α Sₜ₋₁ᵀ k)ᵀ
        yₜ = Sₜᵀ q

    The heads' outputs stand side by side. Short convolutions before, normalising each head, the output
    gate and the projection after are left to the layers around.

    Carry: S [*batch, heads, K, V], at first 0. Structure: dense, each key mixes the rows of S.
    `parallel` takes all steps at once, by products of matrices.

    Args:
      features: of y, heads × V.
      heads: how many memories there are side by side.
      key_features: K, of q and k of one head; V if None.
      decay_range: between what e^A is drawn, uniformly. May be traced.
      step_range: between what softplus(c) is drawn, log-uniformly: Δ where d = 0. May be traced.
      input_init: of the columns of W [D, 2 heads K + features + 2 heads] for q, k, v, b and d.
      dtype: of the parameters; that of x if None.

    Raises:
      ValueError: if `features`, `heads` or `key_features` is not a positive integer, the heads do not
        divide the features, or a range is not one of positive numbers.

    References: Yang, Kautz & Hatamizadeh, Gated delta networks: improving Mamba2 with delta rule, 2024,
    arXiv:2412.06464, eq. 10; α and what its parameters are drawn from as in Dao & Gu 2024,
    arXiv:2405.21060.
    """
    rows, columns = check_heads("gated_delta_net", features, heads, key_features)
    _check_range("decay_range", decay_range)
    _check_range("step_range", step_range)
    name = titled("gated_delta_net", features, heads=heads, key_features=key_features)
    widths = [heads * rows, heads * rows, features, heads, heads]

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        k, a, c = jax.random.split(key, 3)
        low, high = (jnp.log(jnp.asarray(v, jnp.float32)) for v in step_range)
        step = jnp.exp(parts.draw(parts.uniform, c, (heads,), jnp.float32) * (high - low) + low)
        low, high = decay_range
        decay = parts.draw(parts.uniform, a, (heads,), jnp.float32) * (high - low) + low
        return GatedDeltaNetParams(
            input=slab(input_init, k, d, widths, kind),
            decay=jnp.log(decay).astype(kind),
            bias=(step + jnp.log(-jnp.expm1(-step))).astype(kind),  # softplus of it is the step
        )

    def projected(p, x):
        *qkv, b, d = blocks(x @ p.input, widths)
        q, k, v = (split(a, heads) for a in qkv)
        alpha = jnp.exp(-jnp.exp(p.decay) * jax.nn.softplus(d + p.bias))
        return unit(jax.nn.silu(q)), unit(jax.nn.silu(k)), v, alpha, parts.sigmoid(b)

    def step(
        p: GatedDeltaNetParams, s: Float[Array, "*batch heads K V"], x: Float[Array, "*batch D"]
    ) -> tuple[Float[Array, "*batch heads K V"], Float[Array, "*batch H"]]:
        q, k, v, alpha, beta = projected(p, x)
        s = alpha[..., None, None] * s
        s = s + outer(k, beta[..., None] * (v - read(s, k)))
        return s, joined(read(s, q))

    def parallel(p, s, xs, **options):
        q, k, v, alpha, beta = projected(p, xs)
        s, y = memory.delta(s, q, k, v, alpha, beta, **options)
        return s, joined(y)

    return cell(
        name, init, step, carry=Features(heads, rows, columns), dtype=dtype, parallel=parallel
    )


def _check_range(what: str, given: tuple[Any, Any]) -> None:
    if any(isinstance(v, core.Tracer) for v in given):
        return
    low, high = (float(np.asarray(v)) for v in given)
    if not 0 < low <= high < np.inf:
        raise ValueError(f"gated_delta_net() needs {what} with 0 < low <= high, got {given!r}")
