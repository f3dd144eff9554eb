"""Antisymmetric networks against NumPy in float64, and what antisymmetry promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn.cells.antisymmetric import antisymmetric_rnn, damped, gated_antisymmetric_rnn
from tests.cells.reference import dtypes, near, ran, sigmoid


def matrix(recurrent, gamma):
    return recurrent - recurrent.T - gamma * np.eye(len(recurrent))


def test_antisymmetric_rnn():
    p, xs, carry, ys = ran(antisymmetric_rnn(5, step_size=0.2, gamma=0.3))
    h = np.zeros((3, 5))
    for x, y in zip(xs, ys, strict=True):
        h = h + 0.2 * np.tanh(h @ matrix(p.recurrent, 0.3) + x @ p.input + p.bias)
        near(y, h)
    near(carry, h)


def test_gated_antisymmetric_rnn():
    p, xs, carry, ys = ran(gated_antisymmetric_rnn(5, step_size=0.2, gamma=0.3))
    h = np.zeros((3, 5))
    for x, y in zip(xs, ys, strict=True):
        u, v = h @ matrix(p.recurrent, 0.3), x @ p.input + p.bias
        h = h + 0.2 * sigmoid(u + v[:, :5]) * np.tanh(u + v[:, 5:])
        near(y, h)
    near(carry, h)


def test_eigenvalues_lie_on_a_line_left_of_the_imaginary_axis():
    recurrent = antisymmetric_rnn(16).init(jax.random.key(0), jnp.ones(3)).recurrent
    values = np.linalg.eigvals(np.asarray(damped(recurrent, 0.25)))
    np.testing.assert_allclose(values.real, -0.25, atol=1e-5)
    assert np.abs(values.imag).max() > 1


def test_recurrent_weights_are_normal_with_variance_one_over_h():
    recurrent = antisymmetric_rnn(200).init(jax.random.key(0), jnp.ones(3)).recurrent
    np.testing.assert_allclose(recurrent.var(), 1 / 200, rtol=0.03)


@pytest.mark.parametrize("make", [antisymmetric_rnn, gated_antisymmetric_rnn])
@pytest.mark.parametrize("argument", ["step_size", "gamma"])
def test_constants_are_positive(make, argument):
    with pytest.raises(ValueError, match=rf"{make.__name__}\(\) needs {argument} > 0, got -1"):
        make(4, **{argument: -1.0})


@pytest.mark.parametrize("make", [antisymmetric_rnn, gated_antisymmetric_rnn])
def test_traced_constants_leave_the_dtype(make):
    assert dtypes(lambda v: make(4, step_size=v, gamma=v), 0.5) == {"bfloat16"}
