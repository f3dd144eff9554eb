"""What may be written as lists, NumPy's integers, keys among the inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.nnx import Rngs

import jaxrnn
from jaxrnn import Cell, around, cells, linen, methods, nnx, train
from tests.tables import METHODS

T, B, D, H = 4, 2, 3, 5
xs = jnp.asarray(np.random.default_rng(0).standard_normal((T, B, D)), jnp.float32)
cell = cells.lstm(H)
params = cell.init(jax.random.key(0), xs[0])
MASK = [[True, False], [True, True], [False, True], [True, True]]


def same(got, want):
    jax.tree.map(np.testing.assert_array_equal, got, want)


LISTS = {
    "lengths": {"lengths": [4, 2]},
    "lengths of a tuple": {"lengths": (4, 0)},
    "mask": {"mask": MASK},
    "mask of arrays": {"mask": [jnp.array(row) for row in MASK]},
    "resets": {"resets": MASK},
    "carry": {"carry": cells.LSTMCarry([[0.5] * H] * B, [[1] * H] * B)},
    "a leaf of the carry": {"carry": cells.LSTMCarry(jnp.ones((B, H)), [[1.0] * H] * B)},
}


def as_arrays(options):
    carry = options.get("carry")
    if carry is not None:
        return {"carry": cells.LSTMCarry(*(jnp.asarray(leaf, jnp.float32) for leaf in carry))}
    return {name: jnp.asarray(value) for name, value in options.items()}


@pytest.mark.parametrize("name", LISTS)
def test_lists_are_taken_as_arrays(name):
    options = LISTS[name]
    same(
        jaxrnn.run(cell, params, xs, **options), jaxrnn.run(cell, params, xs, **as_arrays(options))
    )


def test_lists_are_taken_by_layers_and_by_explain_and_tune():
    layer = around.stack(cell, around.dense(2))
    weights = layer.init(jax.random.key(0), xs[0])
    want = jaxrnn.run(layer, weights, xs, lengths=jnp.array([4, 2]))
    same(jaxrnn.run(layer, weights, xs, lengths=[4, 2]), want)
    assert "select_n" in str(jaxrnn.explain(cell, params, xs, lengths=[4, 2]))
    only = [methods.lax()]
    assert jaxrnn.tune(cell, params, xs, candidates=only, seconds=0.01, mask=MASK) == only[0]


def test_lists_are_taken_by_flax():
    inputs = jnp.moveaxis(xs, 0, 1)
    options = {"mask": np.array(MASK).T.tolist(), "resets": np.array(MASK).T.tolist()}
    arrays = {name: jnp.asarray(value) for name, value in options.items()}
    carry = cells.LSTMCarry([[0.5] * H] * B, [[1.0] * H] * B)
    model = linen.RNN(cell)
    variables = model.init(jax.random.key(0), inputs)
    got = model.apply(variables, inputs, initial_carry=carry, **options)
    want = model.apply(
        variables, inputs, initial_carry=as_arrays({"carry": carry})["carry"], **arrays
    )
    same(got, want)
    other = nnx.RNN(cell, inputs[:, 0], rngs=Rngs(0))
    same(other(inputs, lengths=[4, 2]), other(inputs, lengths=jnp.array([4, 2])))


def test_lists_are_taken_by_losses_and_by_tbptt():
    ys, labels = jnp.ones((T, B, 3)), jnp.zeros((T, B), int)
    valid = jnp.array(MASK)
    for loss in (
        lambda valid: train.cross_entropy(xs, labels, valid),
        lambda valid: train.mean_squared_error(xs, ys, valid),
        lambda valid: train.ctc(xs, labels[:1] + 1, valid=valid),
        lambda valid: train.activation(xs, 1.0, valid),
        lambda valid: train.temporal_activation(xs, 1.0, valid),
    ):
        same(loss(MASK), loss(valid))

    def squares(ys, batch):
        return jnp.mean(ys**2)

    loss, memory = train.tbptt(cell, squares, k1=T)
    batches = (
        {"xs": xs, "valid": MASK, "resets": MASK},
        {"xs": xs, "valid": valid, "resets": valid},
    )
    same(*(loss(params, batch, jax.random.key(0), memory(params, batch))[0] for batch in batches))


REFUSED = {
    "a ragged mask": (
        {"mask": [[True], [True, False]]},
        ValueError,
        "mask is a list whose rows differ",
    ),
    "lengths of floats": (
        {"lengths": [1.5, 2.0]},
        TypeError,
        "lengths must be integers, got float",
    ),
    "a mask of numbers": ({"mask": [[1, 0]] * T}, TypeError, "mask must be bool, got int"),
    "a short mask": ({"mask": MASK[:2]}, ValueError, r"mask must be \[T, \*batch\] with T=4"),
    "a carry of another size": (
        {"carry": cells.LSTMCarry([[0.5]] * B, [[1.0] * H] * B)},
        ValueError,
        r"the carry of lstm\(5\) differs at carry.h: shape \[2, 1\]",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_lists_that_do_not_fit_are_named(name):
    options, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        jaxrnn.run(cell, params, xs, **options)


def test_a_list_of_time_steps_is_called_that():
    with pytest.raises(
        TypeError, match=r"got a list of 4; if xs is a list of time steps, stack them"
    ):
        jaxrnn.run(cell, params, list(xs))


def test_integers_of_numpy_are_integers():
    four = np.int64(4)
    same(
        jaxrnn.scan(lambda h, x: (h + x, h), jnp.zeros((B, D)), xs, chunk=four, unroll=np.int32(2)),
        jaxrnn.scan(lambda h, x: (h + x, h), jnp.zeros((B, D)), xs, chunk=4, unroll=2),
    )
    loss, memory = train.tbptt(cells.gru(four), lambda ys, batch: jnp.mean(ys**2), k1=four, k2=four)
    weights = cells.gru(four).init(jax.random.key(0), xs[0])
    loss(weights, {"xs": xs}, jax.random.key(0), memory(weights, {"xs": xs}))
    for layer in (
        around.dense(four),
        around.embed(four, four),
        around.causal_conv(four, four),
        around.concat_frames(four),
        cells.mlstm(four, heads=np.int8(2)),
        cells.lru(four, state=four),
        cells.causal_conv(four),
    ):
        assert "np." not in repr(layer)


# Keys, and what else is no number, among the inputs and in the carry.

keys = jax.random.split(jax.random.key(3), (T, B))


def noisy_step(W, carry, x):
    h, _ = carry
    noise = jax.vmap(lambda k: jax.random.normal(k, (H,)))(x["key"])
    h = jnp.tanh(x["x"] @ W + 0.5 * h + noise)
    return (h, x["key"]), h


noisy = Cell(
    name="noisy",
    init=lambda key, x: jax.random.normal(key, (D, H)),
    carry=lambda W, x: (jnp.zeros_like(x["x"], shape=(*x["x"].shape[:-1], H)), x["key"]),
    step=lambda W, carry, x, key=None: noisy_step(W, carry, x),
)
W = noisy.init(jax.random.key(0), None)


@pytest.mark.parametrize("name", [n for n in METHODS if n not in ("newton",)])
@pytest.mark.parametrize(
    "options", [{}, {"lengths": [4, 2]}, {"resets": MASK, "mask": MASK, "reverse": True}], ids=repr
)
def test_keys_are_inputs_and_carried(name, options):
    def outcome(method):
        def loss(W, x):
            (h, key), ys = jaxrnn.run(noisy, W, {"x": x, "key": keys}, method=method, **options)
            return jnp.sum(ys**2) + jnp.sum(h), jax.random.key_data(key)

        return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(W, xs)

    got, want = outcome(METHODS[name]), outcome(methods.lax())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), got, want)


def test_keys_at_invalid_steps_are_held():
    options = {"mask": jnp.zeros((T, B), bool)}
    (h, key), ys = jaxrnn.run(noisy, W, {"x": xs, "key": keys}, **options)
    assert not h.any()
    assert not ys.any()
    assert not jax.random.key_data(key).any()  # the first carry is made of an x of zeros
    first = (jnp.ones((B, H)), keys[0])
    (h, key), _ = jaxrnn.run(noisy, W, {"x": xs, "key": keys}, first, **options)
    same((h, jax.random.key_data(key)), (first[0], jax.random.key_data(keys[0])))


def test_scan_takes_keys_of_every_kind():
    for impl in ("threefry2x32", "rbg"):
        some = jax.random.split(jax.random.key(0, impl=impl), T)

        def step(carry, x):
            h, _ = carry
            return (h + jax.random.normal(x["key"], (2,)), x["key"]), (h, x["key"])

        init = (jnp.zeros(2), some[0])
        got, want = (scan(step, init, {"key": some}) for scan in (jaxrnn.scan, jax.lax.scan))
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
                a, b = jax.random.key_data(a), jax.random.key_data(b)
            np.testing.assert_array_equal(a, b)
