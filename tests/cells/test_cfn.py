"""Chaos-free network against NumPy in float64, and that it has no chaos."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import run
from jaxrnn.cells.cfn import cfn
from tests.cells.reference import dtypes, near, ran, sigmoid


def test_cfn():
    p, xs, carry, ys = ran(cfn(5))
    h = np.zeros((3, 5))
    for x, y in zip(xs, ys, strict=True):
        u = x @ p.input
        theta, eta = np.split(sigmoid(u[:, :10] + h @ p.recurrent + p.bias), 2, axis=-1)
        h = theta * np.tanh(h) + eta * np.tanh(u[:, 10:])
        near(y, h)
    near(carry, h)


def test_without_inputs_every_unit_falls_to_0():
    """The paper's theorem: whatever the weights, |h| shrinks at each step, and no chaos is left."""
    cell, xs = cfn(8), jnp.zeros((40, 2, 3))
    params = cell.init(jax.random.key(0), xs[0])
    params = params._replace(recurrent=20 * params.recurrent)
    start = 3 * jax.random.normal(jax.random.key(1), (2, 8))
    _, ys = run(cell, params, xs, start)
    sizes = jnp.abs(jnp.concatenate([start[None], ys]))
    assert (jnp.diff(sizes, axis=0) <= 0).all()
    assert (sizes[-1] < 0.3).all()


def test_biases():
    params = cfn(2).init(jax.random.key(0), jnp.ones(3))
    np.testing.assert_array_equal(params.bias, [1, 1, -1, -1])
    params = cfn(2, forget_bias=2.0, input_bias=0.5).init(jax.random.key(0), jnp.ones(3))
    np.testing.assert_array_equal(params.bias, [2, 2, 0.5, 0.5])


def test_traced_biases_leave_the_dtype():
    assert dtypes(lambda v: cfn(4, forget_bias=v, input_bias=v), 1.0) == {"bfloat16"}
