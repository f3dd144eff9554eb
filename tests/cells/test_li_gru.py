"""Light gated recurrent unit against NumPy in float64, and what its normalisation sees."""

import jax
import numpy as np

from jaxrnn import run
from jaxrnn.cells.li_gru import li_gru
from tests.cells.reference import near, normalise, ran, sigmoid


def test_li_gru():
    p, xs, carry, ys = ran(li_gru(5))
    h = np.zeros((3, 5))
    for x, y in zip(xs, ys, strict=True):
        a = x @ p.input
        v = p.input_scale * np.concatenate([normalise(a[:, :5]), normalise(a[:, 5:])], -1) + p.bias
        u = v + h @ p.recurrent
        z = sigmoid(u[:, :5])
        h = z * h + (1 - z) * np.maximum(u[:, 5:], 0)
        near(y, h)
    near(carry, h)


def test_the_size_of_an_input_does_not_matter():
    """Normalised before it is used: the reason that a rectified carry stays where it is."""
    cell = li_gru(6)
    xs = jax.random.normal(jax.random.key(0), (5, 2, 4))
    params = cell.init(jax.random.key(1), xs[0])
    np.testing.assert_allclose(
        run(cell, params, 1000 * xs)[1], run(cell, params, xs)[1], rtol=1e-3, atol=1e-3
    )
