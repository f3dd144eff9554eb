"""A causal convolution against NumPy's, and streaming it through its carry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import run
from jaxrnn.cells.convolution import causal_conv
from jaxrnn.engine.structure import Kind
from tests.cells.reference import near, ran, structure


@pytest.mark.parametrize("window", [1, 2, 4])
def test_each_feature_is_convolved(window):
    p, xs, carry, ys = ran(causal_conv(window))
    for row in range(3):
        for d in range(4):
            want = np.convolve(xs[:, row, d], p.input[d])[:6] + p.bias[d]
            near(ys[:, row, d], want)
    assert len(carry) == window - 1
    for lag, kept in enumerate(carry):
        near(kept, xs[-1 - lag])


def test_a_short_sequence_leaves_zeros_in_the_carry():
    cell = causal_conv(4)
    xs = jnp.ones((2, 3))  # no batch axis
    carry, _ = run(cell, cell.init(jax.random.key(0), xs[0]), xs)
    np.testing.assert_array_equal(np.stack(carry), [[1] * 3, [1] * 3, [0] * 3])


def test_the_carry_is_affine():
    assert structure(causal_conv(3)) == Kind.AFFINE


def test_weights_are_within_one_over_the_root_of_the_window():
    w = causal_conv(4).init(jax.random.key(0), jnp.ones(500)).input
    assert jnp.abs(w).max() <= 0.5
    assert jnp.abs(w).max() > 0.49
    np.testing.assert_allclose(w.std(), 0.5 / 3**0.5, rtol=0.05)


@pytest.mark.parametrize("window", [0, -1, True])
def test_a_window_that_is_none_is_refused(window):
    with pytest.raises(ValueError, match=r"causal_conv\(\) needs a window of 1 time step or more"):
        causal_conv(window)
