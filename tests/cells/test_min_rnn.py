"""Minimal GRU and LSTM against NumPy in float64, and gates far in their tails."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import run
from jaxrnn.cells.min_rnn import min_gru, min_lstm
from jaxrnn.engine.structure import Kind
from tests.cells.reference import dtypes, near, ran, sigmoid, structure


def g(a):
    return np.where(a >= 0, a + 0.5, sigmoid(a))


@pytest.mark.parametrize(
    ("options", "activation"), [({}, g), ({"activation": jnp.negative}, lambda a: -a)]
)
def test_min_gru(options, activation):
    p, xs, _, ys = ran(min_gru(5, **options))
    h = np.zeros((3, 5))
    for x, y in zip(xs, ys, strict=True):
        u = x @ p.input + p.bias
        z = sigmoid(u[:, :5])
        h = (1 - z) * h + z * activation(u[:, 5:])
        near(y, h)


def test_min_lstm():
    p, xs, carry, ys = ran(min_lstm(5))
    h = np.zeros((3, 5))
    for x in xs:
        u = x @ p.input + p.bias
        f, i = sigmoid(u[:, :5]), sigmoid(u[:, 5:10])
        h = f / (f + i) * h + i / (f + i) * g(u[:, 10:])
    near(ys[-1], h)
    near(carry, h)


@pytest.mark.parametrize("make", [min_gru, min_lstm])
def test_the_carry_is_affine(make):
    assert structure(make(5)) == Kind.AFFINE


def gates(u_f, u_i):
    """The weights of the memory and of the candidate, read off a step in float32."""
    cell = min_lstm(1, activation=lambda u: u)
    u = jnp.stack([u_f, u_i, jnp.float32(0)])

    def memory(u, h, n):
        params = cell.init(jax.random.key(0), jnp.zeros(1))._replace(bias=u.at[2].set(n))
        return cell.step(params, h, jnp.zeros(1))[0][0]

    slopes = jax.jit(jax.grad(memory, (0, 1, 2)))(u, jnp.ones(1), jnp.float32(0.5))
    return [np.asarray(s, np.float64) for s in slopes]


@pytest.mark.parametrize(
    ("u_f", "u_i", "kept"),
    [(80, -80, 1), (-80, 80, 0), (-80, -80, 0.5), (80, 80, 0.5), (-81, -80, 1 / (1 + np.e))],
)
def test_normalised_gates_are_right_where_both_underflow(u_f, u_i, kept):
    """f/(f + i) of e⁻⁸⁰ and e⁻⁸¹ is a number like any other, and so is its slope."""
    slope, f, i = gates(jnp.float32(u_f), jnp.float32(u_i))
    np.testing.assert_allclose([f[0], i], [kept, 1 - kept], atol=1e-5)
    # d/du_f of f' h + i' n at h = 1, n = ½ is ½ f' i' (1 − σ(u_f)).
    rate = 0.5 * kept * (1 - kept)
    np.testing.assert_allclose(slope[:2], [rate * sigmoid(-u_f), -rate * sigmoid(-u_i)], atol=1e-5)


def test_extreme_gates_leave_a_whole_run_finite():
    xs = jnp.linspace(-80, 80, 60).reshape(5, 3, 4)
    for cell in (min_gru(5), min_lstm(5)):
        params = cell.init(jax.random.key(0), xs[0])
        params = params._replace(input=jnp.ones_like(params.input))

        def loss(params, xs, cell=cell):
            return jnp.sum(run(cell, params, xs)[1])

        slopes = jax.jit(jax.grad(loss, (0, 1)))(params, xs)
        assert all(bool(jnp.isfinite(s).all()) for s in jax.tree.leaves(slopes))


def test_the_forget_bias_is_that_of_f():
    bias = min_lstm(2, forget_bias=3.0).init(jax.random.key(0), jnp.ones(4)).bias
    np.testing.assert_array_equal(bias, [3, 3, 0, 0, 0, 0])


def test_a_traced_forget_bias_leaves_the_dtype():
    assert dtypes(lambda v: min_lstm(4, forget_bias=v), 1.0) == {"bfloat16"}
