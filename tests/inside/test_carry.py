"""What happens to the carry: zoneout, leaky integration, clipping, a learned start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import cells, inside, run
from jaxrnn.cells import LSTMCarry

xs = jax.random.normal(jax.random.key(0), (6, 3, 4))


def params_of(cell, key=1):
    return cell.init(jax.random.key(key), xs[0])


def test_zoneout_without_a_key_is_the_expectation():
    cell = inside.zoneout(cells.lstm(8), 0.3)
    params = params_of(cell)
    start = jax.tree.map(lambda a: a + 0.5, cell.carry(params, xs[0]))
    quiet, _ = cell.step(params, start, xs[0])
    keys = jax.random.split(jax.random.key(2), 20_000)
    noisy, _ = jax.vmap(lambda k: cell.step(params, start, xs[0], k))(keys)
    fresh, _ = cells.lstm(8).step(params, start, xs[0])
    for mean, want, new, old in zip(
        *map(jax.tree.leaves, (noisy, quiet, fresh, start)), strict=True
    ):
        # The standard error of the mean of a two-valued variable, five times over.
        error = 5 * np.abs(new - old) * np.sqrt(0.3 * 0.7 / len(keys)) + 1e-5
        assert (np.abs(mean.mean(0) - want) <= error).all()
        np.testing.assert_allclose(want, 0.3 * old + 0.7 * new, rtol=1e-5)


def test_zoneout_keeps_units_at_its_rate():
    cell = inside.zoneout(cells.gru(16), 0.25)
    params, start = params_of(cell), jnp.full((3, 16), 0.1234)
    keys = jax.random.split(jax.random.key(3), 1000)
    after, y = jax.vmap(lambda k: cell.step(params, start, xs[0], k))(keys)
    kept, n = int((after == start).sum()), after.size
    assert abs(kept - 0.25 * n) <= 5 * np.sqrt(0.25 * 0.75 * n)
    assert (y == after).all()  # an output that is the carry is zoned out with it


def test_zoneout_has_a_rate_for_each_leaf():
    cell = inside.zoneout(cells.lstm(8), LSTMCarry(h=None, c=0.5))
    params, key = params_of(cell), jax.random.key(4)
    start = LSTMCarry(jnp.full((3, 8), 0.1234), jnp.full((3, 8), 0.4321))
    after, _ = cell.step(params, start, xs[0], key)
    assert not (after.h == start.h).any()
    assert 0 < (after.c == start.c).sum() < after.c.size


def test_leaky_is_the_euler_step():
    tau = jnp.linspace(1, 4, 5)
    cell, plain = inside.leaky(cells.elman(5), tau), cells.elman(5)
    params = params_of(cell)
    h = jnp.zeros((3, 5))
    for t in range(6):
        h = h + (plain.step(params, h, xs[t])[0] - h) / tau
    np.testing.assert_allclose(run(cell, params, xs)[0], h, rtol=1e-5, atol=1e-6)


def test_clip_carry_clips_what_it_is_told_to():
    cell = inside.clip_carry(cells.lstm(8), LSTMCarry(h=None, c=0.05))
    params = params_of(cell)
    carry, _ = run(cell, params, 5 * xs)
    assert float(abs(carry.c).max()) == pytest.approx(0.05)
    free, _ = run(inside.clip_carry(cells.lstm(8), 1e6), params, 5 * xs)
    assert float(abs(free.c).max()) > 0.05


def test_a_learned_carry_gets_gradient_at_the_start_and_at_resets():
    cell = inside.learned_carry(cells.lstm(8))
    params = params_of(cell)
    assert jax.tree.map(jnp.shape, params.carry) == LSTMCarry((8,), (8,))
    learned = LSTMCarry(jnp.arange(8.0) / 10, -jnp.arange(8.0) / 10)
    params = params._replace(carry=learned)
    np.testing.assert_allclose(cell.carry(params, xs[0]).h, jnp.tile(learned.h, (3, 1)))

    def loss(params, resets):
        return run(cell, params, xs, resets=resets)[1][3:].sum()

    never = jnp.zeros((6, 3), bool)
    start = jax.grad(loss)(params, never).carry.h
    again = jax.grad(loss)(params, never.at[3].set(True)).carry.h
    assert float(abs(start).min()) > 0
    assert float(abs(again - start).max()) > 1e-3


def test_the_learned_carry_is_one_row_whatever_the_batch():
    cell = inside.learned_carry(cells.gru(8))
    for shape in ((4,), (0, 4), (2, 3, 4)):
        assert cell.init(jax.random.key(0), jnp.zeros(shape)).carry.shape == (8,)


@pytest.mark.parametrize(
    "make",
    [
        lambda r: inside.zoneout(cells.lstm(8), r),
        lambda r: inside.leaky(cells.lstm(8), 1 + r),
        lambda r: inside.clip_carry(cells.lstm(8), r),
        lambda r: inside.recurrent_dropout(cells.lstm(8), r),
        lambda r: inside.recurrent_dropout(cells.lstm(8), r, per="step"),
        lambda r: inside.drop_connect(cells.lstm(8), r),
    ],
)
def test_constants_may_be_traced(make):
    rates = jnp.array([0.1, 0.5])
    params, key = params_of(make(0.1)), jax.random.key(5)

    def outputs(rate):
        return run(make(rate), params, xs, key=key)[1]

    mapped = jax.jit(jax.vmap(outputs))(rates)
    for i, rate in enumerate(rates.tolist()):
        np.testing.assert_allclose(mapped[i], outputs(rate), rtol=1e-4, atol=1e-5)


def test_integers_in_the_carry_are_left_alone():
    def step(params, carry, x, key=None):
        h, n = carry
        return (jnp.tanh(h + x), n + 1), h

    def carry(params, x):
        return jnp.zeros_like(x), jnp.zeros_like(x, shape=x.shape[:-1], dtype=jnp.int32)

    counting = cells.elman(4).__class__(
        name="counting", init=lambda key, x: (), carry=carry, step=step
    )
    for cell in (
        inside.zoneout(counting, 0.5),
        inside.leaky(counting, 2.0),
        inside.learned_carry(counting),
    ):
        (_, n), _ = run(cell, cell.init(jax.random.key(0), xs[0]), xs, key=jax.random.key(1))
        assert (n == 6).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda c: inside.zoneout(c, 1.0), r"zoneout\(\) needs a rate with 0 <= rate < 1, got 1.0"),
        (lambda c: inside.zoneout(c, -0.1), "got -0.1"),
        (lambda c: inside.zoneout(c, "half"), "got 'half'"),
        (lambda c: inside.leaky(c, 0), r"leaky\(\) needs a time_constant > 0, got 0"),
        (lambda c: inside.clip_carry(c, -1.0), r"clip_carry\(\) needs a limit > 0, got -1.0"),
        (lambda c: inside.learned_carry(c, feature_axes=-1), "feature_axes >= 0, got -1"),
    ],
)
def test_wrong_constants_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(cells.lstm(8))


def test_a_tree_that_is_not_like_the_carry_is_refused():
    cell = inside.zoneout(cells.gru(8), LSTMCarry(0.1, 0.2))
    with pytest.raises(ValueError, match="zoneout's rate has the structure"):
        run(cell, params_of(cell), xs)
