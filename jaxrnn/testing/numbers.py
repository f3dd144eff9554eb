"""Laws of numbers: dtypes, empty shapes, and structure that is proven."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import methods
from jaxrnn.core import problem_of
from jaxrnn.engine.jaxprs import is_float
from jaxrnn.engine.structure import Kind, find
from jaxrnn.testing.case import Case, floats, quick_jit, same
from jaxrnn.testing.time import at


def initialising(case: Case) -> None:
    """The same key makes the same parameters, finite ones, and x may be a shape alone."""
    x = at(case.xs, 0)
    shape = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), x)
    params = case.cell.init(case.key, x)
    same(case.cell.init(case.key, shape), params, 0.0, "init from an array and from its shape")
    for leaf in floats(params):
        assert bool(jnp.isfinite(leaf).all()), "init makes parameters that are not finite"


def closing(case: Case) -> None:
    """The carry's type stays what it is, whatever the precision of params and x."""

    def before_and_after(params: Any, x: Any) -> Any:
        carry = case.cell.carry(params, x)
        return carry, case.cell.step(params, carry, x)[0]

    for params_dtype in (jnp.float64, jnp.float32, jnp.bfloat16):
        for x_dtype in (jnp.float64, jnp.float32, jnp.bfloat16):
            params = cast(case.params, params_dtype)
            x = cast(at(case.xs, 0), x_dtype)
            carry, after = jax.eval_shape(before_and_after, params, x)
            what = f"the carry with {params_dtype.__name__} params and {x_dtype.__name__} x"
            got, want = (jax.tree.map(_type, tree) for tree in (after, carry))
            assert got == want, f"{what} goes in as {want} and comes out as {got}"


def narrowing(case: Case) -> None:
    """bfloat16 in parameters or x, or both, gives the numbers of float32 but for its rounding."""
    wide = {"params": case.params, "xs": case.xs}
    options = {} if case.brief else {"reverse": True}

    def outputs(params: Any, xs: Any, method: Any) -> Any:
        return case.run(params, xs, method=method, **options)

    want = floats(quick_jit(partial(outputs, method=methods.lax()))(**wide))
    narrow = jnp.bfloat16
    several = {"parameters": (narrow, jnp.float32), "x": (jnp.float32, narrow)}
    several |= {} if case.brief else {"parameters and x": (narrow, narrow)}
    for what, (of_params, of_xs) in several.items():
        given = {"params": cast(case.params, of_params), "xs": cast(case.xs, of_xs)}
        for method in (None,) if case.brief else (None, methods.scan(chunk=3)):
            got = floats(quick_jit(partial(outputs, method=method))(**given))
            for i, (a, b) in enumerate(zip(got, want, strict=True)):
                a, b = (np.asarray(v).astype(np.complex128) for v in (a, b))
                assert np.isfinite(a).all(), f"with bfloat16 {what} output {i} is not finite"
                error = np.linalg.norm(a - b) / (np.linalg.norm(b) + 1e-2 * b.size**0.5)
                assert error <= 0.2, (
                    f"with bfloat16 {what} output {i} is off by {error:.1e} (relative)"
                )


def cast(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(
        lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree
    )


def _type(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"


def emptiness(case: Case) -> None:
    """No time step gives the carry back; no row gives no row; one of each is no exception."""
    carry, ys = case.run(xs=at(case.xs, slice(0, 0)), carry=case.carry)
    same(carry, case.carry, 0.0, "the carry after no step")
    assert all(y.shape[0] == 0 for y in jax.tree.leaves(ys)), "no step gave outputs"
    nobody = (slice(None), slice(0, 0))
    carry, ys = case.run(xs=at(case.xs, nobody))
    assert all(leaf.shape[0] == 0 for leaf in jax.tree.leaves(carry)), "no row gave a carry"
    if case.cell.step is None:
        return
    carry, ys = case.run(xs=at(case.xs, slice(0, 1)), carry=case.carry)
    state, y = case.cell.step(case.params, case.carry, at(case.xs, 0))
    same((carry, at(ys, 0)), (state, y), case.tolerance, "one step")


def structure(case: Case) -> None:
    """The structure the engine finds is there: superposition holds, the Jacobian is diagonal."""
    problem = problem_of(case.cell, case.params, case.xs, case.carry, None, None, None, False)
    loop = problem.traced.loop
    assert loop is not None, "JAX made no loop"
    parts = loop.parts
    found = find(parts)
    if found.kind > Kind.ELEMENTWISE or not parts.carry or not all(map(is_float, parts.carry)):
        return
    x = at(case.xs, 0)

    def step(carry: Any) -> Any:
        return case.cell.step(case.params, carry, x)[0]

    @jax.jit
    def superposed() -> Any:
        other = jax.tree.map(lambda a: 1.5 - a, case.carry)
        both = jax.tree.map(lambda a, b: 0.25 * a + 0.75 * b, case.carry, other)
        mixed = jax.tree.map(lambda a, b: 0.25 * a + 0.75 * b, step(case.carry), step(other))
        return step(both), mixed

    @jax.jit
    def jacobian() -> list[jax.Array]:
        """Of each leaf after the step in each one before it."""
        leaves, tree = jax.tree.flatten(case.carry)
        _, push = jax.linearize(lambda *v: jax.tree.leaves(step(tree.unflatten(v))), *leaves)
        still = [jnp.zeros_like(v) for v in leaves]
        blocks = []
        for i, leaf in enumerate(leaves):
            units = jnp.eye(leaf.size, dtype=leaf.dtype).reshape(leaf.size, *leaf.shape)
            moved = jax.vmap(lambda e, i=i: push(*still[:i], e, *still[i + 1 :]))(units)
            blocks += [new.reshape(leaf.size, -1) for new in moved]
        return blocks

    if found.kind <= Kind.AFFINE:
        at_once, apart = superposed()
        same(at_once, apart, case.tolerance, f"superposition ({found.kind})")
    for block in map(np.asarray, jacobian()):
        alike = block.shape[0] == block.shape[1]
        off = block - np.diag(np.diag(block)) if alike else block
        assert not off.any(), f"found {found.kind}, but its Jacobian is not diagonal"


NUMBERS: dict[str, Callable[[Case], None]] = {
    "init is a function of key and shape": initialising,
    "the carry keeps its type": closing,
    "narrow numbers are taken": narrowing,
    "nothing and one are sizes too": emptiness,
    "structure found is there": structure,
}
