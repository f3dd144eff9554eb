"""Layer-normalised cells against NumPy in float64, written as the paper prints them."""

import jax
import numpy as np

from jaxrnn import cells, run
from jaxrnn.testing.case import nudge


def normalise(a):
    return (a - a.mean(-1, keepdims=True)) / np.sqrt(a.var(-1, keepdims=True) + 1e-5)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def random_case(cell):
    xs = jax.random.normal(jax.random.key(0), (6, 3, 4))
    params = nudge(cell.init(jax.random.key(1), xs[0]), 2)
    wide = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    return params, wide, xs


def test_layer_norm_lstm():
    params, p, xs = random_case(cells.layer_norm_lstm(5))
    h = c = np.zeros((3, 5))
    for x in np.asarray(xs, np.float64):
        u = p.input_scale * normalise(x @ p.input) + p.bias
        u = u + p.recurrent_scale * normalise(h @ p.recurrent)
        i, f, o, g = np.split(u, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(p.carry_scale * normalise(c) + p.carry_bias)
    carry, ys = run(cells.layer_norm_lstm(5), params, xs)
    np.testing.assert_allclose(ys[-1], h, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(carry.c, c, rtol=1e-4, atol=1e-5)


def test_layer_norm_gru():
    params, p, xs = random_case(cells.layer_norm_gru(5))

    def blocks(a):
        return normalise(a[:, :10]), normalise(a[:, 10:])

    h = np.zeros((3, 5))
    for x in np.asarray(xs, np.float64):
        (v_rz, v_n), (u_rz, u_n) = blocks(x @ p.input), blocks(h @ p.recurrent)
        v_rz = p.input_scale[:10] * v_rz + p.bias[:10]
        v_n = p.input_scale[10:] * v_n + p.bias[10:]
        r, z = np.split(sigmoid(v_rz + p.recurrent_scale[:10] * u_rz), 2, axis=-1)
        n = np.tanh(v_n + r * p.recurrent_scale[10:] * u_n)
        h = (1 - z) * n + z * h
    np.testing.assert_allclose(
        run(cells.layer_norm_gru(5), params, xs)[1][-1], h, rtol=1e-4, atol=1e-5
    )
