"""A narrowed cell is the narrow cell: values, gradients, updates; what is masked is inert."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxrnn
from jaxrnn import cells, methods
from jaxrnn.inside.carry import zoneout
from jaxrnn.inside.narrow import glorot_of, narrow, orthogonal_of

D, W, H, T, B = 3, 8, 5, 6, 4
SHARED = ["elman", "gru", "gru_reset_before", "indrnn", "lstm", "mgu", "peephole_lstm"]


def corner(leaf, features=H):
    """The first units of each gate along every axis of units."""
    leaf = np.asarray(leaf)
    for axis, size in enumerate(leaf.shape):
        if size % W == 0:
            gates = leaf.reshape(*leaf.shape[:axis], size // W, W, *leaf.shape[axis + 1 :])
            first = gates.take(range(features), axis=axis + 1)
            leaf = first.reshape(*leaf.shape[:axis], -1, *leaf.shape[axis + 1 :])
    return leaf


def masked(leaf):
    """What is not in the corner."""
    number = np.arange(leaf.size).reshape(leaf.shape)
    return np.setdiff1d(number, corner(number))


def problem(name, dtype=jnp.float32):
    factory = getattr(cells, name)
    cell = factory(W)
    xs = jax.random.normal(jax.random.key(1), (T, B, D), dtype)
    params = cell.init(jax.random.key(0), xs[0])
    readout = jax.random.normal(jax.random.key(2), (W, 2), dtype)
    return factory, (params, readout), xs


def loss(cell, params, xs, **flags):
    carry, ys = jaxrnn.run(cell, params[0], xs, **flags)
    return jnp.mean((ys @ params[1]) ** 2) + sum(jnp.sum(c) for c in jax.tree.leaves(carry)) / 7


def close(a, b, rtol=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-6), a, b)


@pytest.mark.parametrize(
    ("name", "method"),
    [*((name, methods.lax()) for name in SHARED), ("lstm", methods.scan(chunk=4))],
    ids=str,
)
def test_it_is_the_narrow_cell(name, method):
    factory, params, xs = problem(name)
    flags = {"mask": jnp.arange(T)[:, None] < jnp.arange(3, 3 + B), "method": method}
    both = jax.value_and_grad(loss, argnums=(1, 2))

    @jax.jit
    def narrowed(features):
        return both(narrow(factory(W), features), params, xs, **flags)

    value, gradient = narrowed(H)
    of_the_narrow = jax.jit(lambda params: both(factory(H), params, xs, **flags))
    exact, exact_gradient = of_the_narrow(jax.tree.map(corner, params))
    close(value, exact)
    close(jax.tree.map(corner, gradient[0]), exact_gradient[0])
    close(gradient[1], exact_gradient[1])
    for leaf in jax.tree.leaves(gradient[0]):
        assert not np.ravel(leaf)[masked(leaf)].any()
    assert sum(masked(leaf).size for leaf in jax.tree.leaves(params)) > W


def test_what_is_masked_reaches_nothing():
    factory, params, xs = problem("gru")
    cell = narrow(factory(W), H)

    def spoil(leaf):
        return leaf.ravel().at[masked(leaf)].set(1e3).reshape(leaf.shape)

    spoilt = jax.tree.map(spoil, params)
    results = [jax.value_and_grad(partial(loss, cell))(p, xs) for p in (params, spoilt)]
    close(*results)
    carry, ys = jaxrnn.run(cell, spoilt[0], xs)
    for leaf in (carry, ys):
        assert leaf[..., :H].all()
        assert not leaf[..., H:].any()


def test_adam_leaves_masked_parameters_as_they_were():
    factory, params, xs = problem("lstm")
    cell, optimizer = narrow(factory(W), H), optax.adam(0.1)

    @jax.jit
    def update(params, moments):
        change, moments = optimizer.update(jax.grad(partial(loss, cell))(params, xs), moments)
        return optax.apply_updates(params, change), moments

    trained, moments = params, optimizer.init(params)
    for _ in range(3):
        trained, moments = update(trained, moments)
    for before, after in zip(jax.tree.leaves(params), jax.tree.leaves(trained), strict=True):
        same = (before == after).ravel()
        assert same[masked(before)].all()
        assert not corner(same.reshape(before.shape)).all()


def test_a_vmap_over_widths():
    factory, params, xs = problem("gru")
    widths = jnp.array([1, 3, 5, 8])
    swept = jax.jit(jax.vmap(lambda n: loss(narrow(factory(W), n), params, xs)))(widths)
    each = [
        loss(factory(int(n)), jax.tree.map(partial(corner, features=int(n)), params), xs)
        for n in widths
    ]
    close(swept, jnp.stack(each))
    assert len({*map(float, swept)}) == 4


def test_all_units_change_nothing():
    factory, params, xs = problem("lstm")
    close(
        jaxrnn.run(narrow(factory(W), W), params[0], xs), jaxrnn.run(factory(W), params[0], xs), 0
    )


def test_the_initial_carry_is_masked_too():
    cell = cells.gru(W)
    ones = narrow(dataclasses.replace(cell, carry=lambda p, x: jnp.ones((B, W))), H)
    _, (params, _), xs = problem("gru")
    first = ones.carry(params, xs[0])
    np.testing.assert_array_equal(first, jnp.ones((B, W)).at[:, H:].set(0))


def test_noise_outside_and_inside():
    _, (params, _), xs = problem("lstm")
    for cell in (
        narrow(zoneout(cells.lstm(W), 0.5), H),
        zoneout(narrow(cells.lstm(W), H), 0.5),
    ):
        carry, ys = jaxrnn.run(cell, params, xs, key=jax.random.key(3))
        for leaf in (*carry, ys):
            seen = leaf.reshape(-1, W).any(axis=0)
            assert seen.tolist() == [True] * H + [False] * (W - H)
        np.testing.assert_array_equal(ys[-1], carry.h)


def test_integers_and_other_widths_are_left_alone():
    inner = cells.gru(W)

    def step(params, carry, x, key=None):
        h, y = inner.step(params, carry["h"], x)
        return {"h": h, "count": carry["count"] + 1}, {"h": y, "x": x, "twice": jnp.tile(y, 2)}

    def carry(params, x):
        return {"h": inner.carry(params, x), "count": jnp.zeros((*x.shape[:-1], W), jnp.int32)}

    cell = narrow(jaxrnn.Cell(name="counting", init=inner.init, carry=carry, step=step), H)
    _, (params, _), xs = problem("gru")
    after, ys = jaxrnn.run(cell, params, xs)
    assert (after["count"] == T).all()
    assert not ys["h"][..., H:].any()
    np.testing.assert_array_equal(ys["x"], xs)
    assert ys["twice"].all()


def test_initial_values_of_a_narrow_cell():
    @jax.jit
    def draw(features):
        q = orthogonal_of(features)(jax.random.key(0), (W, W))
        return q, glorot_of(features)(jax.random.key(1), (500, W))

    q, w = draw(H)
    np.testing.assert_allclose(q[:H, :H] @ q[:H, :H].T, np.eye(H), atol=1e-5)
    assert not q[:H, H:].any()
    assert not q[H:, :H].any()
    bound = np.sqrt(6 / (500 + H))
    assert 0.99 * bound < np.abs(w).max() <= bound
    close(draw(W + 3)[1], jax.nn.initializers.glorot_uniform()(jax.random.key(1), (500, W)))
    # Uniformly drawn: the mean of a rotation is 0, of its squares 1/H.
    keys = jax.random.split(jax.random.key(2), 4000)
    qs = jax.vmap(lambda k: orthogonal_of(2)(k, (3, 3))[:2, :2])(keys)
    assert np.abs(qs.mean(0)).max() < 5 / np.sqrt(2 * len(keys))
    np.testing.assert_allclose((qs**2).mean(0), 0.5, atol=0.05)


def test_a_narrow_cell_begins_as_a_cell_of_that_width_does():
    sizes = {"input_init": glorot_of(H), "recurrent_init": orthogonal_of(H)}
    cell = narrow(cells.lstm(W, **sizes), H)
    params = cell.init(jax.random.key(0), jnp.ones(D))
    blocks = jnp.split(jax.tree.map(corner, params).recurrent, 4, axis=1)
    assert len({float(b[0, 0]) for b in blocks}) == 4
    for block in blocks:
        np.testing.assert_allclose(block @ block.T, np.eye(H), atol=1e-5)


@pytest.mark.parametrize(
    ("features", "error", "says"),
    [
        (2.0, TypeError, "an integer number of features, or a traced one, got 2.0"),
        (True, TypeError, "got True"),
        (jnp.ones(3, int), TypeError, "an integer number"),
        (0, ValueError, "1 <= features <= 8, the width of gru(8), got 0"),
        (9, ValueError, "got 9; build the cell for the most features"),
        (jnp.array(9), ValueError, "got 9"),
    ],
    ids=str,
)
def test_a_width_that_cannot_be(features, error, says):
    with pytest.raises(error) as raised:
        narrow(cells.gru(W), features).init(jax.random.key(0), jnp.ones(D))
    assert says in str(raised.value)


def test_statistics_over_units_are_refused():
    for name in ("layer_norm_lstm", "layer_norm_gru"):
        cell = narrow(getattr(cells, name)(W), H)
        with pytest.raises(NotImplementedError, match=rf"{name}\(8\).*reduce_sum at cells/") as e:
            cell.init(jax.random.key(0), jnp.ones((2, D)))
        assert "one by one" in str(e.value)


def test_leaves_of_several_widths_are_refused():
    inner = cells.gru(W)

    def carry(params, x):
        h = inner.carry(params, x)
        return h, h[..., :2]

    two = jaxrnn.Cell(name="two", init=inner.init, carry=carry, step=inner.step)
    with pytest.raises(ValueError, match=r"those of two are \[2, 8\]"):
        narrow(two, H).init(jax.random.key(0), jnp.ones(D))


def test_a_name_says_the_width():
    assert str(narrow(cells.gru(W), H)) == "narrow(gru(8), 5)"
