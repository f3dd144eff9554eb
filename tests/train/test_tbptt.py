"""Truncated backpropagation against the same by hand, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxrnn
from jaxrnn import around, cells, inside, train
from jaxrnn.methods import lax

T, B, D, H = 24, 2, 3, 4


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def make(kind=cells.lstm):
    draw = np.random.default_rng(0)
    xs = jnp.array(draw.normal(size=(T, B, D)))
    targets = jnp.array(draw.normal(size=(T, B, H)))
    cell = kind(H)
    return cell, cell.init(jax.random.key(0), xs[0]), xs, targets


def squares(ys, batch):
    return train.mean_squared_error(ys, batch["targets"]), {"size": jnp.mean(ys**2)}


def by_hand(cell, params, xs, targets, k1, k2, updates, rate, resets=None, valid=None):
    """One step after the other, windows cut by slices: params and losses of every update."""
    valid = jnp.ones((T, B), bool) if valid is None else valid
    resets = jnp.zeros((T, B), bool) if resets is None else resets & valid

    def chosen(where, yes, no):
        return jax.tree.map(lambda a, b: jnp.where(where[:, None], a, b), yes, no)

    def onward(params, carry, begin, end):
        ys = []
        for t in range(begin, end):
            carry = chosen(resets[t], cell.carry(params, xs[t]), carry)
            after, y = cell.step(params, carry, xs[t])
            carry = chosen(valid[t], after, carry)
            ys.append(chosen(valid[t], y, 0 * y))
        return carry, ys

    def loss(params, start, carry, first):
        _, ys = onward(params, carry, start, first + k1)
        new = range(first, first + k1)
        return sum(jnp.mean((ys[t - start] - targets[t]) ** 2) for t in new) / k1

    carry, start, values = cell.carry(params, xs[0]), 0, []
    for n in range(updates):
        first = n * k1
        value, gradient = jax.value_and_grad(loss)(params, start, carry, first)
        following = max(0, first + 2 * k1 - k2)  # where the next window begins
        carry, _ = onward(params, carry, start, following)
        params = jax.tree.map(lambda p, g: p - rate * g, params, gradient)
        start = following
        values.append(value)
    return params, np.array(values)


def ours(cell, params, xs, targets, k1, k2, updates, rate, **more):
    optimizer = optax.sgd(rate)
    loss, memory = train.tbptt(cell, squares, k1, k2, method=lax())

    def batch(n):
        rows = {"xs": xs, "targets": targets, **more}
        return {name: row[n * k1 : (n + 1) * k1] for name, row in rows.items()}

    update = train.step(loss, optimizer)
    state = train.init(params, optimizer, memory=memory(params, batch(0)))
    values = []
    for n in range(updates):
        state, metrics = update(state, batch(n))
        values.append(metrics["loss"])
    return state.params, np.array(values)


def close(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(("k1", "k2"), [(4, 4), (2, 5), (1, 3)])
def test_it_is_truncated_backpropagation(k1, k2):
    problem = make()
    expected = by_hand(*problem, k1, k2, 3, 0.5)
    close(ours(*problem, k1, k2, 3, 0.5), expected)


def test_masks_and_resets_are_remembered():
    draw = np.random.default_rng(1)
    flags = {
        "resets": jnp.array(draw.random((T, B)) < 0.2),
        "valid": jnp.array(draw.random((T, B)) < 0.8),
    }
    problem = make(cells.gru)
    expected = by_hand(*problem, 3, 5, 3, 0.5, **flags)
    close(ours(*problem, 3, 5, 3, 0.5, **flags), expected)


def test_with_k2_the_whole_length_it_is_full_backpropagation():
    """The last update's gradient reaches the very first step."""
    cell, params, xs, targets = make(cells.elman)
    k1, updates = 6, T // 6
    # At rate 0 the params are the same all along, so that the windows join to one sequence.
    loss, memory = train.tbptt(cell, squares, k1, T)
    batches = [
        {"xs": xs[n * k1 : (n + 1) * k1], "targets": targets[n * k1 : (n + 1) * k1]}
        for n in range(updates)
    ]

    def value_of(params, batch, past):
        value, _, after = loss(params, batch, jax.random.key(0), past)
        return value, after

    differentiated = jax.jit(jax.grad(value_of, has_aux=True))
    past, total = memory(params, batches[0]), jax.tree.map(jnp.zeros_like, params)
    for batch in batches:
        gradient, past = differentiated(params, batch, past)
        total = jax.tree.map(jnp.add, total, gradient)

    def full(params):
        return jnp.mean((jaxrnn.run(cell, params, xs)[1] - targets) ** 2)

    close(jax.tree.map(lambda g: g / updates, total), jax.grad(full)(params))


def test_it_runs_in_fit():
    cell, params, xs, _ = make()
    k1 = 4
    data = [
        {"xs": xs[n : n + k1], "targets": jnp.tanh(xs[n : n + k1, :, :1])} for n in range(0, T, k1)
    ]

    def last(ys, batch):
        return train.mean_squared_error(ys[..., :1], batch["targets"])

    loss, memory = train.tbptt(cell, last, k1, 6)
    result = train.fit(
        loss, params, optax.adam(0.05), data, memory=memory(params, data[0]), updates=60, chunk=20
    )
    assert result.history.losses[-6:].mean() < 0.7 * result.history.losses[:6].mean()


def test_what_does_not_fit_is_refused():
    cell, params, xs, _ = make()
    with pytest.raises(ValueError, match="k2 must be an integer of at least 4, got 3"):
        train.tbptt(cell, squares, 4, 3)
    _, memory = train.tbptt(cell, squares, 4)
    with pytest.raises(TypeError, match=r"a dict with 'xs' .* got \['inputs'\]"):
        memory(params, {"inputs": xs[:4]})
    with pytest.raises(ValueError, match="k1=4 new steps at a time, got xs with T=5"):
        memory(params, {"xs": xs[:5]})
    with pytest.raises(ValueError, match="it needs whole sequences"):
        train.tbptt(around.bidirectional(cell, cell), squares, 4)


def test_without_a_key_there_is_no_noise():
    """A model is evaluated by the loss it is trained by."""
    cell = inside.zoneout(cells.gru(3), 0.5)
    batch = {"xs": jnp.ones((4, 2, 3))}
    params = cell.init(jax.random.key(0), batch["xs"][0])
    loss, memory = train.tbptt(cell, lambda ys, batch: jnp.mean(ys), k1=4)
    value, _, past = loss(params, batch, None, memory(params, batch))
    carry, ys = jaxrnn.run(cell, params, batch["xs"])
    np.testing.assert_allclose(value, jnp.mean(ys), rtol=1e-6)
    np.testing.assert_allclose(past.carry, carry, rtol=1e-6)
