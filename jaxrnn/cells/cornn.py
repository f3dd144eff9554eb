"""Coupled oscillatory recurrent network."""

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


class CoRNNParams(NamedTuple):
    """`recurrent` meets the positions, `velocity` the velocities."""

    input: Float[Array, "D H"]
    recurrent: Float[Array, "H H"]
    velocity: Float[Array, "H H"]
    bias: Float[Array, " H"]


class CoRNNCarry(NamedTuple):
    """Positions and velocities."""

    y: Any  # [*batch, H]
    z: Any  # [*batch, H]


@factory
def cornn(
    features: int,
    *,
    step_size: Any = 0.042,
    gamma: Any = 2.7,
    epsilon: Any = 4.7,
    activation: Callable[[jax.Array], jax.Array] = jnp.tanh,
    input_init: parts.Initialiser = parts.glorot,
    recurrent_init: parts.Initialiser = parts.orthogonal,
    dtype: Any = None,
) -> Cell:
    """Coupled oscillatory recurrent network: forced, damped oscillators, driven through φ.

        zₜ = zₜ₋₁ + Δt (φ(xₜ·V + yₜ₋₁·R + zₜ₋₁·S + b) − γ ∘ yₜ₋₁ − ε ∘ zₜ₋₁)
        yₜ = yₜ₋₁ + Δt zₜ

    It steps y″ = φ(…) − γ y − ε y′ in time: the velocity z first, the position y with the new one. The
    damping is explicit, that is at zₜ₋₁, as in the authors' program.

    Carry: `CoRNNCarry(y, z)`, both [*batch, H], at first 0. The output is y.

    Args:
      features: H.
      step_size: Δt > 0.
      gamma: γ > 0, the squared frequencies, a number or an array [H].
      epsilon: ε > 0, the damping, a number or an array [H]. The three depend on the task; the defaults
        are those of sequential MNIST in the authors' program. They may be traced.
      activation: φ.
      input_init: of V [D, H].
      recurrent_init: of R and S [H, H].
      dtype: of the parameters; that of x if None.

    Raises:
      ValueError: if a constant is not positive.

    Reference: Rusch & Mishra, Coupled oscillatory recurrent neural network (coRNN): an accurate and
    (gradient) stable architecture for learning long time dependencies, 2021, arXiv:2010.00951.
    """
    name = f"cornn({features})"
    for argument, value in {"step_size": step_size, "gamma": gamma, "epsilon": epsilon}.items():
        check_positive("cornn", argument, value)

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        k, r, s = jax.random.split(key, 3)
        return CoRNNParams(
            input=parts.weight(input_init, k, d, features, kind),
            recurrent=parts.weight(recurrent_init, r, features, features, kind),
            velocity=parts.weight(recurrent_init, s, features, features, kind),
            bias=jnp.zeros(features, kind),
        )

    def step(
        p: CoRNNParams, carry: CoRNNCarry, x: Float[Array, "*batch D"]
    ) -> tuple[CoRNNCarry, Float[Array, "*batch H"]]:
        y, z = carry
        dt, g, e = (jnp.asarray(value, y.dtype) for value in (step_size, gamma, epsilon))
        force = activation(x @ p.input + p.bias + y @ p.recurrent + z @ p.velocity)
        z = z + dt * (force - g * y - e * z)
        y = y + dt * z
        return CoRNNCarry(y, z), y

    return cell(name, init, step, carry=CoRNNCarry(features, features), dtype=dtype)


def check_positive(name: str, argument: str, value: Any) -> None:
    """A constant that is traced cannot be looked at."""
    if isinstance(value, core.Tracer):
        return
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" or not (array > 0).all():
        raise ValueError(f"{name}() needs {argument} > 0, got {value!r}")
