"""What a law is tried on: a cell with random parameters and inputs, and ways to compare."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import methods
from jaxrnn.core import Cell, Layer, run
from jaxrnn.methods.base import Method

# Not Newton's, which is exact to a tolerance only.
METHODS = (
    methods.scan(),
    methods.scan(chunk=3),
    methods.scan(chunk=3, remat=True),
    methods.associative(chunk=3, block=1),
    methods.scan(hoist=False, feature_major=True),
    methods.associative(),
    methods.scan(defer=False, unroll=2),
)
# Whose second derivatives are compared too: they take as long to compile as all else.
CURVED = {"plain": METHODS[:1], "all at once": METHODS[2:4]}
# A cell's own form for all steps at once, whole and in chunks that T is no multiple of.
OWN_FORM = (methods.associative(), methods.associative(chunk=3))


class Case(NamedTuple):
    cell: Any  # a Cell or a Layer
    params: Any
    xs: Any
    carry: Any
    key: Any
    tolerance: float
    brief: bool = False  # whether laws are asked of the fewest programs that tell

    @property
    def length(self) -> int:
        return jax.tree.leaves(self.xs)[0].shape[0]

    def serves(self, method: Method | None) -> bool:
        """Whether a method does not refuse the cell."""
        try:
            jax.eval_shape(lambda params: self.run(params, method=method), self.params)
        except NotImplementedError:
            return False
        return True

    @property
    def rows(self) -> int:
        """The size of the first batch axis."""
        return jax.tree.leaves(self.xs)[0].shape[1]

    def run(self, params: Any = None, xs: Any = None, **options: Any) -> tuple[Any, Any]:
        params = self.params if params is None else params
        return run(self.cell, params, self.xs if xs is None else xs, **options)


def case_of(
    cell: Cell | Layer,
    x: Any,
    length: int = 7,
    tolerance: float | None = None,
    brief: bool = False,
) -> Case:
    """Random parameters near those of `init`, random inputs and a random carry."""
    key = jax.random.key(0)

    def drawn(seed: int, leaf: Any) -> Any:
        if not is_float(leaf):
            return jnp.zeros((length, *leaf.shape), leaf.dtype)
        dtype = jnp.promote_types(leaf.dtype, jnp.float64)
        return jnp.asarray(normal(seed, (length, *leaf.shape), dtype))

    leaves, tree = jax.tree.flatten(x)
    xs = tree.unflatten([drawn(i, leaf) for i, leaf in enumerate(leaves)])
    first = jax.tree.map(lambda a: a[0], xs)
    params = nudge(quick_jit(cell.init)(key, first), 98)
    carry = quick_jit(cell.carry)(params, first)
    return Case(
        cell=cell,
        params=params,
        xs=xs,
        carry=nudge(carry, 99),
        key=jax.random.key(1),
        tolerance=1e-10 if tolerance is None else tolerance,
        brief=brief,
    )


def quick_jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.jit` for a program that runs once: compiled without optimisations, where XLA lets us."""
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    return jax.jit(function, compiler_options=options if jax.default_backend() == "cpu" else None)


def normal(seed: int | Sequence[int], shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Random numbers from NumPy, which has nothing to compile for a new shape."""
    draw = np.random.default_rng(seed).standard_normal
    values = draw(shape)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        values = values + 1j * draw(shape)
    return values.astype(dtype)


def nudge(tree: Any, seed: int) -> Any:
    """A little off, so that no zero of an initialiser hides anything."""
    leaves, structure = jax.tree.flatten(tree)
    moved = [
        jnp.asarray(np.asarray(v) + 0.2 * normal((seed, i), v.shape, v.dtype), v.dtype)
        if is_float(v)
        else v
        for i, v in enumerate(leaves)
    ]
    return structure.unflatten(moved)


def variations(case: Case) -> dict[str, dict[str, Any]]:
    """Every argument of `run` in some of few ways to ask: each is compiled for itself."""
    key = jax.random.key(2)
    batch = (case.rows,)
    flags = jax.random.bernoulli(key, 0.6, (case.length, *batch))
    lengths = (jnp.arange(case.rows) * 3 + case.length) % (case.length + 1)
    everything = {"mask": flags, "resets": ~flags[::-1], "reverse": True, "carry": case.carry}
    return {
        "plain": {},
        "reverse from a carry": {"reverse": True, "carry": case.carry},
        "lengths": {"lengths": lengths},
        "mask and resets": {"mask": flags, "resets": ~flags},
        "all at once": everything,
    }


def is_float(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def floats(tree: Any) -> list[Any]:
    return [v for v in jax.tree.leaves(tree) if is_float(v)]


def loss_of(outputs: Any) -> jax.Array:
    """A scalar in which every output element has a weight and a curvature of its own."""
    total = jnp.zeros(())
    for i, v in enumerate(floats(outputs)):
        v = v.astype(jnp.promote_types(v.dtype, jnp.float32))
        weights = np.cos(np.arange(v.size) + i).reshape(v.shape)
        value = weights * jnp.sin(v)
        total = total + jnp.real(value.sum()) + jnp.imag(value.sum())
    return total


def differentiable(function: Callable[..., Any], *trees: Any) -> tuple[Callable[..., Any], Any]:
    """`function` of the floating-point leaves of `trees` only, and these leaves."""
    leaves, structure = jax.tree.flatten(trees)
    where = [i for i, v in enumerate(leaves) if is_float(v)]

    def of_floats(values: list[Any]) -> Any:
        filled = list(leaves)
        for i, v in zip(where, values, strict=True):
            filled[i] = v
        return function(*structure.unflatten(filled))

    return of_floats, [leaves[i] for i in where]


def derivatives(
    case: Case, method: Method | None, options: dict[str, Any], *, curvature: bool = True
) -> dict[str, Any]:
    """Outputs; gradients in params, xs and carry; with `curvature` a JVP, a Hessian-vector product."""
    options = dict(options)
    carry = options.pop("carry", None)

    def outputs(params: Any, xs: Any, carry: Any) -> Any:
        return floats(run(case.cell, params, xs, carry, method=method, **options))

    of_floats, values = differentiable(outputs, case.params, case.xs, carry)
    direction = [
        jnp.asarray(np.cos(3.0 * np.arange(v.size)).reshape(v.shape), v.dtype) for v in values
    ]

    @quick_jit
    def everything(values: list[Any]) -> dict[str, Any]:
        gradient = jax.grad(lambda v: loss_of(of_floats(v)))
        if not curvature:
            return {"outputs": of_floats(values), "gradients": gradient(values)}
        out, push = jax.jvp(of_floats, (values,), (direction,))
        grads, curved = jax.jvp(gradient, (values,), (direction,))
        return {"outputs": out, "jvp": push, "gradients": grads, "hvp": curved}

    return everything(values)


def same(got: Any, want: Any, tolerance: float, what: str) -> None:
    """Asserts that two pytrees agree, leaf by leaf, relative to the size of the leaf."""
    assert jax.tree.structure(got) == jax.tree.structure(want), (
        f"{what}: structures differ, {jax.tree.structure(got)} and {jax.tree.structure(want)}"
    )
    for i, (a, b) in enumerate(zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True)):
        if jnp.issubdtype(jnp.asarray(a).dtype, jax.dtypes.extended):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        a, b = np.asarray(a), np.asarray(b)
        assert a.shape == b.shape, f"{what}: leaf {i} has shape {a.shape}, not {b.shape}"
        assert a.dtype == b.dtype, f"{what}: leaf {i} is {a.dtype}, not {b.dtype}"
        if a.dtype.kind in "biu":
            assert (a == b).all(), f"{what}: leaf {i} differs"
            continue
        assert np.isfinite(a).all(), f"{what}: leaf {i} is not finite"
        error = np.linalg.norm((a - b).astype(np.complex128)) / max(
            np.linalg.norm(b.astype(np.complex128)), 1e-30 + a.size**0.5 * 1e-3
        )
        assert error <= tolerance, f"{what}: leaf {i} is off by {error:.1e} (relative)"
