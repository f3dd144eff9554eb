"""Simple recurrent units against NumPy in float64, of a size that changes and one that does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn.cells.sru import sru, sru_v1
from jaxrnn.engine.structure import Kind
from tests.cells.reference import dtypes, near, ran, sigmoid, structure


@pytest.mark.parametrize("features", [4, 5])
def test_sru(features):
    p, xs, carry, ys = ran(sru(features, highway_bias=-1.0))
    assert p.input.shape == (4, 3 * features if features == 4 else 4 * features)
    (v_f, v_r), (b_f, b_r) = np.split(p.recurrent, 2), np.split(p.bias, 2)
    alpha = np.sqrt(1 + 2 * np.exp(-1.0))
    c = np.zeros((3, features))
    for x, y in zip(xs, ys, strict=True):
        W_f, W_r, W, *W_s = np.split(p.input, p.input.shape[1] // features, axis=1)
        f, r = sigmoid(x @ W_f + v_f * c + b_f), sigmoid(x @ W_r + v_r * c + b_r)
        c = f * c + (1 - f) * (x @ W)
        near(y, r * c + (1 - r) * alpha * (x @ W_s[0] if W_s else x))
    near(carry, c)


@pytest.mark.parametrize("features", [4, 5])
def test_sru_v1(features):
    p, xs, carry, ys = ran(sru_v1(features))
    b_f, b_r = np.split(p.bias, 2)
    c = np.zeros((3, features))
    for x, y in zip(xs, ys, strict=True):
        W_f, W_r, W, *W_s = np.split(p.input, p.input.shape[1] // features, axis=1)
        f, r = sigmoid(x @ W_f + b_f), sigmoid(x @ W_r + b_r)
        c = f * c + (1 - f) * (x @ W)
        near(y, r * np.tanh(c) + (1 - r) * (x @ W_s[0] if W_s else x))
    near(carry, c)


def test_the_carry_in_the_gates_is_what_makes_it_not_affine():
    assert structure(sru(5)) == Kind.ELEMENTWISE
    assert structure(sru_v1(5)) == Kind.AFFINE


def test_variances_are_the_paper_s():
    """Var n = 1/D, and half of it in the gates, whose other half comes from v of variance ½."""
    params = sru(300).init(jax.random.key(0), jnp.ones(200))
    gates, rest = jnp.split(params.input, [600], axis=1)
    np.testing.assert_allclose([gates.var(), rest.var()], [0.5 / 200, 1 / 200], rtol=0.03)
    np.testing.assert_allclose(params.recurrent.var(), 0.5, rtol=0.1)
    np.testing.assert_allclose(
        sru_v1(300).init(jax.random.key(0), jnp.ones(200)).input.var(), 1 / 200, rtol=0.03
    )


@pytest.mark.parametrize("make", [sru, sru_v1])
def test_the_highway_bias_is_that_of_r_and_may_be_traced(make):
    def bias(value):
        return make(2, highway_bias=value).init(jax.random.key(0), jnp.ones(3)).bias

    np.testing.assert_array_equal(
        jax.vmap(bias)(jnp.array([-3.0, 1.0])), [[0, 0, -3, -3], [0, 0, 1, 1]]
    )


def test_a_traced_highway_bias_leaves_the_dtype():
    assert dtypes(lambda v: sru(4, highway_bias=v), -3.0) == {"bfloat16"}
