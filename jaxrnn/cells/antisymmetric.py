"""Antisymmetric recurrent networks: an ordinary differential equation that neither grows nor decays."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cells import parts
from jaxrnn.cells.cornn import check_positive
from jaxrnn.core import Cell
from jaxrnn.kit import cell
from jaxrnn.origin import factory
from jaxrnn.shapes import Array, Float


def normal(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """N(0, 1/H) for a matrix [H, H]."""
    return jax.random.normal(key, shape, dtype) * shape[0] ** -0.5


class AntisymmetricParams(NamedTuple):
    """Only R − Rᵀ is used of `recurrent`."""

    input: Float[Array, "D H"]
    recurrent: Float[Array, "H H"]
    bias: Float[Array, " H"]


@factory
def antisymmetric_rnn(
    features: int,
    *,
    step_size: Any = 0.1,
    gamma: Any = 0.1,
    activation: Callable[[jax.Array], jax.Array] = jnp.tanh,
    input_init: parts.Initialiser = parts.glorot,
    recurrent_init: parts.Initialiser = normal,
    dtype: Any = None,
) -> Cell:
    """Antisymmetric recurrent network.

        hₜ = hₜ₋₁ + ε φ(xₜ·W + hₜ₋₁·(R − Rᵀ − γI) + b)            yₜ = hₜ

    The eigenvalues of R − Rᵀ are imaginary, so that h turns and keeps its size; γ is the diffusion that
    keeps Euler's method stable.

    Carry: h [*batch, H], at first 0.

    Args:
      features: H.
      step_size: ε > 0. It and γ depend on the task, and may be traced.
      gamma: γ > 0.
      activation: φ.
      input_init: of W [D, H].
      recurrent_init: of R [H, H]; normal with variance 1/H.
      dtype: of the parameters; that of x if None.

    Raises:
      ValueError: if a constant is not positive.

    Reference: Chang et al., AntisymmetricRNN: a dynamical system view on recurrent neural networks,
    2019, arXiv:1902.09689.
    """
    check_positive("antisymmetric_rnn", "step_size", step_size)
    check_positive("antisymmetric_rnn", "gamma", gamma)

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        k, r = jax.random.split(key)
        return AntisymmetricParams(
            input=parts.weight(input_init, k, d, features, kind),
            recurrent=parts.weight(recurrent_init, r, features, features, kind),
            bias=jnp.zeros(features, kind),
        )

    def step(
        p: AntisymmetricParams, h: Float[Array, "*batch H"], x: Float[Array, "*batch D"]
    ) -> tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]]:
        u = x @ p.input + p.bias + h @ damped(p.recurrent, gamma)
        h = h + jnp.asarray(step_size, h.dtype) * activation(u)
        return h, h

    return cell(f"antisymmetric_rnn({features})", init, step, carry=features, dtype=dtype)


class GatedAntisymmetricParams(NamedTuple):
    """Columns in the order z n. Only R − Rᵀ is used of `recurrent`, by both."""

    input: Float[Array, "D 2H"]
    recurrent: Float[Array, "H H"]
    bias: Float[Array, " 2H"]


@factory
def gated_antisymmetric_rnn(
    features: int,
    *,
    step_size: Any = 0.1,
    gamma: Any = 0.1,
    activation: Callable[[jax.Array], jax.Array] = jnp.tanh,
    input_init: parts.Initialiser = parts.glorot,
    recurrent_init: parts.Initialiser = normal,
    dtype: Any = None,
) -> Cell:
    """Antisymmetric recurrent network with an input gate, which shares the recurrent weights.

        u = hₜ₋₁·(R − Rᵀ − γI)
        z = σ(xₜ·W + u + b)     n = φ(xₜ·W + u + b)               each its columns of W and b
        hₜ = hₜ₋₁ + ε z ∘ n                                       yₜ = hₜ

    Carry: h [*batch, H], at first 0. Arguments as for `antisymmetric_rnn`; W is [D, 2H].

    Reference: Chang et al., AntisymmetricRNN: a dynamical system view on recurrent neural networks,
    2019, arXiv:1902.09689.
    """
    check_positive("gated_antisymmetric_rnn", "step_size", step_size)
    check_positive("gated_antisymmetric_rnn", "gamma", gamma)

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        k, r = jax.random.split(key)
        return GatedAntisymmetricParams(
            input=parts.weight(input_init, k, d, features, kind, gates=2),
            recurrent=parts.weight(recurrent_init, r, features, features, kind),
            bias=jnp.zeros(2 * features, kind),
        )

    def step(
        p: GatedAntisymmetricParams, h: Float[Array, "*batch H"], x: Float[Array, "*batch D"]
    ) -> tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]]:
        x_z, x_n = jnp.split(x @ p.input + p.bias, 2, axis=-1)
        u = h @ damped(p.recurrent, gamma)
        z, n = parts.sigmoid(x_z + u), activation(x_n + u)
        h = h + jnp.asarray(step_size, h.dtype) * z * n
        return h, h

    return cell(f"gated_antisymmetric_rnn({features})", init, step, carry=features, dtype=dtype)


def damped(recurrent: jax.Array, gamma: Any) -> jax.Array:
    """R − Rᵀ − γI: its eigenvalues have the real part −γ."""
    kind = recurrent.dtype
    eye = jnp.eye(recurrent.shape[0], dtype=kind)
    return recurrent - recurrent.T - jnp.asarray(gamma, kind) * eye
