"""Selective state space model, the recurrence of Mamba."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cells import parts
from jaxrnn.cells.lru import check_size, shown
from jaxrnn.cells.ssm import (
    Discretisation,
    check_function,
    check_steps,
    draw_log_steps,
    zoh_euler,
)
from jaxrnn.core import Cell
from jaxrnn.kit import Features, cell
from jaxrnn.origin import factory
from jaxrnn.shapes import Array, Float

third_uniform = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # ±1/√rows


class SelectiveSSMParams(NamedTuple):
    """Columns of `select` in the order Δ B C, R + N + N of them."""

    input: Float[Array, "D E"]
    select: Float[Array, "E S"]
    step: Float[Array, "R E"]
    step_bias: Float[Array, " E"]
    log_decay: Float[Array, "E N"]
    skip: Float[Array, " E"]


@factory
def selective_ssm(
    features: int,
    *,
    state: int = 16,
    rank: int | None = None,
    discretise: Discretisation = zoh_euler,
    dt_min: Any = 0.001,
    dt_max: Any = 0.1,
    input_init: parts.Initialiser = parts.glorot,
    select_init: parts.Initialiser = third_uniform,
    step_init: parts.Initialiser = third_uniform,
    dtype: Any = None,
) -> Cell:
    """Selective state space model (S6): what it keeps and what it reads depends on the input.

        uₜ = xₜ·W
        d, B, C = uₜ·S                              each its columns
        Δ = softplus(d·P + p)     A = −exp(α)
        Ā, B̄ = discretise(A, Δ) with B               exp(ΔA), ΔB
        hₜ = Ā ∘ hₜ₋₁ + B̄ uₜ                         N numbers for each feature of u
        yₜ = Σₙ Cₙ hₜₙ + D ∘ uₜ

    Carry: h [*batch, E, N], at first 0. Structure: elementwise affine.

    This is the recurrence alone. Around it Mamba's block has a causal convolution and SiLU between W
    and the rest, a gate, and a projection back: layers of their own. W is here so that the cell takes
    any x; with an identity as `input_init` it is the paper's Algorithm 2. At first αₑₙ = log n,
    n = 1 … N, D = 1, and p is such that softplus(p) is log-uniform in [dt_min, dt_max].

    Args:
      features: E, of u and y.
      state: N.
      rank: R, of d; E/16 rounded up if None.
      discretise: of A and Δ makes Ā and B̄/B: `zoh_euler`, as in the authors' code, or `zoh`, as the
        paper has it.
      dt_min, dt_max: as above. May be traced.
      input_init: of W [D, E].
      select_init: of the three blocks of S [E, R+2N].
      step_init: of P [R, E].
      dtype: of the parameters; that of x if None. In bfloat16 an Ā nearer to 1 than 2⁻⁹
        is 1: float32 remembers longer.

    Raises:
      TypeError: if `discretise` is no function.
      ValueError: if `features`, `state` or `rank` is not a positive integer, or not
        0 < dt_min ≤ dt_max.

    Reference: Gu & Dao, Mamba: linear-time sequence modeling with selective state spaces, 2023,
    arXiv:2312.00752.
    """
    low_rank = math.ceil(features / 16) if rank is None else rank
    check_size("selective_ssm", "state", state)
    check_size("selective_ssm", "rank", low_rank)
    check_steps("selective_ssm", dt_min, dt_max)
    check_function("selective_ssm", "discretise", "A, Δ -> Ā, B̄/B, such as zoh", discretise)
    usual = math.ceil(features / 16)
    name = shown("selective_ssm", features, state=(state, 16), rank=(low_rank, usual))

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        wide = jnp.promote_types(kind, jnp.float32)
        k_input, k_select, k_step, k_bias = jax.random.split(key, 4)
        sizes = (low_rank, state, state)
        blocks = zip(jax.random.split(k_select, 3), sizes, strict=True)
        dt = jnp.exp(draw_log_steps(k_bias, (features,), dt_min, dt_max, wide))
        order = jnp.log(jnp.arange(1, state + 1, dtype=wide))
        return SelectiveSSMParams(
            input=parts.weight(input_init, k_input, d, features, kind),
            select=jnp.concatenate(
                [parts.weight(select_init, k, features, n, kind) for k, n in blocks], axis=-1
            ),
            step=parts.weight(step_init, k_step, low_rank, features, kind),
            # The inverse of softplus: log(exp Δ − 1).
            step_bias=(dt + jnp.log(-jnp.expm1(-dt))).astype(kind),
            log_decay=jnp.broadcast_to(order, (features, state)).astype(kind),
            skip=jnp.ones(features, kind),
        )

    def step(
        p: SelectiveSSMParams, h: Float[Array, "*batch E N"], x: Float[Array, "*batch D"]
    ) -> tuple[Float[Array, "*batch E N"], Float[Array, "*batch E"]]:
        u = x @ p.input
        d, B, C = jnp.split(u @ p.select, [low_rank, low_rank + state], axis=-1)
        dt = jax.nn.softplus(d @ p.step + p.step_bias)
        a, b = discretise(-jnp.exp(p.log_decay), dt[..., None])
        h = a * h + b * B[..., None, :] * u[..., None]
        y = (h * C[..., None, :]).sum(-1) + p.skip * u
        return h, y

    return cell(name, init, step, carry=Features(features, state), dtype=dtype)
