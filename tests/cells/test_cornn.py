"""Coupled oscillators against NumPy in float64, and against the oscillator they discretise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import run
from jaxrnn.cells.cornn import cornn
from tests.cells.reference import dtypes, near, ran


def test_cornn():
    gamma = np.array([0.5, 1.0, 2.0, 3.0, 4.0])
    p, xs, carry, ys = ran(cornn(5, step_size=0.3, gamma=gamma, epsilon=0.7))
    y = z = np.zeros((3, 5))
    for x, out in zip(xs, ys, strict=True):
        force = np.tanh(y @ p.recurrent + z @ p.velocity + x @ p.input + p.bias)
        z = z + 0.3 * force - 0.3 * gamma * y - 0.3 * 0.7 * z
        y = y + 0.3 * z
        near(out, y)
    near(carry.y, y)
    near(carry.z, z)


def test_alone_it_is_a_damped_oscillator():
    """y″ = −γ y − ε y′ from y = 1, y′ = 0, solved by hand; Euler's error is of the size of a step."""
    cell = cornn(1, step_size=0.001, gamma=4.0, epsilon=0.4)
    xs = jnp.zeros((3000, 1))
    params = jax.tree.map(jnp.zeros_like, cell.init(jax.random.key(0), xs[0]))
    first = cell.carry(params, xs[0])._replace(y=jnp.ones(1))
    _, ys = run(cell, params, xs, first)
    t, w = 0.001 * np.arange(1, 3001), np.sqrt(4 - 0.2**2)
    want = np.exp(-0.2 * t) * (np.cos(w * t) + 0.2 / w * np.sin(w * t))
    np.testing.assert_allclose(ys[:, 0], want, atol=3e-3)


@pytest.mark.parametrize("argument", ["step_size", "gamma", "epsilon"])
def test_constants_are_positive(argument):
    with pytest.raises(ValueError, match=rf"cornn\(\) needs {argument} > 0, got 0"):
        cornn(4, **{argument: 0.0})


def test_traced_constants_leave_the_dtype():
    assert dtypes(lambda v: cornn(4, step_size=v, gamma=v, epsilon=v), 0.5) == {"bfloat16"}
