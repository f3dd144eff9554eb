"""Layers that look at several time steps: causal convolution, and making one frame of several."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.around import parts
from jaxrnn.cells import parts as cell_parts
from jaxrnn.checks import check_input
from jaxrnn.core import Layer, lift
from jaxrnn.engine.meshes import whole_features
from jaxrnn.kit import cell, check_count, input_features, promoting
from jaxrnn.origin import factory


class CausalConvParams(NamedTuple):
    kernel: Any  # [width, D, H]; the last slice meets the present x
    bias: Any  # [H]


@factory
def causal_conv(
    features: int,
    width: int,
    *,
    kernel_init: cell_parts.Initialiser | None = None,
    dtype: Any = None,
) -> Layer:
    """Convolves over the present and the past.

        yₜ = Σₖ xₜ₋ₖ · W[width−1−k] + b        k = 0 … width−1, x before the first step is 0

    Carry: the last width−1 inputs [*batch, width−1, D], so it streams. Invalid steps are as if they
    were not there, and a reset forgets what was before it.

    Args:
      features: H.
      width: how many time steps y depends on.
      kernel_init: of W [width, D, H]; uniform with variance 1/(width·D) if None.
      dtype: of the parameters; that of x if None.

    Raises:
      ValueError: if H or the width is not a positive integer.

    Reference: Waibel et al., Phoneme recognition using time-delay neural networks, 1989; van den Oord
    et al., WaveNet, 2016, arXiv:1609.03499.
    """
    name = f"causal_conv({features}, {width})"
    check_count(name, "features", features)
    if isinstance(width, bool) or not isinstance(width, int) or width < 1:
        raise ValueError(f"causal_conv() needs a width of at least one time step, got {width!r}")

    def init(key, x):
        d, kind = input_features(name, x, dtype)
        draw = kernel_init or jax.nn.initializers.lecun_uniform(in_axis=(0, 1), out_axis=2)
        kernel = cell_parts.draw(draw, key, (width, d, features), kind)
        return CausalConvParams(kernel, jnp.zeros(features, kind))

    def carry(p, x):
        check_input(name, x)
        none = jnp.zeros_like(x, dtype=jnp.promote_types(x.dtype, p.kernel.dtype))
        return jnp.repeat(none[..., None, :], width - 1, axis=-2)  # is split as x is

    def step(p, past, x, *key):
        del key
        window = jnp.concatenate([past, x[..., None, :].astype(past.dtype)], axis=-2)
        y = jnp.tensordot(window, p.kernel, [[-2, -1], [0, 1]])
        return window[..., 1:, :], y + p.bias

    looped = lift(cell(name, init, step, carry=carry))

    @promoting
    def run(params, xs, past, **options):
        if options["valid"] is not None or options["resets"] is not None or xs.ndim < 2:
            return looped.run(params, xs, past, **options)
        return _convolve(params, xs, past, options["reverse"])

    fields = {name: getattr(looped, name) for name in ("name", "init", "carry", "step")}
    return Layer(**fields, run=run)


def _convolve(p: CausalConvParams, xs: Any, past: Any, reverse: bool) -> tuple[Any, Any]:
    """All time steps at once: the carry is the time before the first."""
    width = p.kernel.shape[0]
    before = jnp.moveaxis(past, -2, 0)
    xs = xs.astype(past.dtype)
    if reverse:
        xs, kernel = jnp.concatenate([xs, jnp.flip(before, 0)]), jnp.flip(p.kernel, 0)
    else:
        xs, kernel = jnp.concatenate([before, xs]), p.kernel
    length = xs.shape[0] - width + 1
    xs = whole_features(xs)
    rows = xs.reshape(xs.shape[0], math.prod(xs.shape[1:-1]), xs.shape[-1])
    ys = jax.lax.conv_general_dilated(
        rows, kernel.astype(rows.dtype), (1,), "VALID", dimension_numbers=("WNC", "WIO", "WNC")
    )
    ys = ys.reshape(length, *xs.shape[1:-1], ys.shape[-1])
    last = jnp.flip(xs[: width - 1], 0) if reverse else xs[length:]
    return jnp.moveaxis(last, 0, -2), ys + p.bias


@factory
def concat_frames(size: int) -> Layer:
    """Makes one frame of several, side by side: the pyramid of listeners.

        yₖ = [x_{sk}, x_{sk+1}, … x_{sk+s−1}]        ys [⌈T/s⌉, *batch, s·D], missing frames are 0

    `lengths` L become ⌈L/s⌉; what follows in a `stack` knows. There is no `step`.

    Args:
      size: s.

    Raises:
      ValueError: if the size is not a positive integer.

    Reference: Chan et al., Listen, attend and spell, 2015, arXiv:1508.01211.
    """

    def make(grouped, valid):
        del valid
        count, _, *batch, features = grouped.shape
        return jnp.moveaxis(grouped, 1, -2).reshape(count, *batch, size * features)

    return _thinning("concat_frames", size, make)


@factory
def downsample(size: int) -> Layer:
    """Takes one frame of several: the first valid one.

        yₖ = x_{sk}        ys [⌈T/s⌉, *batch, D]

    `lengths` L become ⌈L/s⌉; what follows in a `stack` knows. There is no `step`.

    Args:
      size: s.

    Raises:
      ValueError: if the size is not a positive integer.
    """

    def make(grouped, valid):
        if valid is None:
            return grouped[:, 0]
        first = jnp.argmax(valid, axis=1, keepdims=True)
        first = jnp.expand_dims(first, range(first.ndim, grouped.ndim))
        return jnp.take_along_axis(grouped, first, axis=1)[:, 0]

    return _thinning("downsample", size, make)


def _thinning(kind: str, size: int, make: Any) -> Layer:
    name = f"{kind}({size})"
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(f"{kind}() needs a positive number of frames, got {size!r}")

    def init(key, x):
        del key, x
        return ()

    def carry(params, x):
        del params, x
        return ()

    def run(params, xs, carry, *, valid, resets, keys, reverse, method):
        del params, resets, keys, reverse, method
        grouped = parts.groups(size, parts.padded(valid, xs))
        flags = None if valid is None else parts.groups(size, valid)
        return carry, jax.tree.map(lambda a: make(a, flags), grouped)

    return Layer(name=name, init=init, carry=carry, step=None, run=run, stride=size)
