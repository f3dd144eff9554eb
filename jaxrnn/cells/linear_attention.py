"""Linear attention, without and with decay: memories that add up what they are given."""

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


class LinearAttentionParams(NamedTuple):
    """Columns in the order q k v, each of them head by head."""

    input: Float[Array, "D N"]


class LinearAttentionCarry(NamedTuple):
    s: Any  # [*batch, heads, K, V]
    z: Any  # [*batch, heads, K]


@factory
def linear_attention(
    features: int,
    *,
    heads: int = 1,
    key_features: int | None = None,
    epsilon: Any = 1e-6,
    input_init: parts.Initialiser = parts.glorot,
    dtype: Any = None,
) -> Cell:
    """Linear attention: a transformer's, its softmax replaced by a product of features φ.

        q, k, v = xₜ·W                       each its columns, and each head by itself:
        Sₜ = Sₜ₋₁ + φ(k) vᵀ                  φ(a) = elu(a) + 1
        zₜ = zₜ₋₁ + φ(k)
        yₜ = Sₜᵀ φ(q) / (zₜ·φ(q) + ε)

    The heads' outputs stand side by side. Mixing them (`around.dense`), adding the input and
    normalising is left to the layers around.

    Carry: `LinearAttentionCarry(s, z)`, [*batch, heads, K, V] and [*batch, heads, K], at first 0.
    Structure: elementwise affine. `parallel` takes all steps at once, by products of matrices.

    Args:
      features: of y, heads × V.
      heads: how many memories there are side by side.
      key_features: K, of q and k of one head; V if None.
      epsilon: ε. May be traced.
      input_init: of the columns of W [D, 2 heads K + features] for q, k and v.
      dtype: of the parameters; that of x if None.

    Raises:
      ValueError: if `features`, `heads` or `key_features` is not a positive integer, or the heads do
        not divide the features.

    Reference: Katharopoulos et al., Transformers are RNNs: fast autoregressive transformers with linear
    attention, 2020, arXiv:2006.16236, eq. 16–20; ε as in the authors' code.
    """
    rows, columns = check_heads("linear_attention", features, heads, key_features)
    name = titled("linear_attention", features, heads=heads, key_features=key_features)
    widths = [heads * rows, heads * rows, features]

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        return LinearAttentionParams(slab(input_init, key, d, widths, kind))

    carry = LinearAttentionCarry(Features(heads, rows, columns), Features(heads, rows))

    def projected(p, x):
        q, k, v = (split(a, heads) for a in blocks(x @ p.input, widths))
        return jax.nn.elu(q) + 1, jax.nn.elu(k) + 1, v

    def normalised(y, z):
        wide = jnp.promote_types(z.dtype, jnp.float32)  # ε is nearly nothing in half precision
        return (y / (z.astype(wide) + jnp.asarray(epsilon, wide))).astype(y.dtype)

    def step(
        p: LinearAttentionParams, carry: LinearAttentionCarry, x: Float[Array, "*batch D"]
    ) -> tuple[LinearAttentionCarry, Float[Array, "*batch H"]]:
        q, k, v = projected(p, x)
        s = carry.s + outer(k, v)
        z = carry.z + k
        return LinearAttentionCarry(s, z), joined(normalised(read(s, q), read(z[..., None], q)))

    def parallel(p, carry, xs, **options):
        q, k, v = projected(p, xs)
        s = jnp.concatenate([carry.s, carry.z[..., None]], axis=-1)
        v = jnp.concatenate([v, jnp.ones_like(v[..., :1])], axis=-1)
        s, y = memory.linear(s, q, k, v, None, **options)
        y = joined(normalised(y[..., :-1], y[..., -1:]))
        return LinearAttentionCarry(s[..., :-1], s[..., -1]), y

    return cell(name, init, step, carry=carry, dtype=dtype, parallel=parallel)


class RetentionParams(NamedTuple):
    """Columns in the order q k v, each of them head by head."""

    input: Float[Array, "D N"]


@factory
def retention(
    features: int,
    *,
    heads: int = 1,
    key_features: int | None = None,
    decay: Any = None,
    input_init: parts.Initialiser = parts.glorot,
    dtype: Any = None,
) -> Cell:
    """Retention: linear attention that forgets, each head at a rate of its own.

        q, k, v = xₜ·W                       each its columns, and each head by itself:
        Sₜ = γ Sₜ₋₁ + k vᵀ / √K
        yₜ = Sₜᵀ q

    The heads' outputs stand side by side. Rotating q and k by their position, normalising each head,
    the gate and the projection of a RetNet are left to the layers around.

    Carry: S [*batch, heads, K, V], at first 0. Structure: elementwise affine. `parallel` takes all
    steps at once, by products of matrices.

    Args:
      features: of y, heads × V.
      heads: how many memories there are side by side.
      key_features: K, of q and k of one head; V if None.
      decay: γ, a number in [0, 1] or one for each head; 1 − 2⁻⁵⁻ⁱ for i = 0 … heads − 1 if None. May
        be traced.
      input_init: of the columns of W [D, 2 heads K + features] for q, k and v.
      dtype: of the parameters; that of x if None.

    Raises:
      ValueError: if `features`, `heads` or `key_features` is not a positive integer, the heads do not
        divide the features, or a decay is not in [0, 1].

    Reference: Sun et al., Retentive network: a successor to transformer for large language models,
    2023, arXiv:2307.08621, eq. 6–8; 1/√K is its first normalisation.
    """
    rows, columns = check_heads("retention", features, heads, key_features)
    shown = None if decay is None else "…"
    name = titled("retention", features, heads=heads, key_features=key_features, decay=shown)
    widths = [heads * rows, heads * rows, features]
    decay = 1 - 2.0 ** (-5 - np.arange(heads)) if decay is None else decay
    _check_decay(decay, heads)

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        return RetentionParams(slab(input_init, key, d, widths, kind))

    def projected(p, x):
        q, k, v = (split(a, heads) for a in blocks(x @ p.input, widths))
        return q, k / rows**0.5, v

    def step(
        p: RetentionParams, s: Float[Array, "*batch heads K V"], x: Float[Array, "*batch D"]
    ) -> tuple[Float[Array, "*batch heads K V"], Float[Array, "*batch H"]]:
        q, k, v = projected(p, x)
        gamma = jnp.broadcast_to(jnp.asarray(decay, s.dtype), heads)
        s = gamma[:, None, None] * s + outer(k, v)
        return s, joined(read(s, q))

    def parallel(p, s, xs, **options):
        q, k, v = projected(p, xs)
        gamma = jnp.asarray(decay, jnp.promote_types(s.dtype, jnp.float32))
        s, y = memory.linear(s, q, k, v, jnp.broadcast_to(gamma, v.shape[:-1]), **options)
        return s, joined(y)

    return cell(
        name, init, step, carry=Features(heads, rows, columns), dtype=dtype, parallel=parallel
    )


def _check_decay(decay: Any, heads: int) -> None:
    shape = jnp.shape(decay)
    if shape not in ((), (1,), (heads,)):
        raise ValueError(
            f"retention() needs one decay, or one for each of its {heads} heads, got the shape"
            f" {list(shape)}"
        )
    if isinstance(decay, core.Tracer):
        return
    if not ((np.asarray(decay) >= 0) & (np.asarray(decay) <= 1)).all():
        raise ValueError(f"retention() needs decays in [0, 1], got {decay!r}")


class GatedLinearAttentionParams(NamedTuple):
    """Columns in the order q k v, each of them head by head, and r, of which the gates are made."""

    input: Float[Array, "D N"]
    gate: Float[Array, "R M"]
    bias: Float[Array, " M"]


@factory
def gated_linear_attention(
    features: int,
    *,
    heads: int = 1,
    key_features: int | None = None,
    rank: int = 16,
    temperature: Any = 16.0,
    input_init: parts.Initialiser = parts.glorot,
    gate_init: parts.Initialiser = parts.glorot,
    dtype: Any = None,
) -> Cell:
    """Gated linear attention: each key channel forgets as the input says.

        q, k, v, r = xₜ·W                    each its columns
        α = σ(r·U + b)^(1/τ)                 and each head by itself:
        Sₜ = diag(α) Sₜ₋₁ + k vᵀ
        yₜ = Sₜᵀ q

    The heads' outputs stand side by side. Normalising each head, the output gate and the projection of
    a GLA layer are left to the layers around.

    Carry: S [*batch, heads, K, V], at first 0. Structure: elementwise affine. `parallel` takes all
    steps at once, by products of matrices.

    Args:
      features: of y, heads × V.
      heads: how many memories there are side by side.
      key_features: K, of q, k and α of one head; V if None. The paper has V/2.
      rank: of the map from x to the gates, the width of r.
      temperature: τ; the larger, the slower the memory forgets. May be traced.
      input_init: of the columns of W [D, 2 heads K + features + rank] for q, k, v and r.
      gate_init: of U [rank, heads K]; b is initialised to 0.
      dtype: of the parameters; that of x if None.

    Raises:
      ValueError: if `features`, `heads`, `key_features` or `rank` is not a positive integer, the heads
        do not divide the features, or the temperature is not positive.

    Reference: Yang et al., Gated linear attention transformers with hardware-efficient training, 2023,
    arXiv:2312.06635, section 4.
    """
    rows, columns = check_heads("gated_linear_attention", features, heads, key_features)
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise ValueError(f"gated_linear_attention() needs a positive rank, got {rank!r}")
    if not isinstance(temperature, core.Tracer) and not np.all(np.asarray(temperature) > 0):
        raise ValueError(f"gated_linear_attention() needs a temperature > 0, got {temperature!r}")
    name = titled(
        "gated_linear_attention",
        features,
        heads=heads,
        key_features=key_features,
        rank=None if rank == 16 else rank,
    )
    widths = [heads * rows, heads * rows, features, rank]

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        k, g = jax.random.split(key)
        return GatedLinearAttentionParams(
            input=slab(input_init, k, d, widths, kind),
            gate=parts.weight(gate_init, g, rank, heads * rows, kind),
            bias=jnp.zeros(heads * rows, kind),
        )

    def projected(p, x):
        *qkv, r = blocks(x @ p.input, widths)
        log = jax.nn.log_sigmoid(r @ p.gate + p.bias)
        alpha = jnp.exp(log / jnp.asarray(temperature, log.dtype))
        return *(split(a, heads) for a in qkv), split(alpha, heads)

    def step(
        p: GatedLinearAttentionParams,
        s: Float[Array, "*batch heads K V"],
        x: Float[Array, "*batch D"],
    ) -> tuple[Float[Array, "*batch heads K V"], Float[Array, "*batch H"]]:
        q, k, v, alpha = projected(p, x)
        s = alpha[..., None] * s + outer(k, v)
        return s, joined(read(s, q))

    def parallel(p, s, xs, **options):
        q, k, v, alpha = projected(p, xs)
        s, y = memory.linear(s, q, k, v, alpha, **options)
        return s, joined(y)

    return cell(
        name, init, step, carry=Features(heads, rows, columns), dtype=dtype, parallel=parallel
    )
