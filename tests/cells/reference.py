"""What tests of cells share: a run in float64 as NumPy arrays, what the engine finds, dtypes."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from jaxrnn.engine.structure import Kind
from jaxrnn.testing.case import case_of


def ran(cell, features=4, length=6, batch=(3,)):
    """Parameters near those of `init`, random xs [T, *batch, D], the last carry and ys."""
    with jax.enable_x64(True):
        case = case_of(cell, jnp.zeros((*batch, features)), length)
        carry, ys = jax.jit(lambda p, xs: jaxrnn.run(cell, p, xs))(case.params, case.xs)
    return jax.tree.map(np.asarray, (case.params, case.xs, carry, ys))


def near(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


def structure(cell, features=4) -> Kind:
    xs = jax.ShapeDtypeStruct((4, 2, features), jnp.float32)
    params = jax.eval_shape(
        cell.init, jax.random.key(0), jax.ShapeDtypeStruct(xs.shape[1:], xs.dtype)
    )
    return jaxrnn.explain(cell, params, xs).plan.structure.kind


def dtypes(make, value):
    """Those of all that a step in bfloat16 returns, a constant of the cell being traced as float32."""

    def step(constant, x):
        cell = make(constant)
        params = cell.init(jax.random.key(0), x)
        return cell.step(params, cell.carry(params, x), x)

    out = jax.eval_shape(step, jnp.float32(value), jnp.ones((2, 3), jnp.bfloat16))
    return {leaf.dtype.name for leaf in jax.tree.leaves(out)}


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def normalise(a):
    return (a - a.mean(-1, keepdims=True)) / np.sqrt(a.var(-1, keepdims=True) + 1e-5)
