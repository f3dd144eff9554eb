"""Continuous-time recurrent network, stepped by Euler's method."""

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


class CTRNNParams(NamedTuple):
    """`timescale` is ρ: the time constants are τ = 1 + exp(ρ) steps."""

    input: Float[Array, "D H"]
    recurrent: Float[Array, "H H"]
    bias: Float[Array, " H"]
    timescale: Float[Array, " H"]


@factory
def ctrnn(
    features: int,
    *,
    tau_min: Any = 2.0,
    tau_max: Any = 20.0,
    activation: Callable[[jax.Array], jax.Array] = parts.sigmoid,
    input_init: parts.Initialiser = parts.glorot,
    recurrent_init: parts.Initialiser = parts.orthogonal,
    dtype: Any = None,
) -> Cell:
    """Continuous-time recurrent network: τ du/dt = −u + x·W + φ(u + b)·R, by Euler's method.

        uₜ = uₜ₋₁ + α ∘ (−uₜ₋₁ + xₜ·W + φ(uₜ₋₁ + b)·R)          α = 1/τ = σ(−ρ)
        yₜ = φ(uₜ + b)

    u are the potentials of leaky neurons, y their firing rates; time is counted in steps. Each neuron
    has a time constant τ = 1 + exp(ρ) of its own. It is learned through ρ and stays above 1 step, where
    the leak of Euler's method neither overshoots nor diverges.

    Carry: u [*batch, H], at first 0.

    Args:
      features: H.
      tau_min, tau_max: τ is drawn between them, its logarithm uniform; in steps, more than 1. May be
        traced.
      activation: φ.
      input_init: of W [D, H].
      recurrent_init: of R [H, H].
      dtype: of the parameters; that of x if None.

    Raises:
      ValueError: if not 1 < tau_min <= tau_max.

    References: Funahashi & Nakamura, Approximation of dynamical systems by continuous time recurrent
    neural networks, Neural Networks 6, 1993; in this form Beer, On the dynamics of small
    continuous-time recurrent neural networks, Adaptive Behavior 3, 1995.
    """
    name = f"ctrnn({features})"
    check_tau("ctrnn", tau_min, tau_max)

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        k, r, t = jax.random.split(key, 3)
        low, high = jnp.log(jnp.asarray(tau_min)), jnp.log(jnp.asarray(tau_max))
        tau = jnp.exp(low + (high - low) * jax.random.uniform(t, (features,)))
        return CTRNNParams(
            input=parts.weight(input_init, k, d, features, kind),
            recurrent=parts.weight(recurrent_init, r, features, features, kind),
            bias=jnp.zeros(features, kind),
            timescale=jnp.log(tau - 1).astype(kind),
        )

    def step(
        p: CTRNNParams, u: Float[Array, "*batch H"], x: Float[Array, "*batch D"]
    ) -> tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]]:
        alpha = parts.sigmoid(-p.timescale)
        u = u + alpha * (x @ p.input - u + activation(u + p.bias) @ p.recurrent)
        return u, activation(u + p.bias)

    return cell(name, init, step, carry=features, dtype=dtype)


def check_tau(name: str, low: Any, high: Any) -> None:
    """What is traced cannot be looked at."""
    if isinstance(low, core.Tracer) or isinstance(high, core.Tracer):
        return
    if not (1 < np.asarray(low) <= np.asarray(high)):
        raise ValueError(f"{name}() needs 1 < tau_min <= tau_max, got {low!r} and {high!r}")
