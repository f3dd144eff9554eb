"""Noise on recurrent connections: where it acts, how often, and for how long."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import cells, inside, run
from jaxrnn.core import sequence_key

xs = jax.random.normal(jax.random.key(0), (6, 3, 4))
key = jax.random.key(7)
RATE = 0.4


def setup(cell):
    params = cell.init(jax.random.key(1), xs[0])
    return params, cell.noise(params, xs[0], sequence_key(key)) if cell.noise else params


def test_the_mask_of_a_sequence_is_that_of_the_textbook():
    """Gal & Ghahramani by hand: h is masked in its products, by the same mask at every step."""
    cell = inside.recurrent_dropout(cells.lstm(8), RATE)
    params, (_, [mask]) = setup(cell)
    assert mask.shape == (3, 8)
    h = c = jnp.zeros((3, 8))
    for t in range(6):
        u = xs[t] @ params.input + params.bias + (mask * h) @ params.recurrent
        i, f, o, g = jnp.split(u, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
    np.testing.assert_allclose(run(cell, params, xs, key=key)[1][-1], h, rtol=1e-5, atol=1e-6)


def test_a_gru_remembers_what_is_dropped():
    """The mask does not touch z ∘ h: with z at 1 the carry stays, whatever is dropped."""
    cell = inside.recurrent_dropout(cells.gru(8), RATE)
    params, _ = setup(cell)
    params = params._replace(bias=params.bias.at[8:16].set(100.0))
    carry = jnp.ones((3, 8))
    np.testing.assert_allclose(run(cell, params, xs, carry, key=key)[0], carry)


def test_products_with_one_value_share_their_mask():
    _, (_, masks) = setup(inside.recurrent_dropout(cells.gru_reset_before(8), RATE))
    assert len(masks) == 2  # of h and of r ∘ h


def test_a_readout_is_no_recurrent_connection():
    def step(p, h, x, key=None):
        h = jnp.tanh(x @ p["W"] + h @ p["R"])
        return h, h @ p["V"]

    def init(key, x):
        shapes = {"W": (4, 8), "R": (8, 8), "V": (8, 2)}
        return {k: jax.random.normal(key, s) / 3 for k, s in shapes.items()}

    cell = jaxrnn.Cell(
        name="readout", init=init, carry=lambda p, x: jnp.zeros((*x.shape[:-1], 8)), step=step
    )
    params, drawn = setup(inside.drop_connect(cell, RATE))
    changed = {name for name in params if not (params[name] == drawn[name]).all()}
    assert changed == {"R"}


def test_concatenated_inputs_are_not_dropped():
    """[x, h] · W: the product is taken apart, and only h is masked."""

    def step(p, h, x, key=None):
        h = jnp.tanh(jnp.concatenate([x, h], -1) @ p)
        return h, h

    cell = jaxrnn.Cell(
        name="concatenating",
        init=lambda key, x: jax.random.normal(key, (12, 8)) / 3,
        carry=lambda p, x: jnp.zeros((*x.shape[:-1], 8)),
        step=step,
    )
    dropping = inside.recurrent_dropout(cell, RATE)
    params, (_, [mask]) = setup(dropping)
    h = jnp.zeros((3, 8))
    for t in range(6):
        h = jnp.tanh(xs[t] @ params[:4] + (mask * h) @ params[4:])
    np.testing.assert_allclose(run(dropping, params, xs, key=key)[0], h, rtol=1e-5, atol=1e-6)


def test_the_rate_is_met_and_the_mean_is_kept():
    cell = inside.recurrent_dropout(cells.elman(64), RATE)
    params = cell.init(jax.random.key(1), xs[0])
    masks = jax.vmap(lambda k: cell.noise(params, xs[0], k).masks[0])(jax.random.split(key, 200))
    dropped, n = int((masks == 0).sum()), masks.size
    assert abs(dropped - RATE * n) <= 5 * np.sqrt(RATE * (1 - RATE) * n)
    np.testing.assert_allclose(np.unique(masks), [0, 1 / (1 - RATE)], rtol=1e-6)


def test_drop_connect_drops_single_weights_of_the_recurrence_only():
    params, drawn = setup(inside.drop_connect(cells.lstm(32), RATE))
    assert (params.input == drawn.input).all()
    assert (params.bias == drawn.bias).all()
    ratio = np.asarray(drawn.recurrent / params.recurrent)
    dropped, n = int((ratio == 0).sum()), ratio.size
    assert abs(dropped - RATE * n) <= 5 * np.sqrt(RATE * (1 - RATE) * n)
    np.testing.assert_allclose(ratio[ratio != 0], 1 / (1 - RATE), rtol=1e-5)


def test_drop_connect_is_a_run_with_other_weights():
    cell = inside.drop_connect(cells.gru(8), RATE)
    params, drawn = setup(cell)
    np.testing.assert_allclose(
        run(cell, params, xs, key=key)[1], run(cells.gru(8), drawn, xs)[1], rtol=1e-6
    )

    def loss(params, cell, key):
        return run(cell, params, xs, key=key)[1].sum()

    noisy = jax.grad(loss)(params, cell, key).recurrent
    assert (noisy[drawn.recurrent == 0] == 0).all()  # what is dropped does not learn


def test_per_step_masks_differ_in_time():
    """With an identity recurrence the carry is the product of the masks so far."""
    eye = cells.elman(32, activation=lambda h: h)
    step = inside.recurrent_dropout(eye, 0.5, per="step")
    sequence = inside.recurrent_dropout(eye, 0.5)
    params = eye.init(jax.random.key(1), xs[0])
    params = params._replace(input=params.input * 0, recurrent=jnp.eye(32))
    alive = {
        cell: np.asarray(run(cell, params, xs, jnp.ones((3, 32)), key=key)[1] != 0).sum((1, 2))
        for cell in (step, sequence)
    }
    assert (np.diff(alive[sequence]) == 0).all()
    assert alive[step][-1] < alive[step][0] / 4


@pytest.mark.parametrize("per", ["sequence", "step"])
def test_no_key_means_none(per):
    cell = inside.recurrent_dropout(cells.lstm(8), RATE, per=per)
    params = cell.init(jax.random.key(1), xs[0])
    plain = run(cells.lstm(8), params, xs)
    assert all(map(np.array_equal, *map(jax.tree.leaves, (run(cell, params, xs), plain))))


@pytest.mark.parametrize(
    "make",
    [
        lambda c: inside.recurrent_dropout(c, 0.5),
        lambda c: inside.recurrent_dropout(c, 0.5, per="step"),
        lambda c: inside.drop_connect(c, 0.5),
    ],
)
def test_a_cell_without_recurrent_weights_is_refused(make):
    cell = make(cells.indrnn(8))
    params = cell.init(jax.random.key(0), xs[0])
    with pytest.raises(ValueError, match="no product of the carry with a weight matrix"):
        run(cell, params, xs, key=key)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="0 <= rate < 1, got 2"):
        inside.drop_connect(cells.lstm(8), 2)
    with pytest.raises(ValueError, match="got per='batch'"):
        inside.recurrent_dropout(cells.lstm(8), 0.5, per="batch")
