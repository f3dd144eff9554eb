"""Just another network: an LSTM of which the forget gate alone is left."""

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


class JANETParams(NamedTuple):
    """Columns in the order f n."""

    input: Float[Array, "D 2H"]
    recurrent: Float[Array, "H 2H"]
    bias: Float[Array, " 2H"]


@factory
def janet(
    features: int,
    *,
    beta: Any = 1.0,
    chrono: Any = None,
    forget_bias: Any = 1.0,
    input_init: parts.Initialiser = parts.glorot,
    recurrent_init: parts.Initialiser = parts.orthogonal,
    dtype: Any = None,
) -> Cell:
    """Just another network: a long short-term memory with a forget gate only.

        s = xₜ·W + hₜ₋₁·R + b     n = tanh(xₜ·W + hₜ₋₁·R + b)     each its columns
        hₜ = σ(s) ∘ hₜ₋₁ + (1 − σ(s − β)) ∘ n                     yₜ = hₜ

    Carry: h [*batch, H], at first 0.

    Args:
      features: H.
      beta: β ≥ 0 lets more in than is forgotten; 1 in the paper's experiments, 0 ties the two. May be
        traced.
      chrono: T, the longest dependency expected, in time steps, more than 2. The bias of f is then
        drawn as log U[1, T − 1] (Tallec & Ollivier 2018, arXiv:1804.11188), as the paper does, and
        `forget_bias` is not used. May be traced.
      forget_bias: what the bias of f is initialised to where `chrono` is None. May be traced.
      input_init: of each block of W [D, 2H].
      recurrent_init: of each block of R [H, 2H].
      dtype: of the parameters; that of x if None.

    Raises:
      ValueError: if `chrono` is not more than 2.

    Reference: van der Westhuizen & Lasenby, The unreasonable effectiveness of the forget gate, 2018,
    arXiv:1804.04849.
    """
    name = f"janet({features})"
    check_chrono("janet", chrono)

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        k, r, b = jax.random.split(key, 3)
        bias = forget_bias if chrono is None else chrono_bias(b, features, chrono)
        return JANETParams(
            input=parts.weight(input_init, k, d, features, kind, gates=2),
            recurrent=parts.weight(recurrent_init, r, features, features, kind, gates=2),
            bias=jnp.zeros(2 * features, kind).at[:features].set(jnp.asarray(bias, kind)),
        )

    def step(
        p: JANETParams, h: Float[Array, "*batch H"], x: Float[Array, "*batch D"]
    ) -> tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]]:
        s, n = jnp.split(x @ p.input + p.bias + h @ p.recurrent, 2, axis=-1)
        opened = 1 - parts.sigmoid(s - jnp.asarray(beta, h.dtype))
        h = parts.sigmoid(s) * h + opened * jnp.tanh(n)
        return h, h

    return cell(name, init, step, carry=features, dtype=dtype)


def chrono_bias(key: jax.Array, features: int, longest: Any) -> jax.Array:
    """Draws log U[1, T − 1] [features]: forget gates whose memories last from 1 to T steps."""
    return jnp.log(jax.random.uniform(key, (features,), minval=1.0, maxval=longest - 1))


def check_chrono(name: str, longest: Any) -> None:
    """A length that is traced cannot be looked at."""
    if longest is None or isinstance(longest, core.Tracer):
        return
    array = np.asarray(longest)
    if array.dtype.kind not in "fiu" or array.ndim or not array > 2:
        raise ValueError(f"{name}() needs chrono > 2 time steps, or None, got {longest!r}")
