"""Layers one after the other: streams, carries, noise, and flags of thinned time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import around, cells, inside, methods, run

xs = jax.random.normal(jax.random.key(0), (7, 3, 4))
lengths = jnp.array([7, 4, 0])


def close(got, want):
    for a, b in zip(*map(jax.tree.leaves, (got, want)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_stack_is_its_layers_one_after_the_other():
    first, second = cells.lstm(5), cells.gru(6)
    layer = around.stack(first, around.dense(3), second)
    params = layer.init(jax.random.key(1), xs[0])
    carry, ys = run(layer, params, xs, lengths=lengths, reverse=True)
    options = {"lengths": lengths, "reverse": True}
    c0, h = run(first, params[0], xs, **options)
    h = h @ params[1].kernel + params[1].bias
    c2, want = run(second, params[2], h, **options)
    close((carry[0], carry[2], ys), (c0, c2, want))


def test_a_stack_streams():
    layer = around.stack(
        around.embed(10, 4),
        cells.lstm(5),
        around.causal_conv(4, 3),
        around.layer_norm(),
        cells.gru(3),
    )
    tokens = jax.random.randint(jax.random.key(2), (7, 3), 0, 10)
    params = layer.init(jax.random.key(1), tokens[0])
    state, step = layer.carry(params, tokens[0]), jax.jit(layer.step)
    _, whole = run(layer, params, tokens)
    for x, want in zip(tokens, whole, strict=True):
        state, y = step(params, state, x)
        close(y, want)


def test_what_cannot_stream_has_no_step():
    assert around.stack(cells.lstm(4), around.bidirectional(cells.gru(4))).step is None
    assert around.residual(around.bidirectional(cells.gru(2))).step is None
    assert around.stack(around.concat_frames(2)).step is None


def test_each_layer_hoists_its_projection(monkeypatch):
    """One loop for each layer, and in each of them only the recurrent product."""
    layer = around.stack(cells.elman(5), cells.elman(6))
    params = layer.init(jax.random.key(1), xs[0])
    jaxpr = jax.make_jaxpr(lambda p: run(layer, p, xs, method=methods.scan()))(params)
    text = str(jaxpr)
    assert text.count("scan[") == 2
    assert text.count("dot_general[") == 4


def test_noise_differs_between_equal_layers():
    drop = around.dropout(0.5, per="sequence")
    layer = around.stack(drop, drop)
    params = layer.noise(layer.init(jax.random.key(1), xs[0]), xs[0], jax.random.key(2))
    assert not (params[0].masks == params[1].masks).all()


def test_thinned_time_takes_its_flags_along():
    """A pyramid: after concat_frames(2) a row of 4 valid frames has 2, and resets stay."""
    layer = around.stack(around.concat_frames(2), cells.gru(5))
    params = layer.init(jax.random.key(1), xs[0])
    resets = jnp.zeros((7, 3), bool).at[5, 0].set(True)
    carry, ys = run(layer, params, xs, lengths=lengths, resets=resets)
    valid = (jnp.arange(7)[:, None] < lengths)[..., None]
    pairs = jnp.pad(jnp.where(valid, xs, 0), ((0, 1), (0, 0), (0, 0))).reshape(4, 2, 3, 4)
    pairs = jnp.concatenate([pairs[:, 0], pairs[:, 1]], -1)
    after = resets.at[:].get()
    again = jnp.pad(after, ((0, 1), (0, 0))).reshape(4, 2, 3).any(1)
    want = run(cells.gru(5), params[1], pairs, lengths=jnp.array([4, 2, 0]), resets=again)
    close((carry[1], ys), want)


def test_residual_adds_the_input_where_it_is_valid():
    layer = around.residual(around.stack(cells.lstm(5), around.dense(4)))
    params = layer.init(jax.random.key(1), xs[0])
    dirty = xs.at[4:, 1].set(jnp.nan).at[:, 2].set(jnp.inf)
    _, ys = run(layer, params, dirty, lengths=lengths)
    assert (ys[4:, 1] == 0).all()
    inner = run(around.stack(cells.lstm(5), around.dense(4)), params, xs, lengths=lengths)[1]
    close(ys[:4, :2], (xs + inner)[:4, :2])


def test_methods_reach_every_layer():
    layer = around.stack(
        cells.lstm(5), around.residual(cells.gru(5)), around.bidirectional(cells.mgu(3))
    )
    params = layer.init(jax.random.key(1), xs[0])
    want = run(layer, params, xs, lengths=lengths, method=methods.lax())
    for method in (None, methods.scan(chunk=3), methods.scan(chunk=2, remat=True)):
        close(run(layer, params, xs, lengths=lengths, method=method), want)


def test_gradients_reach_every_parameter():
    layer = around.stack(
        around.embed(10, 4),
        around.dropout(0.1),
        inside.recurrent_dropout(cells.lstm(5), 0.2),
        around.residual(cells.gru(5)),
        around.layer_norm(),
        around.dense(10),
    )
    tokens = jax.random.randint(jax.random.key(2), (7, 3), 0, 10)
    params = layer.init(jax.random.key(1), tokens[0])

    def loss(params):
        return jnp.square(run(layer, params, tokens, key=jax.random.key(3))[1]).sum()

    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(params)):
        assert float(abs(leaf).max()) > 0, path


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (around.stack, ValueError, "at least one layer"),
        (
            lambda: around.stack(cells.lstm),
            TypeError,
            r"stack\(\) takes cells and layers, got <func",
        ),
        (lambda: around.residual(3), TypeError, "takes a cell or a layer, got 3"),
        (lambda: around.residual(around.downsample(2)), ValueError, "one y of 2 x"),
        (lambda: around.dropout(1.5), ValueError, "0 <= rate < 1, got 1.5"),
        (lambda: around.dropout(0.5, per="batch"), ValueError, "got per='batch'"),
        (lambda: around.dense(0), ValueError, "positive number of features, got 0"),
        (lambda: around.embed(0, 3), ValueError, "positive number of symbols, got 0"),
        (lambda: around.causal_conv(3, 0), ValueError, "width of at least one"),
        (lambda: around.concat_frames(0), ValueError, "positive number of frames, got 0"),
        (lambda: around.bidirectional(cells.lstm(3), merge="mul"), ValueError, "got merge='mul'"),
        (lambda: around.bidirectional(None), TypeError, "takes cells and layers, got None"),
    ],
)
def test_wrong_arguments_are_refused(make, error, message):
    # Under the tests the annotations are checked as well, and before anything else.
    early = "|Type-check error" if error is TypeError else ""
    with pytest.raises(error, match=message + early):
        make()


def test_a_layer_that_cannot_read_what_comes_is_refused():
    layer = around.stack(cells.lstm(5), around.residual(cells.gru(6)))
    with pytest.raises(ValueError, match=r"residual\(gru\(6\)\) adds x to y"):
        jaxrnn.run(layer, layer.init(jax.random.key(0), xs[0]), xs)
