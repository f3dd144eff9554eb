"""JANET against NumPy in float64, and its chrono initialisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn.cells.janet import janet
from tests.cells.reference import dtypes, near, ran, sigmoid


@pytest.mark.parametrize("beta", [1.0, 0.0])
def test_janet(beta):
    p, xs, carry, ys = ran(janet(5, beta=beta))
    h = np.zeros((3, 5))
    for x, y in zip(xs, ys, strict=True):
        s, n = np.split(x @ p.input + h @ p.recurrent + p.bias, 2, axis=-1)
        h = sigmoid(s) * h + (1 - sigmoid(s - beta)) * np.tanh(n)
        near(y, h)
    near(carry, h)


def test_chrono_biases_are_the_logarithms_of_times_up_to_the_longest():
    bias = (
        janet(2000, chrono=784, recurrent_init=jax.nn.initializers.zeros)
        .init(jax.random.key(0), jnp.ones(3))
        .bias
    )
    times = np.exp(bias[:2000])
    assert times.min() >= 1
    assert times.max() <= 783.01
    np.testing.assert_allclose(times.mean(), (1 + 783) / 2, rtol=0.05)
    np.testing.assert_array_equal(bias[2000:], 0)


def test_without_it_the_forget_bias_is_1():
    bias = janet(2).init(jax.random.key(0), jnp.ones(3)).bias
    np.testing.assert_array_equal(bias, [1, 1, 0, 0])


def test_chrono_may_be_traced():
    def bias(longest):
        return janet(4, chrono=longest).init(jax.random.key(0), jnp.ones(3)).bias[:4]

    mapped = jax.vmap(bias)(jnp.array([10.0, 500.0]))
    np.testing.assert_allclose(mapped, [bias(10.0), bias(500.0)], rtol=1e-6)


@pytest.mark.parametrize("longest", [2, 0.5, "long"])
def test_a_longest_time_of_two_steps_is_refused(longest):
    with pytest.raises(ValueError, match=r"janet\(\) needs chrono > 2 time steps, or None, got"):
        janet(4, chrono=longest)


def test_traced_constants_leave_the_dtype():
    assert dtypes(lambda v: janet(4, beta=v, chrono=v), 9.0) == {"bfloat16"}
