"""Continuous-time network against NumPy in float64, and its time constants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import run
from jaxrnn.cells.ctrnn import ctrnn
from tests.cells.reference import dtypes, near, ran, sigmoid


def test_ctrnn():
    p, xs, carry, ys = ran(ctrnn(5))
    tau = 1 + np.exp(p.timescale)
    u = np.zeros((3, 5))
    for x, y in zip(xs, ys, strict=True):
        u = u + (-u + x @ p.input + sigmoid(u + p.bias) @ p.recurrent) / tau
        near(y, sigmoid(u + p.bias))
    near(carry, u)


def test_time_constants_are_drawn_between_the_two():
    cell = ctrnn(2000, tau_min=3.0, tau_max=30.0, recurrent_init=jax.nn.initializers.zeros)
    params = cell.init(jax.random.key(0), jnp.ones(3))
    tau = 1 + np.exp(params.timescale)
    assert tau.min() >= 3 * (1 - 1e-5)
    assert tau.max() <= 30 * (1 + 1e-5)
    np.testing.assert_allclose(np.log(tau).mean(), np.log(90) / 2, rtol=0.02)


def test_a_potential_leaks_with_its_time_constant():
    """Alone, from u = 1, after τ steps it is near 1/e."""
    cell, xs = ctrnn(1, activation=lambda u: u), jnp.zeros((50, 1))
    params = jax.tree.map(jnp.zeros_like, cell.init(jax.random.key(0), xs[0]))
    params = params._replace(timescale=jnp.log(jnp.array([49.0])))  # τ = 50
    carry, _ = run(cell, params, xs, jnp.ones(1))
    np.testing.assert_allclose(carry, (1 - 1 / 50) ** 50, rtol=1e-5)


@pytest.mark.parametrize(("low", "high"), [(1.0, 5.0), (0.5, 5.0), (6.0, 4.0)])
def test_time_constants_in_the_wrong_order_are_refused(low, high):
    with pytest.raises(ValueError, match=r"ctrnn\(\) needs 1 < tau_min <= tau_max, got"):
        ctrnn(4, tau_min=low, tau_max=high)


def test_traced_time_constants_leave_the_dtype():
    assert dtypes(lambda v: ctrnn(4, tau_min=v, tau_max=2 * v), 3.0) == {"bfloat16"}
