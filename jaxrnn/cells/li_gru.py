"""Light gated recurrent unit."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cells import parts
from jaxrnn.core import Cell
from jaxrnn.kit import cell
from jaxrnn.origin import factory
from jaxrnn.shapes import Array, Float


class LiGRUParams(NamedTuple):
    """Columns in the order z n."""

    input: Float[Array, "D 2H"]
    recurrent: Float[Array, "H 2H"]
    bias: Float[Array, " 2H"]
    input_scale: Float[Array, " 2H"]


@factory
def li_gru(
    features: int,
    *,
    activation: Callable[[jax.Array], jax.Array] = jax.nn.relu,
    input_init: parts.Initialiser = parts.glorot,
    recurrent_init: parts.Initialiser = parts.orthogonal,
    dtype: Any = None,
) -> Cell:
    """Light gated recurrent unit: a GRU without a reset gate, whose candidate is rectified.

        v = α ∘ N(xₜ·W) + b                          N of the columns of z and of n apart
        z = σ(v + hₜ₋₁·R)     n = φ(v + hₜ₋₁·R)       each its columns
        hₜ = z ∘ hₜ₋₁ + (1 − z) ∘ n                  yₜ = hₜ

    N(a) = (a − mean a) / √(var a + ε) over the last axis, ε = 10⁻⁵. The paper has batch normalisation
    here, of the input's part alone, and needs it, as a rectified h is not bounded. Its statistics are
    not those of one sequence; this normalises each time step by itself, as Ba et al. 2016,
    arXiv:1607.06450, so that training and streaming are the same. As there, α and b are learned, and
    nothing depends on the carry.

    Carry: h [*batch, H], at first 0.

    Args:
      features: H.
      activation: φ.
      input_init: of each block of W [D, 2H].
      recurrent_init: of each block of R [H, 2H].
      dtype: of the parameters; that of x if None. Means and variances are taken in float32 at least.

    Reference: Ravanelli et al., Light gated recurrent units for speech recognition, 2018,
    arXiv:1803.10225.
    """

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        k, r = jax.random.split(key)
        return LiGRUParams(
            input=parts.weight(input_init, k, d, features, kind, gates=2),
            recurrent=parts.weight(recurrent_init, r, features, features, kind, gates=2),
            bias=jnp.zeros(2 * features, kind),
            input_scale=jnp.ones(2 * features, kind),
        )

    def step(
        p: LiGRUParams, h: Float[Array, "*batch H"], x: Float[Array, "*batch D"]
    ) -> tuple[Float[Array, "*batch H"], Float[Array, "*batch H"]]:
        blocks = [parts.normalise(v) for v in jnp.split(x @ p.input, 2, axis=-1)]
        v = p.input_scale * jnp.concatenate(blocks, axis=-1) + p.bias
        u_z, u_n = jnp.split(v + h @ p.recurrent, 2, axis=-1)
        z = parts.sigmoid(u_z)
        h = z * h + (1 - z) * activation(u_n)
        return h, h

    return cell(f"li_gru({features})", init, step, carry=features, dtype=dtype)
