"""Causal convolution in all its forms, and thinned time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import around, run

xs = jax.random.normal(jax.random.key(0), (7, 3, 4))
layer = around.causal_conv(5, 3)
params = layer.init(jax.random.key(1), xs[0])._replace(bias=jnp.arange(5.0))


def by_hand(rows):
    """Of one row [T, D], term by term."""
    ys = []
    for t in range(len(rows)):
        y = np.asarray(params.bias)
        for k in range(min(t + 1, 3)):
            y = y + np.asarray(rows[t - k]) @ np.asarray(params.kernel[2 - k])
        ys.append(y)
    return np.stack(ys)


def test_it_is_the_sum_over_the_past():
    _, ys = run(layer, params, xs)
    for row in range(3):
        np.testing.assert_allclose(ys[:, row], by_hand(xs[:, row]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("reverse", [False, True])
def test_at_once_is_step_by_step(reverse):
    start = jax.random.normal(jax.random.key(2), (3, 2, 4))
    fast = run(layer, params, xs, start, reverse=reverse)
    slow = run(layer, params, xs, start, reverse=reverse, mask=jnp.ones((7, 3), bool))
    for a, b in zip(fast, slow, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_holes_are_as_if_they_were_not_there():
    mask = jnp.array([1, 0, 1, 1, 0, 0, 1], bool)
    dirty = jnp.where(mask[:, None, None], xs, jnp.nan)
    _, ys = run(layer, params, dirty, mask=jnp.tile(mask[:, None], (1, 3)))
    np.testing.assert_allclose(ys[mask, 0], by_hand(xs[mask, 0]), rtol=1e-5, atol=1e-5)
    assert (ys[~mask] == 0).all()


def test_a_reset_forgets():
    resets = jnp.zeros((7, 3), bool).at[3].set(True)
    _, ys = run(layer, params, xs, resets=resets)
    np.testing.assert_allclose(ys[3:, 0], by_hand(xs[3:, 0]), rtol=1e-5, atol=1e-5)


def test_any_batch_axes_and_no_rows():
    deep = xs.reshape(7, 3, 1, 4)
    np.testing.assert_allclose(
        run(layer, params, deep)[1][:, :, 0], run(layer, params, xs)[1], rtol=1e-6
    )
    assert run(layer, params, xs[:, 0])[1].shape == (7, 5)
    assert run(layer, params, xs[:, :0])[1].shape == (7, 0, 5)
    carry, ys = run(layer, params, xs[:0])
    assert ys.shape == (0, 3, 5)
    assert carry.shape == (3, 2, 4)


def test_frames_side_by_side():
    pairs = around.concat_frames(2)
    _, ys = run(pairs, (), xs)
    assert ys.shape == (4, 3, 8)
    np.testing.assert_array_equal(ys[1], jnp.concatenate([xs[2], xs[3]], -1))
    np.testing.assert_array_equal(ys[3], jnp.concatenate([xs[6], 0 * xs[6]], -1))


def test_frames_of_padding_are_zero():
    dirty = xs.at[3:, 0].set(jnp.nan)
    _, ys = run(around.concat_frames(2), (), dirty, lengths=jnp.array([3, 7, 7]))
    np.testing.assert_array_equal(ys[1, 0], jnp.concatenate([xs[2, 0], jnp.zeros(4)]))
    assert (ys[2:, 0] == 0).all()


def test_downsample_takes_the_first_valid_frame():
    _, ys = run(around.downsample(3), (), xs)
    np.testing.assert_array_equal(ys, xs[::3])
    mask = jnp.ones((7, 3), bool).at[3, 1].set(False)
    _, ys = run(around.downsample(3), (), xs.at[3, 1].set(jnp.nan), mask=mask)
    np.testing.assert_array_equal(ys[1, 1], xs[4, 1])
    np.testing.assert_array_equal(ys[1, 0], xs[3, 0])
