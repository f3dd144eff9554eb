"""From symbols to features, and back with the same matrix."""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from jaxrnn.around import parts
from jaxrnn.cells import parts as cell_parts
from jaxrnn.core import Cell, Layer, draw, lift
from jaxrnn.kit import check_count
from jaxrnn.origin import factory

normal = jax.nn.initializers.normal(1.0)


class EmbedParams(NamedTuple):
    embedding: Any  # [V, D]


@factory
def embed(
    symbols: int,
    features: int,
    *,
    embedding_init: cell_parts.Initialiser = normal,
    dtype: Any = jnp.float32,
) -> Layer:
    """Looks up the features of a symbol.

        yₜ = E[xₜ]        x int [*batch], y [*batch, D]

    A symbol outside 0 … V−1 gives NaN, so that it is seen.

    Args:
      symbols: V.
      features: D.
      embedding_init: of E [V, D].
      dtype: of E.

    Raises:
      ValueError: if V or D is not a positive integer.
      TypeError: when run, if x holds no integers.
    """
    name = f"embed({symbols}, {features})"
    check_count(name, "features", features)
    _check_symbols("embed", symbols)

    def init(key, x):
        _check_integers(name, x)
        return EmbedParams(cell_parts.draw(embedding_init, key, (symbols, features), dtype))

    def apply(params, x, *key):
        del key
        return look_up(name, params.embedding, x)

    return parts.timewise(name, init, apply)


class TiedParams(NamedTuple):
    embedding: Any  # [V, D]
    layer: Any
    bias: Any  # [V]


@factory
def tied_embed(
    symbols: int,
    features: int,
    layer: Cell | Layer,
    *,
    embedding_init: cell_parts.Initialiser | None = None,
    dtype: Any = jnp.float32,
) -> Layer:
    """Reads and writes symbols with one matrix, around a layer.

        yₜ = layer(E[x])ₜ · Eᵀ + b        x int [*batch], y [*batch, V]

    Args:
      symbols: V.
      features: D; what the layer reads, and what it must make.
      layer: between the embedding and the logits.
      embedding_init: of E [V, D]; normal with standard deviation 1/√D if None.
      dtype: of E and b.

    Raises:
      ValueError: if V or D is not a positive integer; when initialised, if the layer makes other
        features than D.
      TypeError: if `layer` is no cell or layer; when run, if x holds no integers.

    References: Press & Wolf, Using the output embedding to improve language models, 2017,
    arXiv:1608.05859; Inan, Khosravi & Socher, Tying word vectors and word classifiers, 2017,
    arXiv:1611.01462.
    """
    if not isinstance(layer, Cell | Layer):
        raise TypeError(f"tied_embed() takes a cell or a layer, got {layer!r}")
    check_count("tied_embed()", "features", features)
    _check_symbols("tied_embed", symbols)
    name, inner = f"tied_embed({symbols}, {features}, {layer})", cast(Any, lift(layer))
    draw_embedding = embedding_init or jax.nn.initializers.normal(features**-0.5)

    def embedded(params, x):
        return look_up(name, params.embedding, x)

    def logits(params, y):
        logits = y @ params.embedding.T
        return logits + params.bias

    def init(key, x):
        _check_integers(name, x)
        e, k = jax.random.split(key)
        embedding = cell_parts.draw(draw_embedding, e, (symbols, features), dtype)
        read = jax.ShapeDtypeStruct((*x.shape, features), embedding.dtype)
        params = TiedParams(embedding, inner.init(k, read), jnp.zeros(symbols, dtype))
        made = parts.output(inner, params.layer, read).shape[-1]
        if made != features:
            raise ValueError(
                f"{name} multiplies what {layer} makes, {made} features, by the transposed embedding"
                f" of {features}; choose them alike, or stack a dense({features}) on the layer"
            )
        return params

    def carry(params, x):
        return inner.carry(params.layer, embedded(params, x))

    def step(params, carry, x, *key):
        carry, y = inner.step(params.layer, carry, embedded(params, x), *key)
        return carry, logits(params, y)

    def run(params, xs, carry, **options):
        valid = options["valid"]
        read = parts.padded(valid, embedded(params, parts.padded(valid, xs)))
        carry, ys = inner.run(params.layer, read, carry, **options)
        if inner.stride > 1 and valid is not None:
            valid, _, _ = parts.thinned(inner.stride, valid, None, None)
        return carry, parts.padded(valid, logits(params, ys))

    def noise(params, x, key):
        return params._replace(layer=draw(inner, params.layer, embedded(params, x), key))

    return Layer(
        name=name,
        init=init,
        carry=carry,
        step=step if inner.step else None,
        run=run,
        noise=noise if inner.noise else None,
        stride=inner.stride,
    )


def look_up(name: str, embedding: jax.Array, x: Any) -> jax.Array:
    _check_integers(name, x)
    return embedding.at[x].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)


def _check_symbols(name: str, symbols: Any) -> None:
    if isinstance(symbols, bool) or not isinstance(symbols, int) or symbols < 1:
        raise ValueError(f"{name}() needs a positive number of symbols, got {symbols!r}")


def _check_integers(name: str, x: Any) -> None:
    if not hasattr(x, "dtype") or not jnp.issubdtype(x.dtype, jnp.integer):
        came = x.dtype if hasattr(x, "dtype") else type(x).__name__
        raise TypeError(f"{name} looks up symbols and needs integers, got {came}")
