"""What layers share: what a layer makes of its input, flags of time steps, layers without a carry."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.sharding import NamedSharding

from jaxrnn import methods
from jaxrnn.core import Cell, Layer, lift
from jaxrnn.engine.meshes import is_explicit, types
from jaxrnn.guard import select, template, zeros
from jaxrnn.kit import promoting
from jaxrnn.methods.base import Problem


def output(layer: Cell | Layer, params: Any, x: Any) -> Any:
    """The types of y at one time step, for an x of these types."""
    if layer.step is not None:
        step = layer.step
        return types(lambda p, x: step(p, layer.carry(p, x), x)[1], params, x)

    def run(p: Any, x: Any) -> Any:
        xs = jax.tree.map(lambda a: a[None], x)
        flags = dict.fromkeys(("valid", "resets", "keys"))
        _, ys = lift(layer).run(p, xs, layer.carry(p, x), **flags, reverse=False, method=None)
        return template(ys)

    return types(run, params, x)


def zeros_of(wanted: Any, x: Any) -> Any:
    """Zeros of these types, over mesh axes as x is."""
    like = jax.tree.leaves(x)[0]
    if is_explicit(like):  # and then so are the types

        def split(s: Any) -> jax.Array:
            if isinstance(like, Tracer):
                return jnp.zeros(s.shape, s.dtype, out_sharding=s.sharding)
            placed = NamedSharding(like.sharding.mesh, s.sharding.spec)
            return jnp.zeros(s.shape, s.dtype, device=placed)

        return jax.tree.map(split, wanted)
    return jax.tree.map(lambda s: jnp.zeros_like(like, shape=s.shape, dtype=s.dtype), wanted)


def fold(keys: Any, number: int) -> Any:
    """The keys of one of several layers: of a time step, or of each; nothing of nothing."""
    if keys is None:
        return None
    one = lambda key: jax.random.fold_in(key, number)  # noqa: E731
    return one(keys) if keys.shape == () else jax.vmap(one)(keys)


def padded(flags: Any, tree: Any) -> Any:
    """`tree` with 0 at time steps that are not valid, so that nothing of the padding gets anywhere."""
    return tree if flags is None else select(flags, tree, zeros(tree))


def timewise(
    name: str,
    init: Callable[..., Any],
    apply: Callable[..., Any],
    noise: Callable[..., Any] | None = None,
) -> Layer:
    """A layer that treats every time step alike, all of them at once: no carry, and so no loop.

    `apply(params, x, key=None) -> y` for one time step, any batch axes.
    """
    init, apply = promoting(init), promoting(apply)

    def carry(params, x):
        del params, x
        return ()

    def step(params, carry, x, *key):
        return carry, apply(params, x, *key)

    def run(params, xs, carry, *, valid, resets, keys, reverse, method):
        del resets, reverse, method

        def each(carry, inputs):
            return carry, apply(params, *inputs)

        # With nothing to carry the engine has no loop to run, and knows how to multiply all rows best.
        inputs = (padded(valid, xs),) if keys is None else (padded(valid, xs), keys)
        carry, ys = methods.scan()(Problem(name=name, step=each, carry=carry, xs=inputs))
        return carry, padded(valid, ys)

    return Layer(name=name, init=init, carry=carry, step=step, run=run, noise=noise)


def groups(stride: int, tree: Any) -> Any:
    """[T, ...] as [⌈T/s⌉, s, ...], the last group filled up with zeros (False)."""

    def leaf(a: jax.Array) -> jax.Array:
        count = (a.shape[0] + stride - 1) // stride
        filled = jnp.pad(a, [(0, count * stride - a.shape[0])] + [(0, 0)] * (a.ndim - 1))
        return filled.reshape(count, stride, *a.shape[1:])

    return jax.tree.map(leaf, tree)


def thinned(stride: int, valid: Any, resets: Any, keys: Any) -> tuple[Any, Any, Any]:
    """The flags of groups of time steps: valid or reset if one of them is."""
    some = [None if v is None else groups(stride, v).any(1) for v in (valid, resets)]
    return some[0], some[1], None if keys is None else keys[::stride]
