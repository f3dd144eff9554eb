"""The simple recurrent networks of Elman and Jordan."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cells import parts
from jaxrnn.core import Cell
from jaxrnn.kit import cell
from jaxrnn.origin import factory
from jaxrnn.shapes import Array, Float


class ElmanParams(NamedTuple):
    input: Float[Array, "D H"]
    recurrent: Float[Array, "H H"]
    bias: Float[Array, " H"]


@factory
def elman(
    features: int,
    *,
    activation: Callable[[jax.Array], jax.Array] = jnp.tanh,
    input_init: parts.Initialiser = parts.glorot,
    recurrent_init: parts.Initialiser = parts.orthogonal,
    dtype: Any = None,
) -> Cell:
    """Elman's network: hₜ = φ(xₜ·W + hₜ₋₁·R + b), yₜ = hₜ.

    Carry: h [*batch, H], at first 0.

    Args:
      features: H.
      activation: φ. With `jax.nn.relu` and an identity matrix as `recurrent_init` this is the IRNN of
        Le et al. 2015, arXiv:1504.00941.
      input_init: of W [D, H].
      recurrent_init: of R [H, H].
      dtype: of the parameters; that of x if None.

    Reference: Elman, Finding structure in time, Cognitive Science 14, 1990.
    """

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        k, r = jax.random.split(key)
        return ElmanParams(
            input=parts.weight(input_init, k, d, features, kind),
            recurrent=parts.weight(recurrent_init, r, features, features, kind),
            bias=jnp.zeros(features, kind),
        )

    def step(
        p: ElmanParams, h: Float[Array, "*batch H"], x: Float[Array, "*batch D"]
    ) -> tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]]:
        h = activation(x @ p.input + p.bias + h @ p.recurrent)
        return h, h

    return cell(f"elman({features})", init, step, carry=features, dtype=dtype)


class JordanParams(NamedTuple):
    input: Float[Array, "D H"]
    recurrent: Float[Array, "O H"]
    bias: Float[Array, " H"]
    output: Float[Array, "H O"]
    output_bias: Float[Array, " O"]


@factory
def jordan(
    features: int,
    *,
    outputs: int | None = None,
    activation: Callable[[jax.Array], jax.Array] = jnp.tanh,
    output_activation: Callable[[jax.Array], jax.Array] = jnp.tanh,
    input_init: parts.Initialiser = parts.glorot,
    recurrent_init: parts.Initialiser = parts.orthogonal,
    output_init: parts.Initialiser = parts.glorot,
    dtype: Any = None,
) -> Cell:
    """Jordan's network, which feeds its output back.

        hₜ = φ(xₜ·W + yₜ₋₁·R + b)
        yₜ = ψ(hₜ·V + c)

    Carry: y [*batch, O], at first 0.

    Args:
      features: H.
      outputs: O; H if None.
      activation, output_activation: φ and ψ.
      input_init, recurrent_init, output_init: of W [D, H], R [O, H] and V [H, O].
      dtype: of the parameters; that of x if None.

    Reference: Jordan, Serial order: a parallel distributed processing approach, 1986.
    """
    o = features if outputs is None else outputs
    name = f"jordan({features})" if outputs is None else f"jordan({features}, outputs={outputs})"

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        k, r, v = jax.random.split(key, 3)
        return JordanParams(
            input=parts.weight(input_init, k, d, features, kind),
            recurrent=parts.weight(recurrent_init, r, o, features, kind),
            bias=jnp.zeros(features, kind),
            output=parts.weight(output_init, v, features, o, kind),
            output_bias=jnp.zeros(o, kind),
        )

    def step(
        p: JordanParams, y: Float[Array, "*batch O"], x: Float[Array, "*batch D"]
    ) -> tuple[Float[Array, "*batch O"], Float[Array, "*batch O"]]:
        h = activation(x @ p.input + p.bias + y @ p.recurrent)
        y = output_activation(h @ p.output + p.output_bias)
        return y, y

    return cell(name, init, step, carry=o, dtype=dtype)
