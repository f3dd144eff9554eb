"""What `run` checks before anything runs. Every message names the argument, what came, and a remedy.

What values tell is checked at every call. What their types tell is checked while a call is traced, once
for all calls of those types, and what costs a trace of its own only where tracing has failed.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import core

from jaxrnn.engine import meshes


def check_run(
    layer: Any, params: Any, xs: Any, carry: Any, lengths: Any, mask: Any, resets: Any, key: Any
) -> None:
    """All there is to check, before anything is traced in earnest."""
    check_arguments(layer, xs, lengths, mask, resets, key)
    check_carry(layer, params, xs, carry, lengths, mask, resets)
    check_step(layer, params, xs, key)


def check_arguments(layer: Any, xs: Any, lengths: Any, mask: Any, resets: Any, key: Any) -> None:
    """What can be said of the arguments by looking at them."""
    if not all(hasattr(layer, field) for field in ("name", "init", "carry", "step")):
        raise TypeError(f"run() takes a Cell or a Layer first, got {type(layer).__name__}")
    length = check_xs(xs)
    check_key(key)
    if lengths is not None and mask is not None:
        raise ValueError("got lengths and mask; pass one: lengths is the mask t < lengths")
    check_lengths(lengths, xs, length)
    for name, flags in (("mask", mask), ("resets", resets)):
        check_flags(name, flags, xs, length)


def check_way(xs: Any, reverse: Any, method: Any) -> None:
    """The direction and the method, and whether that method can run arrays that lie as these do."""
    if not isinstance(reverse, bool | np.bool_):
        raise TypeError(f"reverse must be True or False, got {reverse!r}")
    if method is not None and not hasattr(method, "refusal"):
        raise TypeError(
            "method must be one that jaxrnn.methods makes, such as methods.scan(), or None; got"
            f" {method!r}"
        )
    for path, leaf in jax.tree_util.tree_leaves_with_path(xs):
        for axis in meshes.axes_of(leaf, 0):
            if method is None or axis != method.axis:
                raise ValueError(
                    f"xs{jax.tree_util.keystr(path)} is split over the mesh axis {axis!r} in time, which"
                    f" a loop goes through step by step: give method=methods.associative(mesh=mesh,"
                    f" axis={axis!r}), or an xs with whole time (jax.sharding.reshard)"
                )


def as_flags(name: str, flags: Any) -> Any:
    """Lengths, a mask or resets as an array; they may be written as lists."""
    if not isinstance(flags, list | tuple):
        return flags
    if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(flags)):
        return jnp.asarray(flags)
    try:
        array = np.asarray(flags)
    except ValueError:
        raise ValueError(
            f"{name} is a list whose rows differ in length; give an array, or rows of one length"
        ) from None
    # NumPy makes floats of an empty list.
    return array if array.size else array.astype(int if name == "lengths" else bool)


def as_carry(layer: Any, params: Any, xs: Any, carry: Any) -> Any:
    """The carry, of whose leaves some may be written as lists or numbers."""
    if not any(isinstance(leaf, bool | int | float | complex) for leaf in jax.tree.leaves(carry)):
        return carry
    first = jax.eval_shape(layer.carry, params, one_step(xs))

    def leaf(want: Any, given: Any) -> Any:
        if not isinstance(given, bool | int | float | complex | list | tuple):
            return given
        return np.asarray(given).astype(want.dtype)

    try:
        return jax.tree.map(leaf, first, carry)
    except (TypeError, ValueError):
        return carry  # whose structure will be found to be another


def check_carry(
    layer: Any, params: Any, xs: Any, carry: Any, lengths: Any, mask: Any, resets: Any
) -> None:
    """The carry must be one of this layer, and have rows where rows are held or reset one by one."""
    flags = [v if v is lengths else v[0] for v in (lengths, mask, resets) if v is not None]
    if carry is None and not flags:
        return
    first = jax.eval_shape(layer.carry, params, one_step(xs))
    if carry is not None:
        check_same(
            f"carry of {layer}",
            "carry",
            carry,
            f"{layer}.carry(params, x)",
            first,
            "pass a carry that run() returned, or leave it out",
        )
    for rows in flags:
        check_rows(first, np.shape(rows))


def one_step(xs: Any) -> Any:
    """The types of x."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(jnp.shape(a)[1:], jnp.result_type(a)), xs)


def check_xs(xs: Any) -> int:
    """Returns T."""
    leaves = jax.tree_util.tree_leaves_with_path(xs)
    if not leaves:
        raise ValueError("xs holds no array; pass arrays of shape [T, *batch, ...]")
    lengths = {}
    for path, leaf in leaves:
        name = "xs" + jax.tree_util.keystr(path)
        if not hasattr(leaf, "dtype") or getattr(leaf.dtype, "kind", "V") in "OUS":
            raise TypeError(
                f"{name} must be an array of numbers, got {_described(leaf)};"
                " convert it with jnp.asarray, or stack a list of steps with jnp.stack"
            )
        if leaf.ndim == 0:
            raise ValueError(f"{name} has no time axis: got a scalar, need [T, *batch, ...]")
        lengths[name] = leaf.shape[0]
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the leaves of xs differ in T, the leading axis: {lengths}")
    return next(iter(lengths.values()))


def check_key(key: Any) -> None:
    if key is None:
        return
    if not hasattr(key, "dtype") or not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        legacy = getattr(key, "dtype", None) == np.uint32
        remedy = "wrap it with jax.random.wrap_key_data" if legacy else "make one with"
        remedy += "" if legacy else " jax.random.key(seed)"
        raise TypeError(f"key must be a typed JAX key, got {_described(key)}; {remedy}")
    if key.shape != ():
        raise ValueError(
            f"key must be a single key, got {key.shape}; run() derives one for each time step itself"
        )


def check_lengths(lengths: Any, xs: Any, length: int) -> None:
    if lengths is None:
        return
    dtype = jnp.result_type(lengths)
    if not jnp.issubdtype(dtype, jnp.integer):
        raise TypeError(f"lengths must be integers, got {dtype}")
    _check_batch("lengths", np.shape(lengths), xs)
    if isinstance(lengths, core.Tracer | jax.ShapeDtypeStruct):
        return
    values = np.asarray(lengths)
    if values.size and (values.min() < 0 or values.max() > length):
        wrong = values[(values < 0) | (values > length)].tolist()
        raise ValueError(f"lengths must lie in 0..T={length}, got {wrong[:8]}")


def check_flags(name: str, flags: Any, xs: Any, length: int) -> None:
    if flags is None:
        return
    dtype = jnp.result_type(flags)
    if dtype != jnp.bool_:
        raise TypeError(f"{name} must be bool, got {dtype}; compare it with something, e.g. != 0")
    shape = np.shape(flags)
    if not shape or shape[0] != length:
        raise ValueError(f"{name} must be [T, *batch] with T={length}, got {list(shape)}")
    _check_batch(name, shape[1:], xs)


def _check_batch(name: str, batch: tuple[int, ...], xs: Any) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(xs):
        if leaf.shape[1 : 1 + len(batch)] != batch:
            at = "xs" + jax.tree_util.keystr(path)
            raise ValueError(
                f"{name} has batch axes {list(batch)}, but {at} is {list(leaf.shape)}:"
                f" [T, *batch, ...], with {list(leaf.shape[1 : 1 + len(batch)])} in their place"
            )


def check_rows(carry: Any, batch: tuple[int, ...]) -> None:
    """A carry leaf that all rows share cannot be held for one and not for another."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(carry):
        if leaf.shape[: len(batch)] != batch:
            at = "carry" + jax.tree_util.keystr(path)
            raise ValueError(
                f"{at} is {list(leaf.shape)} and has not the batch axes {list(batch)}, so rows cannot"
                " be held or reset one by one; give it those axes, or vmap run() over the batch"
            )


def check_step(layer: Any, params: Any, xs: Any, key: Any) -> None:
    """The step must take what init and carry make, and give back a carry of the same type."""
    if layer.step is None:
        return
    x, noise = one_step(xs), () if key is None else (key,)
    carry = jax.eval_shape(layer.carry, params, x)

    def step(params: Any, carry: Any, x: Any, *noise: Any) -> Any:
        if noise and getattr(layer, "noise", None) is not None:
            params = layer.noise(params, x, *noise)
        return layer.step(params, carry, x, *noise)

    try:
        after, _ = jax.eval_shape(step, params, carry, x, *noise)
    except WrongInput:
        raise
    except Exception as error:
        raise type_of(error)(
            f"{layer}.step fails on these params, carry and x: {error}\n"
            f"params must be made by {layer}.init(key, x) for an x of {_described(x)}"
        ) from error
    check_same(
        f"carry that {layer}.step returns",
        "carry",
        after,
        "the carry it is given",
        carry,
        "the step must return the type it takes: cast it there (astype), or start from it",
    )


def plain(number: Any) -> Any:
    """An integer of NumPy as one of Python, anything else as it is."""
    return int(number) if isinstance(number, np.integer) else number


class WrongInput(ValueError):
    """An x, or parameters made for another one, said so clearly that nothing need be added."""


def check_input(name: str, x: Any) -> None:
    """Refuses what a weight cannot be multiplied by."""
    if not hasattr(x, "dtype") or not jnp.issubdtype(x.dtype, jnp.floating):
        came = x.dtype if hasattr(x, "dtype") else type(x).__name__
        if isinstance(x, list | tuple) and x:
            raise TypeError(
                f"{name} takes one array x at a time, got a {came} of {len(x)}; if xs is a {came} of"
                " time steps, stack them: jnp.stack(xs)"
            )
        raise TypeError(
            f"{name} multiplies x by a weight and needs floating-point x, got {came};"
            " cast it (astype), or embed tokens first"
        )
    if x.ndim == 0:
        raise ValueError(
            f"{name} needs x of shape [*batch, D], got a scalar; is the time axis missing?"
        )


def type_of(error: Exception) -> Callable[[str], Exception]:
    return TypeError if isinstance(error, TypeError | AttributeError) else ValueError


def check_same(what: str, root: str, got: Any, wanted_what: str, wanted: Any, remedy: str) -> None:
    """Compares two pytrees of arrays; names the first leaf that differs."""
    if jax.tree.structure(got) != jax.tree.structure(wanted):
        raise TypeError(
            f"the {what} has the structure {jax.tree.structure(got)}, {wanted_what} has"
            f" {jax.tree.structure(wanted)}; {remedy}"
        )
    ours = jax.tree_util.tree_leaves_with_path(got)
    for (path, leaf), want in zip(ours, jax.tree.leaves(wanted), strict=True):
        name = root + jax.tree_util.keystr(path)
        if np.shape(leaf) != np.shape(want):
            raise ValueError(
                f"the {what} differs at {name}: shape {list(np.shape(leaf))}, {wanted_what} has"
                f" {list(np.shape(want))}; {remedy}"
            )
        if jnp.result_type(leaf) != jnp.result_type(want):
            raise TypeError(
                f"the {what} differs at {name}: {jnp.result_type(leaf)}, {wanted_what} has"
                f" {jnp.result_type(want)}; {remedy}"
            )


def _described(value: Any) -> str:
    leaves = jax.tree.leaves(value)
    if len(leaves) == 1 and hasattr(leaves[0], "dtype"):
        return f"{leaves[0].dtype}{list(leaves[0].shape)}"
    return type(value).__name__
