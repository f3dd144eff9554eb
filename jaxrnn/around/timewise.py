"""Layers that treat every time step alike: projections, normalisation, dropout, any pure function."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.around import parts
from jaxrnn.cells import parts as cell_parts
from jaxrnn.checks import check_input
from jaxrnn.core import Layer
from jaxrnn.inside import parts as inside_parts
from jaxrnn.kit import check_count, input_features
from jaxrnn.origin import factory


@factory
def time_distributed(
    apply: Callable[..., Any], init: Callable[..., Any] | None = None, *, name: str | None = None
) -> Layer:
    """Applies a pure function to every time step.

        yₜ = apply(params, xₜ)

    Args:
      apply: `apply(params, x) -> y` for one time step, x [*batch, ...] with any batch axes.
      init: `init(key, x) -> params`; no parameters, `()`, if None.
      name: of the layer; that of the function if None.
    """
    called = name or f"time_distributed({getattr(apply, '__name__', 'function')})"
    return parts.timewise(
        called,
        (lambda key, x: ()) if init is None else init,  # noqa: ARG005
        lambda params, x, *key: apply(params, x),  # noqa: ARG005
    )


class DenseParams(NamedTuple):
    kernel: Any  # [D, H]
    bias: Any  # [H]


@factory
def dense(
    features: int,
    *,
    kernel_init: cell_parts.Initialiser = cell_parts.glorot,
    dtype: Any = None,
) -> Layer:
    """An affine map of the features.

        yₜ = xₜ·W + b

    Args:
      features: H, of y [*batch, H]. The bias is initialised to 0.
      kernel_init: of W [D, H].
      dtype: of the parameters; that of x if None.

    Raises:
      ValueError: if `features` is not a positive integer.
    """
    name = f"dense({features})"
    check_count(name, "features", features)

    def init(key, x):
        d, kind = input_features(name, x, dtype)
        kernel = cell_parts.draw(kernel_init, key, (d, features), kind)
        return DenseParams(kernel, jnp.zeros(features, kind))

    def apply(p, x, *key):
        del key
        check_input(name, x)
        return x @ p.kernel + p.bias

    return parts.timewise(name, init, apply)


class LayerNormParams(NamedTuple):
    scale: Any  # [D]
    bias: Any  # [D]


@factory
def layer_norm(*, dtype: Any = None) -> Layer:
    """Normalises the features of each row at each time step.

        yₜ = γ ∘ (xₜ − mean xₜ) / √(var xₜ + ε) + β        ε = 10⁻⁵

    Args:
      dtype: of the parameters, γ = 1 and β = 0 at first; that of x if None.

    Reference: Ba, Kiros & Hinton, Layer normalization, 2016, arXiv:1607.06450.
    """

    def init(key, x):
        del key
        d, kind = input_features("layer_norm()", x, dtype)
        return LayerNormParams(jnp.ones(d, kind), jnp.zeros(d, kind))

    def apply(p, x, *key):
        del key
        return cell_parts.normalise(x) * p.scale + p.bias

    return parts.timewise("layer_norm()", init, apply)


@factory
def dropout(rate: Any, per: str = "step") -> Layer:
    """Drops features of its input.

        yₜ = m ∘ xₜ        m ~ Bernoulli(1 − rate) / (1 − rate), of the shape of x

    Without a key nothing is dropped.

    Args:
      rate: of dropping a feature, 0 <= rate < 1. May be traced.
      per: "step", a mask for each time step, or "sequence", one mask for all of them (Gal & Ghahramani;
        the "locked" dropout of AWD-LSTM).

    Raises:
      ValueError: if the rate is not in [0, 1), or `per` is neither.

    References: Srivastava et al., Dropout, JMLR 15, 2014; Gal & Ghahramani, A theoretically grounded
    application of dropout in recurrent neural networks, 2016, arXiv:1512.05287.
    """
    inside_parts.check_rate("dropout", rate)
    if per not in ("step", "sequence"):
        raise ValueError(f"dropout() drops per 'step' or per 'sequence', got per={per!r}")
    name = f"dropout({inside_parts.shown(rate)}, per={per!r})"
    make = _dropout_per_step if per == "step" else _dropout_per_sequence
    return make(name, rate)


def _no_params(key, x):
    del key, x
    return ()


def _masks(key: Any, rate: Any, x: Any) -> Any:
    leaves, tree = jax.tree.flatten(x)
    drawn = [
        inside_parts.dropping(jax.random.fold_in(key, i), rate, v) for i, v in enumerate(leaves)
    ]
    return tree.unflatten(drawn)


def _dropout_per_step(name: str, rate: Any) -> Layer:
    def apply(params, x, *key):
        del params
        return jax.tree.map(jnp.multiply, _masks(key[0], rate, x), x) if key else x

    return parts.timewise(name, _no_params, apply)


def _dropout_per_sequence(name: str, rate: Any) -> Layer:
    def noise(params, x, key):
        return inside_parts.Drawn(params, _masks(key, rate, x))

    def apply(params, x, *key):
        del key
        drawn = isinstance(params, inside_parts.Drawn)
        return jax.tree.map(jnp.multiply, params.masks, x) if drawn else x

    return parts.timewise(name, _no_params, apply, noise)
