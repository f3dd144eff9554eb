"""Diagonal state space models: S4D, one for each feature, and S5, one for all features together.

    ḣ(s) = A h(s) + B u(s)       y(s) = Re(C h(s)) + D u(s)

sampled in steps of Δ. How it is sampled, and where the eigenvalues A start, are functions given to
the cell. The eigenvalues come in conjugate pairs; of each pair one is kept, M = N/2 of N.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxrnn.cells import parts
from jaxrnn.cells.lru import (
    as_columns,
    as_complex,
    check_numbers,
    check_size,
    fan_in,
    shown,
)
from jaxrnn.core import Cell
from jaxrnn.kit import Features, cell
from jaxrnn.origin import factory
from jaxrnn.shapes import Array, Float

Eigenvalues = NDArray[np.complexfloating]
Discretisation = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]  # A, Δ -> Ā, B̄/B
unit_normal = jax.nn.initializers.normal(1.0)
unit_complex = jax.nn.initializers.normal(0.5**0.5)  # each part of a complex number of variance 1
lecun = jax.nn.initializers.lecun_normal()  # LeCun et al. 1998


def zoh(A: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Zero-order hold, exact where u is constant during a step: Ā = exp(ΔA), B̄ = A⁻¹(exp(ΔA) − 1)B."""
    return jnp.exp(step * A), jnp.expm1(step * A) / A


def zoh_euler(A: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Zero-order hold of h, and Euler's step for u: Ā = exp(ΔA), B̄ = ΔB."""
    return jnp.exp(step * A), step


def bilinear(A: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Tustin's method: Ā = (1 − ΔA/2)⁻¹(1 + ΔA/2), B̄ = (1 − ΔA/2)⁻¹ΔB."""
    half = step * A / 2
    return (1 + half) / (1 - half), step / (1 - half)


def hippo_normal(n: int) -> NDArray[np.float64]:
    """The normal part of HiPPO-LegS: ∓√(i+½)√(j+½) below and above a diagonal of −½."""
    root = np.sqrt(np.arange(n) + 0.5)
    product = np.outer(root, root)
    return np.triu(product, 1) - np.tril(product, -1) - np.eye(n) / 2


def hippo_pairs(n: int) -> tuple[Eigenvalues, NDArray[np.complexfloating]]:
    """The eigenvalues of `hippo_normal` above the real axis [n/2], and their eigenvectors [n, n/2]."""
    # i times a skew-symmetric matrix is Hermitian: real eigenvalues, in order, and a unitary V.
    frequency, vectors = np.linalg.eigh(-1j * (hippo_normal(n) + np.eye(n) / 2))
    return -0.5 + 1j * frequency[n // 2 :], vectors[:, n // 2 :]


def s4d_legs(state: int) -> Eigenvalues:
    """S4D-LegS: the eigenvalues of the normal part of the HiPPO-LegS matrix."""
    return hippo_pairs(state)[0]


def s4d_lin(state: int) -> Eigenvalues:
    """S4D-Lin: Aₙ = −½ + iπn, the frequencies of a Fourier series."""
    return -0.5 + 1j * np.pi * np.arange(state // 2)


def s4d_inv(state: int) -> Eigenvalues:
    """S4D-Inv: Aₙ = −½ + i(N/π)(N/(2n + 1) − 1), close to S4D-LegS."""
    return -0.5 + 1j * state / np.pi * (state / (2 * np.arange(state // 2) + 1) - 1)


class S4DParams(NamedTuple):
    """M = N/2. Complex numbers are pairs of real ones: columns re | im of C."""

    input: Float[Array, "D H"]
    log_decay: Float[Array, "H M"]
    frequency: Float[Array, "H M"]
    log_step: Float[Array, " H"]
    output: Float[Array, "H N"]
    skip: Float[Array, " H"]


@factory
def s4d(
    features: int,
    *,
    state: int = 64,
    eigenvalues: Callable[[int], Any] = s4d_lin,
    discretise: Discretisation = zoh,
    dt_min: Any = 0.001,
    dt_max: Any = 0.1,
    input_init: parts.Initialiser = parts.glorot,
    output_init: parts.Initialiser = unit_complex,
    skip_init: parts.Initialiser = unit_normal,
    dtype: Any = None,
) -> Cell:
    """S4D: each feature is sent through a diagonal state space model of its own.

        A = −exp(α) + iω     Δ = exp(δ)     Ā, B̄ = discretise(A, Δ)
        uₜ = xₜ·W
        hₜ = Ā ∘ hₜ₋₁ + B̄ ∘ uₜ                   N/2 numbers for each feature of u
        yₜ = 2 Re(Σₙ Cₙ ∘ hₜₙ) + D ∘ uₜ

    The 2 stands for the conjugate half of the state. B is 1: only its product with C matters. W, which
    the paper does not have, makes H features of D. Carry: h [*batch, H, N/2], complex, at first 0.
    Structure: elementwise affine.

    Args:
      features: H.
      state: N, even.
      eigenvalues: what A is at first, a function of N that gives N/2 complex numbers, the same for
        each feature: `s4d_lin`, `s4d_inv` or `s4d_legs`.
      discretise: of A and Δ makes Ā and B̄: `zoh` or `bilinear`.
      dt_min, dt_max: Δ is at first log-uniform between them. May be traced.
      input_init: of W [D, H].
      output_init: of the columns re | im of C [H, N].
      skip_init: of D [H].
      dtype: of the parameters; that of x if None. y has the promoted dtype of parameters and x, the
        carry the complex one of that precision, complex64 at least.

    Raises:
      TypeError: if `eigenvalues` or `discretise` is no function.
      ValueError: if `features` is not a positive integer, `state` not an even one, not
        0 < dt_min ≤ dt_max, or the eigenvalues not N/2 with negative real parts.

    Reference: Gu et al., On the parameterization and initialization of diagonal state space models,
    2022, arXiv:2206.11893.
    """
    _check_state("s4d", state, 1)
    check_steps("s4d", dt_min, dt_max)
    check_function("s4d", "eigenvalues", "N -> A, such as s4d_lin", eigenvalues)
    check_function("s4d", "discretise", "A, Δ -> Ā, B̄, such as zoh", discretise)
    name = shown("s4d", features, state=(state, 64))

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        k_input, k_step, k_output, k_skip = jax.random.split(key, 4)
        A = np.asarray(eigenvalues(state), np.complex128)
        if A.shape != (state // 2,) or not (A.real < 0).all():
            raise ValueError(
                f"{name} needs eigenvalues({state}) to be an array [{state // 2}] of numbers with"
                f" negative real parts, got {A}"
            )
        A = np.broadcast_to(A, (features, state // 2))
        return S4DParams(
            input=parts.weight(input_init, k_input, d, features, kind),
            log_decay=jnp.asarray(np.log(-A.real), kind),
            frequency=jnp.asarray(A.imag, kind),
            log_step=draw_log_steps(k_step, (features,), dt_min, dt_max, kind),
            output=parts.draw(output_init, k_output, (features, state), kind),
            skip=parts.draw(skip_init, k_skip, (features,), kind),
        )

    def step(
        p: S4DParams, h: Array, x: Float[Array, "*batch D"]
    ) -> tuple[Array, Float[Array, "*batch H"]]:
        A, step = _continuous(p, h)
        a, b = discretise(A, step[:, None])
        u = x @ p.input
        h = a * h + b * u[..., None]
        y = 2 * (as_complex(p.output, h) * h).real.sum(-1) + p.skip * u
        return h, y.astype(jnp.result_type(x, *p))

    return cell(
        name, init, step, carry=Features(features, state // 2, dtype=jnp.complex64), dtype=dtype
    )


class S5Params(NamedTuple):
    """M = N/2. Complex numbers are pairs of real ones: columns re | im of B, rows re | −im of C."""

    input: Float[Array, "D N"]
    log_decay: Float[Array, " M"]
    frequency: Float[Array, " M"]
    log_step: Float[Array, " M"]
    output: Float[Array, "N H"]
    skip: Float[Array, "D H"]


@factory
def s5(
    features: int,
    *,
    state: int = 64,
    blocks: int = 1,
    discretise: Discretisation = zoh,
    dt_min: Any = 0.001,
    dt_max: Any = 0.1,
    input_init: parts.Initialiser = lecun,
    output_init: parts.Initialiser = lecun,
    skip_init: parts.Initialiser = fan_in,
    dtype: Any = None,
) -> Cell:
    """S5: one diagonal state space model that all features go into and come out of.

        A = −exp(α) + iω     Δ = exp(δ)     Ā, B̄ = discretise(A, Δ)
        hₜ = Ā ∘ hₜ₋₁ + B̄ ∘ (xₜ·B)               N/2 numbers
        yₜ = 2 Re(hₜ·C) + xₜ·D

    The 2 stands for the conjugate half of the state. At first this is the diagonal form of a real
    model, drawn B and C with a block-diagonal matrix of HiPPO-LegS normal parts. Re A < 0 whatever
    the parameters, which the paper leaves open; its code has a diagonal D, for as many features in as
    out. Carry: h [*batch, N/2], complex, at first 0. Structure: elementwise affine.

    Args:
      features: H, of y.
      state: N, even.
      blocks: of the matrix that A comes from, each with an even part of N.
      discretise, dt_min, dt_max: as for `s4d`, with a Δ for each eigenvalue.
      input_init: of the real B [D, N] before it is made diagonal.
      output_init: of the real C [N, H] before it is made diagonal.
      skip_init: of D [D, H].
      dtype: as for `s4d`.

    Raises:
      TypeError: if `discretise` is no function.
      ValueError: if `features` or `blocks` is not a positive integer, `state` not an even multiple of
        `blocks`, or not 0 < dt_min ≤ dt_max.

    Reference: Smith et al., Simplified state space layers for sequence modeling, 2022, arXiv:2208.04933.
    """
    check_size("s5", "blocks", blocks)
    _check_state("s5", state, blocks)
    check_steps("s5", dt_min, dt_max)
    check_function("s5", "discretise", "A, Δ -> Ā, B̄, such as zoh", discretise)
    name = shown("s5", features, state=(state, 64), blocks=(blocks, 1))

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        wide = jnp.promote_types(kind, jnp.float32)
        k_input, k_step, k_output, k_skip = jax.random.split(key, 4)
        pairs, vectors = hippo_pairs(state // blocks)
        A, V = np.tile(pairs, blocks), np.kron(np.eye(blocks), vectors)
        # V⁻¹ is V's conjugate transpose. As rows are multiplied, Bᵀ meets V's conjugate and Cᵀ Vᵀ.
        turn = jnp.asarray(np.concatenate([V.real, -V.imag], axis=1), wide)
        return S5Params(
            input=(parts.draw(input_init, k_input, (d, state), wide) @ turn).astype(kind),
            log_decay=jnp.asarray(np.log(-A.real), kind),
            frequency=jnp.asarray(A.imag, kind),
            log_step=draw_log_steps(k_step, A.shape, dt_min, dt_max, kind),
            output=(turn.T @ parts.draw(output_init, k_output, (state, features), wide)).astype(
                kind
            ),
            skip=parts.weight(skip_init, k_skip, d, features, kind),
        )

    def step(
        p: S5Params, h: Array, x: Float[Array, "*batch D"]
    ) -> tuple[Array, Float[Array, "*batch H"]]:
        a, b = discretise(*_continuous(p, h))
        h = a * h + b * as_complex(x @ p.input, h)
        y = 2 * (as_columns(h) @ p.output) + x @ p.skip
        return h, y.astype(jnp.result_type(x, *p))

    return cell(name, init, step, carry=Features(state // 2, dtype=jnp.complex64), dtype=dtype)


def _continuous(p: S4DParams | S5Params, like: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A and Δ, in the precision of the carry: nearer to 1 than bfloat16 can say is what Ā is."""
    real = like.real.dtype
    decay, frequency, step = (v.astype(real) for v in (p.log_decay, p.frequency, p.log_step))
    return jax.lax.complex(-jnp.exp(decay), frequency), jnp.exp(step)


def draw_log_steps(key: Any, shape: Any, dt_min: Any, dt_max: Any, dtype: Any) -> jax.Array:
    """Draws log Δ, uniform between those of dt_min and dt_max."""
    share = jax.random.uniform(key, shape, jnp.promote_types(dtype, jnp.float32))
    return (jnp.log(dt_min) + share * (jnp.log(dt_max) - jnp.log(dt_min))).astype(dtype)


def check_steps(name: str, dt_min: Any, dt_max: Any) -> None:
    def holds(low: Any, high: Any) -> Any:
        return (low > 0) & (low <= high) & np.isfinite(high)

    check_numbers(f"{name}() needs 0 < dt_min <= dt_max", holds, dt_min=dt_min, dt_max=dt_max)


def check_function(name: str, argument: str, kind: str, function: Any) -> None:
    if not callable(function):
        raise TypeError(f"{name}() needs {argument} to be a function {kind}, got {function!r}")


def _check_state(name: str, state: Any, blocks: int) -> None:
    check_size(name, "state", state)
    if state % (2 * blocks):
        raise ValueError(f"{name}() needs state to be a multiple of {2 * blocks}, got {state}")
