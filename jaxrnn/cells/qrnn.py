"""Quasi-recurrent networks: a causal convolution makes the gates, pooling runs through time."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cells import parts
from jaxrnn.cells.convolution import check_window
from jaxrnn.core import Cell
from jaxrnn.kit import cell
from jaxrnn.origin import factory
from jaxrnn.shapes import Array, Float


class QRNNParams(NamedTuple):
    """Columns in K blocks, one for each lag 0 … K−1; in each the G columns i f o z, or some of them."""

    input: Float[Array, "D KGH"]
    bias: Float[Array, " GH"]


class QRNNCarry(NamedTuple):
    """The memory, and what the inputs so far will add at the next K − 1 steps, soonest first."""

    c: Any  # [*batch, H]
    coming: tuple[Any, ...]  # [*batch, GH]


@factory
def qrnn(
    features: int,
    *,
    window: int = 2,
    pooling: str = "fo",
    forget_bias: Any = 0.0,
    input_init: parts.Initialiser = parts.glorot,
    dtype: Any = None,
) -> Cell:
    """Quasi-recurrent neural network.

        i, f, o = σ(u)     z = tanh(u)     u = Σⱼ xₜ₋ⱼ·Wⱼ + b, j = 0 … K−1     each its columns
        pooling "f":    cₜ = f ∘ cₜ₋₁ + (1 − f) ∘ z     yₜ = cₜ
        pooling "fo":   cₜ = f ∘ cₜ₋₁ + (1 − f) ∘ z     yₜ = o ∘ cₜ
        pooling "ifo":  cₜ = f ∘ cₜ₋₁ + i ∘ z           yₜ = o ∘ cₜ

    What was before the first step counts as 0. Carry: `QRNNCarry(c, coming)`, at first 0. The window is
    a shift register: `coming` holds K − 1 arrays [*batch, GH], the sums Σ xₜ₋ⱼ·Wⱼ of the next steps as
    far as their inputs are known. So each input meets all weights at once, outside the loop.

    Structure: elementwise affine for K = 1; dense for more, as gates see the carry. Where methods that
    are parallel in time matter, `around.stack(causal_conv(K), qrnn(H, window=1))` has a window and is
    affine.

    Args:
      features: H.
      window: K, in time steps.
      pooling: "f", "fo" or "ifo"; G = 2, 3 or 4.
      forget_bias: what the bias of the forget gate is initialised to. May be traced.
      input_init: of each gate's block [K, D, H] of W [D, KGH].
      dtype: of the parameters; that of x if None.

    Raises:
      ValueError: if `features` or `window` is not a positive integer, or `pooling` is not known.

    Reference: Bradbury et al., Quasi-recurrent neural networks, 2016, arXiv:1611.01576.
    """
    check_window("qrnn", window)
    if pooling not in POOLING:
        raise ValueError(f"qrnn() needs a pooling of {', '.join(POOLING)}, got {pooling!r}")
    pool, gates = POOLING[pooling], len(pooling) + 1
    options = "".join(
        [f", window={window}" * (window != 2), f", pooling={pooling!r}" * (pooling != "fo")]
    )
    forget = pooling.index("f") * features

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        keys = jax.random.split(key, gates)
        blocks = [parts.draw(input_init, k, (window, d, features), kind) for k in keys]
        lags = jnp.concatenate(blocks, axis=-1)
        bias = jnp.zeros(gates * features, kind)
        return QRNNParams(
            input=jnp.concatenate(list(lags), axis=-1),
            bias=bias.at[forget : forget + features].set(jnp.asarray(forget_bias, kind)),
        )

    def step(
        p: QRNNParams, carry: QRNNCarry, x: Float[Array, "*batch D"]
    ) -> tuple[QRNNCarry, Float[Array, "*batch H"]]:
        c, coming = carry
        lags = jnp.split((x @ p.input).astype(c.dtype), window, axis=-1)
        u = sum((lags[0], *coming[:1]), start=p.bias)
        later = [a + b for a, b in zip(lags[1:], coming[1:], strict=False)]
        c, y = pool(c, u)
        return QRNNCarry(c, (*later, *lags[1:][-1:])), y

    carry = QRNNCarry(features, (gates * features,) * (window - 1))
    return cell(f"qrnn({features}{options})", init, step, carry=carry, dtype=dtype)


def pool_f(c: jax.Array, u: jax.Array) -> tuple[jax.Array, jax.Array]:
    u_f, u_z = jnp.split(u, 2, axis=-1)
    f = parts.sigmoid(u_f)
    c = f * c + (1 - f) * jnp.tanh(u_z)
    return c, c


def pool_fo(c: jax.Array, u: jax.Array) -> tuple[jax.Array, jax.Array]:
    u_f, u_o, u_z = jnp.split(u, 3, axis=-1)
    f = parts.sigmoid(u_f)
    c = f * c + (1 - f) * jnp.tanh(u_z)
    return c, parts.sigmoid(u_o) * c


def pool_ifo(c: jax.Array, u: jax.Array) -> tuple[jax.Array, jax.Array]:
    u_i, u_f, u_o, u_z = jnp.split(u, 4, axis=-1)
    c = parts.sigmoid(u_f) * c + parts.sigmoid(u_i) * jnp.tanh(u_z)
    return c, parts.sigmoid(u_o) * c


Pool = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
POOLING: dict[str, Pool] = {"f": pool_f, "fo": pool_fo, "ifo": pool_ifo}
