"""Legendre memory unit: a linear memory that holds a sliding window of the past."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import core

from jaxrnn.cells import parts
from jaxrnn.core import Cell
from jaxrnn.kit import cell
from jaxrnn.origin import factory
from jaxrnn.shapes import Array, Float

lecun = jax.nn.initializers.lecun_uniform()
xavier = jax.nn.initializers.glorot_normal()


class LMUParams(NamedTuple):
    """The encoders write one number into the memory; the others make h of x, h and m."""

    input: Float[Array, "D H"]
    recurrent: Float[Array, "H H"]
    memory: Float[Array, "N H"]
    input_encoder: Float[Array, "D 1"]
    recurrent_encoder: Float[Array, "H 1"]
    memory_encoder: Float[Array, "N 1"]


class LMUCarry(NamedTuple):
    h: Any  # [*batch, H]
    m: Any  # [*batch, N]


@factory
def lmu(
    features: int,
    *,
    order: int | None = None,
    theta: Any = 100.0,
    activation: Callable[[jax.Array], jax.Array] = jnp.tanh,
    input_init: parts.Initialiser = xavier,
    recurrent_init: parts.Initialiser = xavier,
    memory_init: parts.Initialiser = xavier,
    encoder_init: parts.Initialiser = lecun,
    dtype: Any = None,
) -> Cell:
    """Legendre memory unit: m holds the last θ values of u, as coefficients of Legendre polynomials.

        uₜ = xₜ·eₓ + hₜ₋₁·eₕ + mₜ₋₁·eₘ                            one number a row
        mₜ = mₜ₋₁·Āᵀ + uₜ B̄
        hₜ = φ(xₜ·W + hₜ₋₁·R + mₜ·M)                              yₜ = hₜ

    Ā and B̄ are constants and no parameters: those of the delay of θ steps, θ dm/dt = A m + B u with
    Aᵢⱼ = (2i+1)·(−1 if i < j else (−1)^(i−j+1)) and Bᵢ = (2i+1)(−1)^i, exact for a u that is held
    during a step. The value of d steps ago is u ≈ m·P(d/θ), Pᵢ the shifted Legendre polynomials.

    Carry: `LMUCarry(h [*batch, H], m [*batch, N])`, at first 0.

    Args:
      features: H.
      order: N, the number of polynomials; H if None.
      theta: θ > 0, the length of the window in steps. It makes constants, and cannot be traced.
      activation: φ.
      input_init, recurrent_init, memory_init: of W [D, H], R [H, H] and M [N, H].
      encoder_init: of eₓ [D, 1] and eₕ [H, 1]; eₘ [N, 1] is at first 0.
      dtype: of the parameters; that of x if None.

    Raises:
      TypeError: if `theta` is traced.
      ValueError: if `features` or `order` is not a positive integer, or `theta` not a positive number.

    Reference: Voelker, Kajić & Eliasmith, Legendre memory units: continuous-time representation in
    recurrent neural networks, NeurIPS 2019.
    """
    n = features if order is None else order
    check_theta("lmu", theta)
    shown = ("" if order is None else f", order={order}") + f", theta={theta:g}"
    name = f"lmu({features}{shown})"
    A, B = legendre(n, theta)

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        k, r, m, e, s = jax.random.split(key, 5)
        return LMUParams(
            input=parts.weight(input_init, k, d, features, kind),
            recurrent=parts.weight(recurrent_init, r, features, features, kind),
            memory=parts.weight(memory_init, m, n, features, kind),
            input_encoder=parts.weight(encoder_init, e, d, 1, kind),
            recurrent_encoder=parts.weight(encoder_init, s, features, 1, kind),
            memory_encoder=jnp.zeros((n, 1), kind),
        )

    def step(
        p: LMUParams, carry: LMUCarry, x: Float[Array, "*batch D"]
    ) -> tuple[LMUCarry, Float[Array, "*batch H"]]:
        h, m = carry
        u = x @ p.input_encoder + h @ p.recurrent_encoder + m @ p.memory_encoder
        m = m @ jnp.asarray(A.T, m.dtype) + u * jnp.asarray(B, m.dtype)
        h = activation(x @ p.input + h @ p.recurrent + m @ p.memory)
        return LMUCarry(h, m), h

    return cell(name, init, step, carry=LMUCarry(features, n), dtype=dtype)


def legendre(order: int, theta: float) -> tuple[np.ndarray, np.ndarray]:
    """Ā [N, N] and B̄ [N] of one step, in float64: a zero-order hold of θ dm/dt = A m + B u."""
    i, j = np.arange(order)[:, None], np.arange(order)[None, :]
    A = (2 * i + 1) * np.where(i < j, -1.0, (-1.0) ** (i - j + 1))
    B = (2 * i + 1) * (-1.0) ** i
    # The exponential of [[A, B], [0, 0]]/θ has both: its last column is the response to u = 1.
    block = np.zeros((order + 1, order + 1))
    block[:order] = np.concatenate([A, B], axis=1) / theta
    both = exponential(block)
    return both[:order, :order], both[:order, order]


def exponential(matrix: np.ndarray) -> np.ndarray:
    """The exponential, by squaring that of a small part of M: exp(M) = exp(M/2ˢ)^(2ˢ)."""
    squarings = max(0, int(np.ceil(np.log2(np.linalg.norm(matrix, 1)))) + 2)
    part = matrix / 2.0**squarings
    term = result = np.eye(len(matrix))
    for k in range(1, 19):  # |part| ≤ ¼: 4⁻¹⁸/18! is far below rounding
        term = term @ part / k
        result = result + term
    for _ in range(squarings):
        result = result @ result
    return result


def check_theta(name: str, theta: Any) -> None:
    if isinstance(theta, core.Tracer):
        raise TypeError(
            f"{name}() needs theta as a number, got a traced value: it makes the constants of the"
            " memory; make one cell for each theta"
        )
    if isinstance(theta, bool) or not isinstance(theta, int | float) or not theta > 0:
        raise ValueError(f"{name}() needs a positive number of steps as theta, got {theta!r}")
