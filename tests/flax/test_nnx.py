"""`nnx.RNN` is `jaxrnn.run`, under the names, streams and transformations of Flax NNX."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx as flax_nnx

import jaxrnn
from jaxrnn import around, cells, methods, nnx
from jaxrnn.batch_major import check_layer
from jaxrnn.named import nested, restored
from tests.flax.cases import (
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

KEY = flax_nnx.Rngs(0).params()
NOISY = around.stack(cells.elman(H), around.dropout(0.5))


def made(layer, inputs=FLOATS, **options):
    return nnx.RNN(layer, inputs[:, 0], rngs=flax_nnx.Rngs(0), **options)


def test_parameters_are_those_of_one_init_by_name(case):
    model = made(case.layer, case.inputs)
    state = flax_nnx.state(model)
    assert names(flax_nnx.to_pure_dict(state)) == {f"params/{name}" for name in case.names}
    params = jax.tree.leaves(state, is_leaf=lambda leaf: isinstance(leaf, flax_nnx.Variable))
    assert all(type(param) is flax_nnx.Param for param in params)
    ours = case.layer.init(KEY, case.inputs[:, 0])
    assert_close(flax_nnx.to_pure_dict(state)["params"], nested(ours), 0)


def test_values_and_gradients_are_those_of_run_after_split_and_merge(case):
    reverse, method = case.layer.step is not None, methods.lax()
    model = made(case.layer, case.inputs, return_carry=True, reverse=reverse, method=method)
    graph, state = flax_nnx.split(model, flax_nnx.Param)

    def wrapped(params):
        flax_nnx.replace_by_pure_dict(state, {"params": params})
        return flax_nnx.merge(graph, state)(case.inputs, lengths=LENGTHS)

    def bare(params):
        options = {"lengths": LENGTHS, "reverse": reverse, "method": method}
        carry, ys = jaxrnn.run(case.layer, params, time_first(case.inputs), **options)
        return carry, time_first(ys)

    ours = case.layer.init(KEY, case.inputs[:, 0])
    got, slopes = with_gradient(wrapped, nested(ours))
    want, gradient = with_gradient(bare, ours)
    assert_close(got, want, 1e-6)
    assert_close(slopes, nested(gradient), 1e-5)


def test_mask_resets_and_carry_are_passed_with_time_after_the_batch():
    layer = cells.gru(H)
    model, params = made(layer, return_carry=True, method=methods.lax()), layer.init(KEY, FLOATS)
    mask, resets = drawn(B, T, seed=1) > -0.5, drawn(B, T, seed=2) > 0.5
    carry = drawn(B, H, seed=3)
    got = model(FLOATS, initial_carry=carry, mask=mask, resets=resets)
    flags = {"mask": mask.T, "resets": resets.T}
    last, ys = jaxrnn.run(layer, params, time_first(FLOATS), carry, **flags)
    assert_close(got, (last, time_first(ys)), 1e-6)
    swapped = model(
        time_first(FLOATS),
        initial_carry=carry,
        mask=mask.T,
        resets=resets.T,
        time_major=True,
        return_carry=False,
    )
    assert_close(swapped, ys, 1e-6)


def test_noise_needs_a_stream_or_a_key():
    model = made(NOISY)
    quiet = model(FLOATS)
    key = flax_nnx.Rngs(dropout=1).dropout()
    noisy = model(FLOATS, rngs=flax_nnx.Rngs(dropout=1))
    dropped = noisy == 0
    assert 0 < int(dropped.sum()) < dropped.size
    assert_close(jnp.where(dropped, 2 * quiet, noisy), 2 * quiet, 1e-6)
    assert_close(model(FLOATS, rngs=key), noisy, 0)
    rngs = flax_nnx.Rngs(1)
    first, second = model(FLOATS, rngs=rngs), model(FLOATS, rngs=rngs)
    assert bool(((first == 0) != (second == 0)).any())


def test_a_loss_falls_under_an_optimizer_with_noise():
    model = made(around.stack(cells.elman(8), around.dropout(0.1), around.dense(D)))
    optimizer = flax_nnx.Optimizer(model, optax.adam(0.02), wrt=flax_nnx.Param)
    rngs = flax_nnx.Rngs(dropout=0)

    @flax_nnx.jit
    def update(model, optimizer, rngs):
        def loss(model, rngs):
            return jnp.mean((model(FLOATS, rngs=rngs) - FLOATS) ** 2)

        value, gradient = flax_nnx.value_and_grad(loss)(model, rngs)
        optimizer.update(model, gradient)
        return value

    losses = [float(update(model, optimizer, rngs)) for _ in range(60)]
    assert losses[-1] < 0.6 * losses[0]


def test_an_ensemble_by_vmap():
    @flax_nnx.split_rngs(splits=2)
    @flax_nnx.vmap
    def make(rngs):
        return nnx.RNN(NOISY, FLOATS[:, 0], rngs=rngs)

    def run(model, inputs, rngs):
        return model(inputs, rngs=rngs)

    ensemble = make(flax_nnx.Rngs(0))
    graph, state = flax_nnx.split(ensemble, flax_nnx.Param)
    each = [flax_nnx.merge(graph, jax.tree.map(lambda leaf, i=i: leaf[i], state)) for i in range(2)]
    outputs = flax_nnx.vmap(run, in_axes=(0, None, None))(ensemble, FLOATS, None)
    assert_close(outputs, jnp.stack([model(FLOATS) for model in each]), 1e-6)
    rngs = flax_nnx.Rngs(dropout=0).split(2)
    noisy = flax_nnx.vmap(run, in_axes=(0, None, 0))(ensemble, FLOATS, rngs)
    assert bool(((noisy[0] == 0) != (noisy[1] == 0)).any())


class Model(flax_nnx.Module):
    def __init__(self, rngs):
        self.recurrence = nnx.RNN(cells.gru(H), jax.ShapeDtypeStruct((D,), "float32"), rngs=rngs)
        self.head = flax_nnx.Linear(H, 1, rngs=rngs)

    def __call__(self, inputs):
        return self.head(self.recurrence(inputs))


def test_inside_a_model():
    model = Model(flax_nnx.Rngs(0))
    graph, params = flax_nnx.split(model, flax_nnx.Param)
    assert {"recurrence/params/recurrent", "head/kernel"} < names(flax_nnx.to_pure_dict(params))
    outputs = jax.jit(lambda params: flax_nnx.merge(graph, params)(FLOATS))(params)
    assert outputs.shape == (B, T, 1)
    abstract = flax_nnx.eval_shape(lambda: Model(flax_nnx.Rngs(0)))
    assert jax.tree.map(jnp.shape, flax_nnx.state(abstract)) == jax.tree.map(jnp.shape, params)


def test_two_models_of_one_layer_compile_once():
    traced = []

    @flax_nnx.jit
    def run(model, inputs):
        traced.append(1)
        return model(inputs)

    layer = cells.elman(H)
    for model in (made(layer), made(layer)):
        run(model, FLOATS)
    assert len(traced) == 1


def test_it_computes_what_flax_computes():
    theirs = flax_nnx.RNN(flax_nnx.LSTMCell(D, H, rngs=flax_nnx.Rngs(1)), return_carry=True)

    def columns(side, leaf):
        gates = [vars(theirs.cell)[f"{side}{gate}".replace("if", "if_")] for gate in "ifog"]
        return jnp.concatenate([getattr(gate, leaf)[...] for gate in gates], axis=-1)

    ours = made(cells.lstm(H), return_carry=True)
    ours.params["input"][...] = columns("i", "kernel")
    ours.params["recurrent"][...] = columns("h", "kernel")
    ours.params["bias"][...] = columns("h", "bias")
    (h, c), ys = ours(FLOATS)
    (their_c, their_h), their_ys = theirs(FLOATS)
    assert_close((h, c, ys), (their_h, their_c, their_ys), 1e-6)


ERRORS = {
    "a cell of Flax": (
        lambda: check_layer(flax_nnx.GRUCell(D, H, rngs=flax_nnx.Rngs(0)), "nnx.RNN"),
        TypeError,
        r"nnx.RNN\(\) takes a Cell or a Layer of jaxrnn, .* got GRUCell",
    ),
    "no stream for noise": (
        lambda: made(NOISY)(FLOATS, rngs=flax_nnx.Rngs(params=0)),
        ValueError,
        r"rngs needs a stream 'dropout', nnx.Rngs\(dropout=0\); it has \['params'\]",
    ),
    "a seed for a key": (
        lambda: made(NOISY)(FLOATS, rngs=3),
        TypeError,
        "key must be a typed JAX key, got int",
    ),
    "lengths beyond T": (
        lambda: made(NOISY)(FLOATS, lengths=jnp.array([1, 6, 2])),
        ValueError,
        r"lengths must lie in 0\.\.T=5, got \[6\]",
    ),
    "resets with time first": (
        lambda: made(NOISY)(FLOATS, resets=jnp.zeros((T, B), bool)),
        ValueError,
        r"resets must be \[\*batch, T\] = \[3, 5\]",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_message(name):
    call, error, text = ERRORS[name]
    with pytest.raises(error, match=text):
        call()


@pytest.mark.parametrize(
    "params", [3.0, {}, (), {"a": (1.0, {"b": 2.0}), "c": None}, cells.ElmanParams(1, 2, 3)]
)
def test_names_lead_back(params):
    assert restored(jax.tree.structure(params), nested(params), "it") == params


def test_two_parameters_of_one_name_are_refused():
    @jax.tree_util.register_pytree_with_keys_class
    class Twins:
        def tree_flatten_with_keys(self):
            return [(jax.tree_util.GetAttrKey("twin"), 1.0)] * 2, None

        @classmethod
        def tree_unflatten(cls, aux, leaves):
            return cls()

    with pytest.raises(ValueError, match="two parameters are called 0/twin"):
        nested((Twins(),))


@pytest.mark.parametrize("name", ["linen", "nnx"])
def test_flax_is_asked_for_only_where_it_is_needed(name):
    code = (
        "import sys; sys.modules['flax'] = None\n"
        "import jaxrnn\n"
        f"try:\n    from jaxrnn import {name}\n"
        "except ImportError as error:\n    print(error)\n"
    )
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, cwd=Path(jaxrnn.__file__).parents[1])
    assert done.stdout == f"jaxrnn.{name} needs Flax: pip install 'jaxrnn[flax]'\n", done.stderr
