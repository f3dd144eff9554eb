"""Sizes that are symbols: a program exported for every T and every batch is right for each of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jaxrnn
from jaxrnn import around, cells, inside, methods
from tests.tables import CELLS

pytest.importorskip("flatbuffers")
D = 4
SIZES = {"time": "t, 3", "batch": "7, b", "both": "t, b"}
AT = {"time": [(9, 3), (1, 3)], "batch": [(7, 5), (7, 1)], "both": [(9, 5), (1, 1)]}


def exported(layer, sizes, method=None, gradient=False):
    """`run` with lengths and resets, or its gradient, to bytes and back; and the same, not exported."""
    params = layer.init(jax.random.key(0), jnp.zeros((3, D)))
    leaves, tree = jax.tree.flatten(params)

    def flat(leaves, xs, lengths, resets, method):
        def run(params):
            return jaxrnn.run(layer, params, xs, lengths=lengths, resets=resets, method=method)

        def loss(params):
            return sum(jnp.sum(jnp.abs(y) ** 2) for y in jax.tree.leaves(run(params)))

        params = tree.unflatten(leaves)
        return jax.tree.leaves(jax.grad(loss)(params) if gradient else run(params))

    shape = export.symbolic_shape(SIZES[sizes])
    types = (
        [jax.ShapeDtypeStruct(v.shape, v.dtype) for v in leaves],
        jax.ShapeDtypeStruct((*shape, D), jnp.float32),
        jax.ShapeDtypeStruct(shape[1:], jnp.int32),
        jax.ShapeDtypeStruct(shape, jnp.bool_),
    )
    program = export.export(jax.jit(lambda *a: flat(*a, method)))(*types)
    program = export.deserialize(program.serialize())
    return lambda *a: program.call(leaves, *a), lambda *a: flat(leaves, *a, methods.lax())


def check(layer, sizes, method=None, gradient=False):
    ours, plain = exported(layer, sizes, method, gradient)
    draw = np.random.default_rng(0)
    for T, B in AT[sizes]:
        xs = draw.standard_normal((T, B, D), "float32")
        lengths = draw.integers(0, T + 1, B).astype("int32")
        resets = draw.random((T, B)) < 0.2
        got, want = ours(xs, lengths, resets), jax.jit(plain)(xs, lengths, resets)
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", ["lstm", "lru", "mlstm", "qrnn-ifo"])
@pytest.mark.parametrize("sizes", SIZES)
def test_a_cell_is_exported_for_every_size(name, sizes):
    check(CELLS[name], sizes)


@pytest.mark.thorough
@pytest.mark.parametrize("name", CELLS)
def test_every_cell_is_exported_for_every_time_and_batch(name):
    check(CELLS[name], "both")


LAYERS = {
    "stack": around.stack(around.layer_norm(), cells.lstm(5), around.dense(3)),
    "bidirectional": around.bidirectional(cells.gru(5)),
    "convolution": around.stack(around.causal_conv(5, 3), cells.elman(5)),
    "downsample": around.stack(around.downsample(2), cells.elman(5)),
    "concat_frames": around.stack(around.concat_frames(2), cells.elman(5)),
    "zoneout": inside.zoneout(cells.elman(4), 0.2),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_exported_for_every_time_and_batch(name):
    check(LAYERS[name], "both")


METHODS = {
    "scan": methods.scan(),
    "chunks": methods.scan(chunk=3, remat=True),
    "unroll": methods.scan(unroll=2),
    "feature_major": methods.scan(hoist=False, feature_major=True),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("gradient", [False, True], ids=["forward", "gradient"])
def test_a_method_is_exported_for_every_time_and_batch(name, gradient):
    check(CELLS["lstm"], "both", METHODS[name], gradient)


@pytest.mark.parametrize("method", [methods.associative(), methods.associative(block=2)], ids=repr)
def test_a_linear_recurrence_is_exported_for_every_batch(method):
    check(CELLS["lru"], "batch", method, gradient=True)


def test_all_steps_at_once_need_their_number():
    with pytest.raises(NotImplementedError, match="the number of steps, which here is a symbol"):
        exported(CELLS["lru"], "time", methods.associative())


def test_a_step_of_a_users_own_is_exported():
    W = jnp.eye(D) * 0.5

    def step(h, x):
        h = jnp.tanh(x @ W + h @ W)
        return h, h

    def run(h, xs):
        return jaxrnn.scan(step, h, xs)

    t, b = export.symbolic_shape("t, b")
    types = (jax.ShapeDtypeStruct((b, D), "float32"), jax.ShapeDtypeStruct((t, b, D), "float32"))
    program = export.deserialize(export.export(jax.jit(run))(*types).serialize())
    h, xs = jnp.ones((2, D)), jnp.ones((5, 2, D))
    want = jax.lax.scan(step, h, xs)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), program.call(h, xs), want
    )
