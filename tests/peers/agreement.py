"""Compares two programs: what they return and how that depends on what they are given."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
FLOOR = 1e-3  # below this size of its largest entry an array is compared absolutely


class Draws:
    """Draws arrays one after the other: `draw(3, 4)` is a normal [3, 4] of one dtype."""

    def __init__(self, dtype: str, seed: int = 0):
        self.dtype = dtype
        self.rng = np.random.default_rng(seed)

    def __call__(self, *shape: int, dtype: Any = None) -> jax.Array:
        dtype = jnp.dtype(dtype or self.dtype)
        values = 0.5 * self.rng.normal(size=shape)
        if jnp.issubdtype(dtype, jnp.complexfloating):
            values = values + 0.5j * self.rng.normal(size=shape)
        return jnp.asarray(values, dtype)

    def like(self, tree: Any, *leading: int) -> Any:
        """A tree of the same shapes and dtypes, with more axes in front if asked for."""
        return jax.tree.map(
            lambda leaf: self(*leading, *jnp.shape(leaf), dtype=jnp.result_type(leaf)), tree
        )


def quickly(function: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.jit` that does not spend its time on optimising what runs once."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def is_float(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def named(tree: Any, keep: Callable[[Any], bool]) -> dict[str, Any]:
    """The leaves that `keep` keeps, by their paths."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves if keep(leaf)}


def of_floats(function: Callable[..., Any], *args: Any) -> tuple[Callable[..., Any], Any]:
    """`function` of its floating-point leaves, the others closed over; and these leaves.

    What it returns is (floating-point leaves, other leaves), each by their paths.
    """

    def restricted(floats: dict[str, Any]) -> tuple[Any, Any]:
        def put(path: Any, leaf: Any) -> Any:
            return floats.get(jax.tree_util.keystr(path), leaf)

        out = function(*jax.tree_util.tree_map_with_path(put, args))
        return named(out, is_float), named(out, lambda leaf: not is_float(leaf))

    return restricted, named(args, is_float)


def assert_close(got: Any, want: Any, tolerance: float) -> None:
    """Relative error of each leaf, in its largest entry; no error where there is no fraction."""
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want), strict=True
    ):
        name = jax.tree_util.keystr(path)
        assert (jnp.shape(a), jnp.result_type(a)) == (jnp.shape(b), jnp.result_type(b)), name
        if is_float(b):
            error = relative_error(a, b)
            assert error <= tolerance, f"{name} differs by {error:.1e}"
        else:
            np.testing.assert_array_equal(plain(a), plain(b), err_msg=name)


def relative_error(got: Any, want: Any) -> float:
    got, want = np.asarray(got), np.asarray(want)
    assert np.isfinite(want).all()
    if want.size == 0:
        return 0.0
    error = np.abs(got - want).max() / max(np.abs(want).max(), FLOOR)
    return float(np.nan_to_num(error, nan=np.inf))


def plain(leaf: Any) -> np.ndarray:
    """As NumPy has it; a PRNG key as its data."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)
