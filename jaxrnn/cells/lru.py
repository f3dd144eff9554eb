"""Linear recurrent unit, and what the cells with a complex diagonal share."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import core

from jaxrnn.cells import parts
from jaxrnn.core import Cell
from jaxrnn.kit import Features, cell
from jaxrnn.origin import factory
from jaxrnn.shapes import Array, Float

fan_in = jax.nn.initializers.variance_scaling(1.0, "fan_in", "normal")
half_fan_in = jax.nn.initializers.variance_scaling(0.5, "fan_in", "normal")


class LRUParams(NamedTuple):
    """Complex numbers are pairs of real ones: columns re | im of B, rows re | −im of C."""

    input: Float[Array, "D 2N"]
    log_decay: Float[Array, " N"]
    log_phase: Float[Array, " N"]
    log_scale: Float[Array, " N"]
    output: Float[Array, "2N H"]
    skip: Float[Array, "D H"]


@factory
def lru(
    features: int,
    *,
    state: int | None = None,
    r_min: Any = 0.0,
    r_max: Any = 1.0,
    max_phase: Any = 2 * math.pi,
    input_init: parts.Initialiser = half_fan_in,
    output_init: parts.Initialiser = fan_in,
    skip_init: parts.Initialiser = fan_in,
    dtype: Any = None,
) -> Cell:
    """Linear recurrent unit: a complex diagonal, normalised so that the state keeps its size.

        λ = exp(−exp(ν) + i·exp(θ))
        hₜ = λ ∘ hₜ₋₁ + exp(γ) ∘ (xₜ·B)
        yₜ = Re(hₜ·C) + xₜ·D

    |λ| < 1 whatever the parameters. Carry: h [*batch, N], complex, at first 0. Structure: elementwise
    affine. The paper's code has a diagonal D, for as many features in as out; it is one such matrix.

    Args:
      features: H, of y.
      state: N; H if None.
      r_min, r_max, max_phase: at first λ is uniform in the ring r_min ≤ |λ| ≤ r_max,
        0 ≤ arg λ ≤ max_phase, and exp(γ) = √(1 − |λ|²). Long memories need r_min near 1, and then
        a small max_phase. May be traced.
      input_init: of the real and of the imaginary part of B [D, N].
      output_init: of the real and of the imaginary part of C [N, H].
      skip_init: of D [D, H].
      dtype: of the parameters; that of x if None. y has the promoted dtype of parameters and x, the
        carry the complex one of that precision, complex64 at least.

    Raises:
      ValueError: if `features` or `state` is not a positive integer, or not 0 ≤ r_min ≤ r_max ≤ 1 and
        max_phase > 0.

    Reference: Orvieto et al., Resurrecting recurrent neural networks for long sequences, 2023,
    arXiv:2303.06349.
    """
    n = features if state is None else state
    check_size("lru", "state", n)
    check_numbers(
        "lru() needs 0 <= r_min <= r_max <= 1",
        lambda low, high: (low >= 0) & (low <= high) & (high <= 1),
        r_min=r_min,
        r_max=r_max,
    )
    check_numbers("lru() needs max_phase > 0", lambda phase: phase > 0, max_phase=max_phase)
    name = shown("lru", features, state=(n, features))

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        wide = jnp.promote_types(kind, jnp.float32)
        k_input, k_ring, k_phase, k_output, k_skip = jax.random.split(key, 5)
        # 1 − |λ|², not |λ|², needs all its digits where |λ| is near 1. At 0 and 1, and at a phase of 0,
        # the logarithms would be infinite: no parameters.
        missing = (1 - r_max**2) + jax.random.uniform(k_ring, (n,), wide) * (r_max**2 - r_min**2)
        missing = jnp.clip(missing, jnp.finfo(wide).eps, 1 - jnp.finfo(wide).eps)
        phase = max_phase * (1 - jax.random.uniform(k_phase, (n,), wide))
        re_im = [
            parts.draw(output_init, k, (n, features), kind) for k in jax.random.split(k_output)
        ]
        return LRUParams(
            input=parts.weight(input_init, k_input, d, n, kind, gates=2),
            log_decay=jnp.log(-jnp.log1p(-missing) / 2).astype(kind),
            log_phase=jnp.log(phase).astype(kind),
            log_scale=(jnp.log(missing) / 2).astype(kind),
            output=jnp.concatenate(re_im),
            skip=parts.weight(skip_init, k_skip, d, features, kind),
        )

    def step(
        p: LRUParams, h: Array, x: Float[Array, "*batch D"]
    ) -> tuple[Array, Float[Array, "*batch H"]]:
        decay, phase, scale = (jnp.exp(v.astype(h.real.dtype)) for v in p[1:4])
        h = jnp.exp(jax.lax.complex(-decay, phase)) * h + scale * as_complex(x @ p.input, h)
        y = as_columns(h) @ p.output + x @ p.skip
        return h, y.astype(jnp.result_type(x, *p))

    return cell(name, init, step, carry=Features(n, dtype=jnp.complex64), dtype=dtype)


def as_complex(columns: jax.Array, like: jax.Array) -> jax.Array:
    """The complex numbers [*, N] whose parts are the columns re | im [*, 2N]."""
    re, im = jnp.split(columns.astype(like.real.dtype), 2, axis=-1)
    return jax.lax.complex(re, im)


def as_columns(h: jax.Array) -> jax.Array:
    """The columns re | im [*, 2N] of h [*, N]; times the rows re C | −im C they are Re(h·C)."""
    return jnp.concatenate([h.real, h.imag], axis=-1)


def shown(family: str, features: int, **options: tuple[Any, Any]) -> str:
    """The name of a cell, with the options (as given, usual) that are not as usual."""
    given = [f", {name}={value}" for name, (value, usual) in options.items() if value != usual]
    return f"{family}({features}{''.join(given)})"


def check_size(name: str, argument: str, size: Any) -> None:
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(f"{name}() needs {argument} to be a positive integer, got {size!r}")


def check_numbers(needs: str, holds: Callable[..., Any], **given: Any) -> None:
    """Raises unless `holds` of the numbers given; of those that are traced nothing is known."""
    if any(isinstance(value, core.Tracer) for value in given.values()):
        return
    arrays = [np.asarray(value) for value in given.values()]
    numbers = all(jnp.issubdtype(a.dtype, jnp.number) for a in arrays)
    if not numbers or not np.all(holds(*arrays)):
        raise ValueError(f"{needs}, got {', '.join(f'{k}={v!r}' for k, v in given.items())}")
