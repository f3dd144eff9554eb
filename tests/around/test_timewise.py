"""Layers that treat every time step alike, and symbols."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import around, cells, run

xs = jax.random.normal(jax.random.key(0), (7, 3, 4))
tokens = jax.random.randint(jax.random.key(2), (7, 3), 0, 10)
key = jax.random.key(3)


def test_dense_is_a_product_and_runs_without_a_loop():
    layer = around.dense(5)
    params = layer.init(jax.random.key(1), xs[0])._replace(bias=jnp.arange(5.0))
    want = np.asarray(xs) @ np.asarray(params.kernel) + np.arange(5.0)
    np.testing.assert_allclose(run(layer, params, xs)[1], want, rtol=1e-5, atol=1e-6)
    assert "scan" not in str(jax.make_jaxpr(lambda p: run(layer, p, xs))(params))


def test_layer_norm_has_mean_0_and_variance_1():
    layer = around.layer_norm()
    params = layer.init(jax.random.key(1), xs[0])
    ys = run(layer, params, 3 + 2 * xs)[1]
    np.testing.assert_allclose(ys.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(ys.var(-1), 1, atol=1e-3)


def test_time_distributed_functions():
    layer = around.time_distributed(lambda params, x: jnp.tanh(x).sum(-1, keepdims=True))
    np.testing.assert_allclose(
        run(layer, (), xs)[1], jnp.tanh(xs).sum(-1, keepdims=True), rtol=1e-6
    )
    scaled = around.time_distributed(
        lambda p, x: p * x, lambda key, x: jnp.full_like(x, 2, shape=()), name="scale"
    )
    assert str(scaled) == "scale"
    np.testing.assert_allclose(run(scaled, scaled.init(key, xs[0]), xs)[1], 2 * xs)


@pytest.mark.parametrize("per", ["step", "sequence"])
def test_dropout_meets_its_rate_and_keeps_the_mean(per):
    layer = around.dropout(0.3, per=per)
    ones = jnp.ones((50, 40, 20))
    ys = np.asarray(run(layer, (), ones, key=key)[1])
    np.testing.assert_allclose(np.unique(ys), [0, 1 / 0.7], rtol=1e-6)
    independent = ys if per == "step" else ys[0]
    n = independent.size
    assert abs((independent == 0).sum() - 0.3 * n) <= 5 * np.sqrt(0.3 * 0.7 * n)
    assert (ys == ys[0]).all() == (per == "sequence")
    assert (np.asarray(run(layer, (), ones)[1]) == 1).all()  # no key means none


def test_dropout_may_be_traced():
    def dropped(rate):
        return (
            run(around.dropout(rate, per="sequence"), (), jnp.ones((2, 10, 100)), key=key)[1] == 0
        )

    shares = jax.vmap(dropped)(jnp.array([0.1, 0.8])).mean((1, 2, 3))
    np.testing.assert_allclose(shares, [0.1, 0.8], atol=0.05)


def test_embed_looks_up():
    layer = around.embed(10, 4)
    params = layer.init(key, tokens[0])
    np.testing.assert_array_equal(run(layer, params, tokens)[1], params.embedding[tokens])


@pytest.mark.parametrize("symbol", [-1, 10])
def test_a_symbol_outside_is_seen(symbol):
    layer = around.embed(10, 4)
    params = layer.init(key, tokens[0])
    _, ys = run(layer, params, tokens.at[2, 1].set(symbol))
    assert jnp.isnan(ys[2, 1]).all()
    assert int(jnp.isnan(ys).sum()) == 4


def test_symbols_of_the_padding_are_not_looked_at():
    layer = around.stack(around.embed(10, 4), cells.lstm(5))
    params = layer.init(key, tokens[0])
    clean = run(layer, params, tokens, lengths=jnp.array([7, 4, 0]))
    dirty = tokens.at[4:, 1].set(-1).at[:, 2].set(99)
    for a, b in zip(
        *map(jax.tree.leaves, (clean, run(layer, params, dirty, lengths=jnp.array([7, 4, 0])))),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_a_tied_embedding_reads_and_writes():
    layer = around.tied_embed(10, 4, around.stack(cells.lstm(5), around.dense(4)))
    params = layer.init(key, tokens[0])
    params = params._replace(bias=jnp.arange(10.0))
    e = params.embedding
    inner = around.stack(cells.lstm(5), around.dense(4))
    want = run(inner, params.layer, e[tokens])[1] @ e.T + params.bias
    np.testing.assert_allclose(run(layer, params, tokens)[1], want, rtol=1e-5, atol=1e-5)
    state = layer.carry(params, tokens[0])
    for t in range(7):
        state, y = layer.step(params, state, tokens[t])
        np.testing.assert_allclose(y, want[t], rtol=1e-5, atol=1e-5)


def test_a_tied_embedding_is_inert_in_the_padding():
    layer = around.tied_embed(10, 4, cells.lstm(4))
    params = layer.init(key, tokens[0])
    lengths = jnp.array([7, 4, 0])

    def loss(params, tokens):
        return jnp.square(run(layer, params, tokens, lengths=lengths)[1]).sum()

    dirty = tokens.at[4:, 1].set(-1).at[:, 2].set(99)
    gradients = [jax.grad(loss)(params, t) for t in (tokens, dirty)]
    for a, b in zip(*map(jax.tree.leaves, gradients), strict=True):
        np.testing.assert_array_equal(a, b)
        assert jnp.isfinite(a).all()


def test_features_must_meet():
    layer = around.tied_embed(10, 4, cells.lstm(5))
    with pytest.raises(ValueError, match=r"what lstm\(5\) makes, 5 features, .* of 4"):
        layer.init(key, tokens[0])


def test_symbols_must_be_integers():
    for layer in (around.embed(10, 4), around.tied_embed(10, 4, cells.lstm(4))):
        with pytest.raises(TypeError, match="needs integers, got float32"):
            layer.init(key, xs[0])
    with pytest.raises(TypeError, match="needs floating-point x, got int32"):
        around.dense(3).init(key, tokens)
