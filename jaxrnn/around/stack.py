"""Layers one after the other, and around a shortcut."""

from typing import Any, cast

import jax

from jaxrnn.around import parts
from jaxrnn.core import Cell, Layer, draw, lift
from jaxrnn.inside.output import add
from jaxrnn.origin import factory


@factory
def stack(*layers: Cell | Layer) -> Layer:
    """Runs layers one after the other, each over the whole sequence: its projection is one product.

        y⁽⁰⁾ = x        y⁽ˡ⁾ = layerₗ(y⁽ˡ⁻¹⁾)

    Parameters and carry are tuples with one entry for each layer. `step` streams through all of them,
    where all can.

    Raises:
      TypeError: if something else than a cell or a layer is given.
      ValueError: if nothing is.
    """
    if not layers:
        raise ValueError("stack() needs at least one layer, e.g. stack(cells.lstm(64), dense(10))")
    for layer in layers:
        if not isinstance(layer, Cell | Layer):
            raise TypeError(f"stack() takes cells and layers, got {layer!r}")
    lifted: list[Any] = [lift(layer) for layer in layers]
    stride = 1
    for layer in lifted:
        stride *= layer.stride

    def init(key, x):
        params = []
        for layer, k in zip(lifted, jax.random.split(key, len(lifted)), strict=True):
            params.append(layer.init(k, x))
            x = parts.output(layer, params[-1], x)
        return tuple(params)

    def inputs(params, x):
        """What each layer reads, as zeros: shapes and dtypes."""
        yield x
        for layer, p in zip(lifted[:-1], params, strict=False):
            x = parts.zeros_of(parts.output(layer, p, x), x)
            yield x

    def carry(params, x):
        each = zip(lifted, params, inputs(params, x), strict=True)
        return tuple(layer.carry(p, x) for layer, p, x in each)

    def step(params, carry, x, *key):
        after = []
        for i, (layer, p, c) in enumerate(zip(lifted, params, carry, strict=True)):
            c, x = layer.step(p, c, x, *(parts.fold(k, i) for k in key))
            after.append(c)
        return tuple(after), x

    def run(params, xs, carry, *, valid, resets, keys, reverse, method):
        after = []
        for i, (layer, p, c) in enumerate(zip(lifted, params, carry, strict=True)):
            flags = {"valid": valid, "resets": resets, "keys": parts.fold(keys, i)}
            c, xs = layer.run(p, xs, c, **flags, reverse=reverse, method=method)
            after.append(c)
            if layer.stride > 1:
                valid, resets, keys = parts.thinned(layer.stride, valid, resets, keys)
        return tuple(after), xs

    def noise(params, x, key):
        each = enumerate(zip(lifted, params, inputs(params, x), strict=True))
        return tuple(draw(layer, p, x, parts.fold(key, i)) for i, (layer, p, x) in each)

    return Layer(
        name=f"stack({', '.join(map(str, layers))})",
        init=init,
        carry=carry,
        step=step if all(layer.step for layer in lifted) else None,
        run=run,
        noise=noise if any(layer.noise for layer in lifted) else None,
        stride=stride,
    )


@factory
def residual(layer: Cell | Layer) -> Layer:
    """Adds the input to the output.

        yₜ = xₜ + layer(x)ₜ

    Raises:
      TypeError: if something else than a cell or a layer is given.
      ValueError: if the layer makes one y of several x; when run, if x and y are not alike.

    Reference: He et al., Deep residual learning, 2015, arXiv:1512.03385; between recurrent layers Wu
    et al. 2016, arXiv:1609.08144.
    """
    if not isinstance(layer, Cell | Layer):
        raise TypeError(f"residual() takes a cell or a layer, got {layer!r}")
    name, inner = f"residual({layer})", cast(Any, lift(layer))
    if inner.stride > 1:
        raise ValueError(
            f"{name}: {layer} makes one y of {inner.stride} x, so they cannot be added"
        )

    def step(params, carry, x, *key):
        carry, y = inner.step(params, carry, x, *key)
        return carry, add(name, x, y)

    def run(params, xs, carry, **options):
        carry, ys = inner.run(params, xs, carry, **options)
        return carry, add(name, parts.padded(options["valid"], xs), ys)

    fields: dict[str, Any] = {"init": inner.init, "carry": inner.carry, "noise": inner.noise}
    return Layer(name=name, **fields, step=step if inner.step else None, run=run)
