"""`linen.RNN` is `jaxrnn.run`, under the names, streams and transformations of Flax Linen."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import serialization

import jaxrnn
from jaxrnn import around, cells, linen, methods
from jaxrnn.batch_major import check_layer
from jaxrnn.named import nested
from tests.flax.cases import (
    CASES,
    FLOATS,
    LENGTHS,
    B,
    D,
    H,
    T,
    drawn,
    names,
    time_first,
    with_gradient,
)
from tests.peers.agreement import assert_close

KEY = jax.random.key(0)
INIT_KEY = linen.RNN(cells.lstm(H)).bind({}, rngs={"params": KEY}).make_rng("params")
NOISY = around.stack(cells.elman(H), around.dropout(0.5))


def params_of(layer, inputs):
    return layer.init(INIT_KEY, inputs[:, 0])


def test_parameters_are_those_of_one_init_by_name(case):
    variables = linen.RNN(case.layer).init(KEY, case.inputs)
    assert set(variables) == {"params"}
    assert names(variables["params"]) == case.names
    ours = params_of(case.layer, case.inputs)
    assert_close(variables["params"], nested(ours), 0)


def test_values_and_gradients_are_those_of_run(case):
    reverse, method = case.layer.step is not None, methods.lax()
    model = linen.RNN(case.layer, return_carry=True, reverse=reverse, method=method)
    variables, ours = model.init(KEY, case.inputs), params_of(case.layer, case.inputs)

    def wrapped(params):
        return model.apply({"params": params}, case.inputs, lengths=LENGTHS)

    def bare(params):
        options = {"lengths": LENGTHS, "reverse": reverse, "method": method}
        carry, ys = jaxrnn.run(case.layer, params, time_first(case.inputs), **options)
        return carry, time_first(ys)

    got, slopes = with_gradient(wrapped, variables["params"])
    want, gradient = with_gradient(bare, ours)
    assert_close(got, want, 1e-6)
    assert_close(slopes, nested(gradient), 1e-5)


def test_mask_resets_and_carry_are_passed_with_time_after_the_batch():
    layer = cells.gru(H)
    model = linen.RNN(layer, return_carry=True, method=methods.lax())
    variables, params = model.init(KEY, FLOATS), params_of(layer, FLOATS)
    mask, resets = drawn(B, T, seed=1) > -0.5, drawn(B, T, seed=2) > 0.5
    carry = drawn(B, H, seed=3)
    got = model.apply(variables, FLOATS, initial_carry=carry, mask=mask, resets=resets)
    flags = {"mask": mask.T, "resets": resets.T}
    last, ys = jaxrnn.run(layer, params, time_first(FLOATS), carry, **flags)
    assert_close(got, (last, time_first(ys)), 1e-6)


def test_a_carry_that_was_returned_resumes():
    model = linen.RNN(cells.lstm(H))
    variables = model.init(KEY, FLOATS)
    carry, first = model.apply(variables, FLOATS[:, :2], return_carry=True)
    rest = model.apply(variables, FLOATS[:, 2:], initial_carry=carry)
    whole = model.apply(variables, FLOATS)
    assert_close(jnp.concatenate([first, rest], axis=1), whole, 1e-6)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("batch", [(), (B,), (2, B)])
def test_any_number_of_batch_axes_and_time_first(name, batch):
    case = CASES[name]
    inputs = jnp.broadcast_to(case.inputs[0], (*batch, *case.inputs.shape[1:]))
    model = linen.RNN(case.layer)
    variables = model.init(KEY, case.inputs)
    got = model.apply(variables, inputs)
    one = model.apply(variables, case.inputs)[0]
    assert_close(got, jnp.broadcast_to(one, (*batch, *one.shape)), 1e-6)
    axis = len(batch)
    swapped = model.apply(variables, jnp.moveaxis(inputs, axis, 0), time_major=True)
    assert_close(jnp.moveaxis(swapped, 0, axis), got, 1e-6)


def test_features_of_several_axes_and_trees():
    def apply(params, x):
        return jnp.sum(x["image"], (-1, -2)) + x["symbol"]

    inputs = {"image": drawn(B, T, 2, 3), "symbol": jnp.arange(B * T).reshape(B, T)}
    model = linen.RNN(around.time_distributed(apply), feature_axes=None)
    with pytest.raises(ValueError, match=r"differ .* inputs\['image'\] \[3, 5, 2\], .*'symbol'"):
        model.init(KEY, inputs)
    images = linen.RNN(
        around.time_distributed(lambda params, x: jnp.sum(x, (-1, -2))), feature_axes=2
    )
    assert_close(images.apply({}, inputs["image"]), jnp.sum(inputs["image"], (-1, -2)), 1e-6)


def test_noise_needs_the_stream_dropout():
    model = linen.RNN(NOISY)
    variables = model.init(KEY, FLOATS)
    quiet = model.apply(variables, FLOATS)
    assert_close(quiet, model.apply(variables, FLOATS, rngs={"params": KEY}), 0)
    noisy = model.apply(variables, FLOATS, rngs={"dropout": jax.random.key(1)})
    dropped = noisy == 0
    assert 0 < int(dropped.sum()) < dropped.size
    assert_close(jnp.where(dropped, 2 * quiet, noisy), 2 * quiet, 1e-6)
    again = model.apply(variables, FLOATS, rngs={"dropout": jax.random.key(1)})
    assert_close(noisy, again, 0)
    other = model.apply(variables, FLOATS, rngs={"dropout": jax.random.PRNGKey(2)})
    assert bool(((other == 0) != dropped).any())


def test_dtypes_are_promoted():
    model = linen.RNN(cells.lstm(H, dtype=jnp.bfloat16))
    half = FLOATS.astype(jnp.bfloat16)
    variables = model.init(KEY, half)
    assert model.apply(variables, half).dtype == jnp.bfloat16
    assert model.apply(variables, FLOATS).dtype == jnp.float32


def test_an_ensemble_by_vmap():
    ensemble = nn.vmap(
        linen.RNN,
        in_axes=None,
        variable_axes={"params": 0},
        split_rngs={"params": True, "dropout": True},
        axis_size=2,
    )(NOISY)
    variables = ensemble.init(KEY, FLOATS)
    outputs = ensemble.apply(variables, FLOATS)
    each = [jax.tree.map(lambda leaf, i=i: leaf[i], variables) for i in range(2)]
    assert_close(outputs, jnp.stack([linen.RNN(NOISY).apply(v, FLOATS) for v in each]), 1e-6)
    noisy = ensemble.apply(variables, FLOATS, rngs={"dropout": KEY})
    assert bool(((noisy[0] == 0) != (noisy[1] == 0)).any())


@pytest.mark.parametrize("transform", [nn.jit, nn.remat])
def test_transformed(transform):
    model = linen.RNN(NOISY)
    variables = model.init(KEY, FLOATS)
    inputs = model.apply(variables, FLOATS)
    assert_close(transform(linen.RNN)(NOISY).apply(variables, FLOATS), inputs, 1e-6)
    again = transform(linen.RNN)(NOISY).init(KEY, FLOATS)
    assert jax.tree.map(jnp.shape, again) == jax.tree.map(jnp.shape, variables)


class Shared(nn.Module):
    """One recurrence used twice, and a head."""

    @nn.compact
    def __call__(self, inputs):
        layer = linen.RNN(cells.gru(D), name="recurrence")
        return nn.Dense(1)(layer(layer(inputs)))


def test_inside_a_model_its_parameters_are_shared_and_named():
    variables = Shared().init(KEY, FLOATS)
    assert names(variables["params"]) == {
        *(f"recurrence/{n}" for n in ("input", "recurrent", "bias", "recurrent_bias")),
        *("Dense_0/kernel", "Dense_0/bias"),
    }
    assert Shared().apply(variables, FLOATS).shape == (B, T, 1)


def test_a_loss_falls_under_an_optimizer_that_sees_names():
    model = linen.RNN(around.stack(cells.lstm(H), around.dense(D)))
    variables = model.init(KEY, FLOATS)
    frozen = {"params": {"0": {"input": True, "recurrent": False, "bias": False}, "1": False}}
    optimizer = optax.chain(optax.adam(0.02), optax.masked(optax.set_to_zero(), frozen))

    @jax.jit
    def update(variables, state):
        def loss(variables):
            return jnp.mean((model.apply(variables, FLOATS) - FLOATS) ** 2)

        value, gradient = jax.value_and_grad(loss)(variables)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(variables, updates), state, value

    state, losses, start = optimizer.init(variables), [], variables
    for _ in range(60):
        variables, state, value = update(variables, state)
        losses.append(float(value))
    assert losses[-1] < 0.5 * losses[0]
    before, after = start["params"]["0"], variables["params"]["0"]
    assert_close(before["input"], after["input"], 0)
    assert bool((before["recurrent"] != after["recurrent"]).any())


def test_serialized_and_back(case):
    model = linen.RNN(case.layer)
    variables = model.init(KEY, case.inputs)
    blank = jax.tree.map(jnp.zeros_like, variables)
    back = serialization.from_bytes(blank, serialization.to_bytes(variables))
    assert_close(model.apply(back, case.inputs), model.apply(variables, case.inputs), 0)


def test_tabulated(case):
    table = linen.RNN(case.layer).tabulate(KEY, case.inputs)
    assert all(name.split("/")[-1] in table for name in case.names)


def test_init_is_called_once():
    keys = []

    def init(key, x):
        if not isinstance(key, jax.core.Tracer):
            keys.append(key)
        return cells.lstm(H).init(key, x)

    cell = cells.lstm(H)
    counted = jaxrnn.Cell(name="counted", init=init, carry=cell.carry, step=cell.step)
    linen.RNN(counted).init(KEY, FLOATS)
    assert len(keys) == 1


def test_it_computes_what_flax_computes():
    theirs = nn.RNN(nn.LSTMCell(H), return_carry=True)
    variables = theirs.init(KEY, FLOATS)
    gates = variables["params"]["cell"]

    def columns(side, leaf):
        return jnp.concatenate([gates[side + gate][leaf] for gate in "ifog"], axis=-1)

    params = {
        "input": columns("i", "kernel"),
        "recurrent": columns("h", "kernel"),
        "bias": columns("h", "bias"),
    }
    lengths = jnp.array([5, 1, 3])
    (h, c), ys = linen.RNN(cells.lstm(H), return_carry=True).apply(
        {"params": params}, FLOATS, lengths=lengths
    )
    (their_c, their_h), their_ys = theirs.apply(variables, FLOATS, seq_lengths=lengths)
    valid = (jnp.arange(T) < lengths[:, None])[..., None]
    assert_close((h, c, ys), (their_h, their_c, jnp.where(valid, their_ys, 0)), 1e-6)


ERRORS = {
    "a cell of Flax": (
        # Under the tests' type checker RNN() itself is never reached.
        lambda: check_layer(nn.LSTMCell(3), "linen.RNN"),
        TypeError,
        r"linen.RNN\(\) takes a Cell or a Layer of jaxrnn, .* got LSTMCell",
    ),
    "no parameters": (
        lambda: linen.RNN(cells.lstm(H)).apply({}, FLOATS),
        ValueError,
        r"lstm\(4\) needs a parameter input and finds none",
    ),
    "parameters of another layer": (
        lambda: linen.RNN(around.stack(cells.lstm(H))).apply({"params": {"0": 1.0}}, FLOATS),
        ValueError,
        r"stack\(lstm\(4\)\) needs a parameter 0/input and finds none",
    ),
    "a list of steps": (
        lambda: linen.RNN(cells.lstm(H)).init(KEY, [1.0, 2.0]),
        TypeError,
        r"inputs\[0\] must be an array, got float; .* jnp\.stack",
    ),
    "no arrays": (
        lambda: linen.RNN(cells.lstm(H)).init(KEY, {}),
        ValueError,
        "inputs holds no array",
    ),
    "too few axes": (
        lambda: linen.RNN(cells.lstm(H)).init(KEY, jnp.ones(3)),
        ValueError,
        r"inputs needs a time axis, \[\*batch, T, \*features\], got \[3\] with 1 axes of features",
    ),
    "a mask with time first": (
        lambda: linen.RNN(cells.lstm(H)).init(KEY, FLOATS, mask=jnp.ones((T, B), bool)),
        ValueError,
        r"mask must be \[\*batch, T\] = \[3, 5\], as inputs begins, got \[5, 3\]",
    ),
    "other features": (
        lambda: linen.RNN(cells.lstm(H)).apply(
            linen.RNN(cells.lstm(H)).init(KEY, FLOATS), drawn(B, T, D + 1)
        ),
        ValueError,
        r"lstm\(4\) got x with 3 features .* params.input is \[2, 16\]",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_message(name):
    call, error, text = ERRORS[name]
    with pytest.raises(error, match=text):
        call()


def test_numpy_goes_in():
    model = linen.RNN(cells.lstm(H))
    variables = jax.tree.map(np.asarray, model.init(KEY, np.asarray(FLOATS)))
    want = model.apply(variables, FLOATS)
    assert_close(model.apply(variables, np.asarray(FLOATS)), want, 0)
