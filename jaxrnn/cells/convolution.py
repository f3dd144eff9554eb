"""Causal convolution over time, as a cell: the last inputs are its carry."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cells import parts
from jaxrnn.checks import check_input
from jaxrnn.core import Cell
from jaxrnn.guard import zero_rows
from jaxrnn.kit import cell
from jaxrnn.origin import factory
from jaxrnn.shapes import Array, Float


class CausalConvParams(NamedTuple):
    """Column j of `input` weighs the input of j steps ago."""

    input: Float[Array, "D K"]
    bias: Float[Array, " D"]


def taps(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Uniform in ±1/√K: a depthwise window sees K inputs."""
    bound = shape[-1] ** -0.5
    return jax.random.uniform(key, shape, dtype, -bound, bound)


@factory
def causal_conv(window: int, *, input_init: parts.Initialiser = taps, dtype: Any = None) -> Cell:
    """Depthwise causal convolution: yₜ = Σⱼ wⱼ ∘ xₜ₋ⱼ + b, j = 0 … K−1.

    It is what stands before the recurrence in Mamba, Griffin, xLSTM and DeltaNet. What was before the
    first step counts as 0. Each feature is convolved by itself; to mix them, project before or after.

    Carry: a tuple of K − 1 arrays [*batch, D], the last inputs, newest first, at first 0.
    Structure: elementwise affine; each array takes the value of the one before it.

    Args:
      window: K, in time steps; 1 is a scale and a shift.
      input_init: of w [D, K]; uniform in ±1/√K if not given.
      dtype: of the parameters; that of x if None.
    """
    name = f"causal_conv({window})"
    check_window("causal_conv", window)

    def init(key, x):
        d, kind = x.shape[-1], x.dtype
        return CausalConvParams(
            input=parts.draw(input_init, key, (d, window), kind), bias=jnp.zeros(d, kind)
        )

    def carry(p, x):
        check_input(name, x)
        dtype = jnp.result_type(x.dtype, *(w.dtype for w in p))
        return tuple(zero_rows(x, x.shape[-1:], dtype) for _ in range(window - 1))

    def step(
        p: CausalConvParams,
        carry: tuple[Float[Array, "*batch D"], ...],
        x: Float[Array, "*batch D"],
    ) -> tuple[tuple[Float[Array, "*batch D"], ...], Float[Array, "*batch D"]]:
        if x.shape[-1] != p.input.shape[0]:  # one feature would be broadcast
            raise ValueError(f"{name} convolves {p.input.shape[0]} features, got {x.shape[-1]}")
        last = (x.astype(jnp.result_type(x.dtype, *(w.dtype for w in p))), *carry)
        y = sum((w * v for w, v in zip(p.input.T, last, strict=True)), start=p.bias)
        return last[:-1], y

    return cell(name, init, step, carry=carry, dtype=dtype)


def check_window(name: str, window: Any) -> None:
    if isinstance(window, bool) or not isinstance(window, int) or window < 1:
        raise ValueError(f"{name}() needs a window of 1 time step or more, got {window!r}")
