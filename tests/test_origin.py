"""What is made alike is equal, and can be hashed, pickled, a static argument."""

import copy
import dataclasses
import functools
import gc
import pickle
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import around, cells, inside, methods
from tests.tables import CELLS, METHODS

FACTORIES = {
    "lstm": lambda: cells.lstm(8, forget_bias=2.0),
    "elman": lambda: cells.elman(8, activation=jnp.tanh),
    "lru": lambda: cells.lru(8, state=4),
    "mlstm": lambda: cells.mlstm(8, heads=2),
    "zoneout": lambda: inside.zoneout(cells.lstm(8), cells.LSTMCarry(0.1, None)),
    "recurrent_dropout": lambda: inside.recurrent_dropout(cells.gru(8), 0.1),
    "drop_connect": lambda: inside.drop_connect(cells.gru(8), 0.1),
    "residual": lambda: inside.residual(cells.gru(8)),
    "project": lambda: inside.project(cells.lstm(8), 4),
    "clip_carry": lambda: inside.clip_carry(cells.gru(8), 1.0),
    "learned_carry": lambda: inside.learned_carry(cells.gru(8)),
    "leaky": lambda: inside.leaky(cells.gru(8), 2.0),
    "narrow": lambda: inside.narrow(cells.gru(8), 4),
    "stack": lambda: around.stack(cells.lstm(8), around.dropout(0.1), around.dense(3)),
    "bidirectional": lambda: around.bidirectional(cells.gru(8), merge="sum"),
    "residual layer": lambda: around.residual(around.layer_norm()),
    "embed": lambda: around.embed(10, 8),
    "tied_embed": lambda: around.tied_embed(10, 8, cells.gru(8)),
    "causal_conv": lambda: around.causal_conv(8, 3),
    "frames": lambda: around.stack(around.concat_frames(2), around.downsample(2)),
    "time_distributed": lambda: around.time_distributed(jax.nn.relu),
}


@pytest.mark.parametrize("name", FACTORIES)
def test_made_alike_is_equal(name):
    one, other = FACTORIES[name](), FACTORIES[name]()
    assert one is not other
    assert one == other
    assert hash(one) == hash(other)
    assert repr(one) == repr(other)
    assert copy.deepcopy(one) is one


@pytest.mark.parametrize("name", FACTORIES)
def test_pickled_and_back_it_is_equal(name):
    layer = FACTORIES[name]()
    assert pickle.loads(pickle.dumps(layer)) == layer


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_survives_pickling(name):
    assert pickle.loads(pickle.dumps(CELLS[name])) == CELLS[name]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_survives_pickling(name):
    method = METHODS[name]
    assert pickle.loads(pickle.dumps(method)) == method


DIFFERENT = {
    "an option": (cells.lstm(8), cells.lstm(8, forget_bias=2.0)),
    "a factory": (cells.gru(8), cells.gru_reset_before(8)),
    "1 and True": (cells.lstm(8, forget_bias=1), cells.lstm(8, forget_bias=True)),
    "1 and 1.0": (cells.lstm(8, forget_bias=1), cells.lstm(8, forget_bias=1.0)),
    "a function": (cells.elman(8), cells.elman(8, activation=jax.nn.relu)),
    "0.0 and -0.0": (cells.lstm(8, forget_bias=0.0), cells.lstm(8, forget_bias=-0.0)),
    "the cell inside": (inside.zoneout(cells.gru(8), 0.1), inside.zoneout(cells.gru(9), 0.1)),
    "the order": (
        around.stack(cells.gru(8), around.dense(8)),
        around.stack(around.dense(8), cells.gru(8)),
    ),
    "an array": (
        inside.leaky(cells.gru(2), jnp.array([2.0, 3.0])),
        inside.leaky(cells.gru(2), jnp.array([2.0, 3.0])),
    ),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_made_otherwise_it_is_another(name):
    one, other = DIFFERENT[name]
    assert one != other
    assert one == one
    assert len({one, other}) == 2


def test_however_the_arguments_are_given():
    assert cells.lstm(8) == cells.lstm(features=8) == cells.lstm(np.int64(8), forget_bias=1.0)
    assert inside.zoneout(cell=cells.gru(8), rate=0.1) == inside.zoneout(cells.gru(8), 0.1)


def test_the_same_array_makes_the_same_cell():
    constant = jnp.array([2.0, 3.0])
    assert inside.leaky(cells.gru(2), constant) == inside.leaky(cells.gru(2), constant)


def test_a_cell_with_another_step_has_no_origin():
    cell = cells.gru(8)
    other = dataclasses.replace(cell, step=lambda p, h, x, key=None: (h, h))
    assert other != cell
    assert other.origin is None
    assert jaxrnn.Cell(**vars(cell)).origin is None


@jaxrnn.factory
def irnn(features):
    return cells.elman(features, activation=jax.nn.relu)


def test_a_factory_of_a_users_own():
    assert irnn(8) == irnn(8) != irnn(9)
    assert irnn(8) != cells.elman(8, activation=jax.nn.relu)
    assert pickle.loads(pickle.dumps(irnn(8))) == irnn(8)
    assert irnn.__name__ == "irnn"


def test_equal_cells_are_one_static_argument():
    traces = []

    def outputs(cell, params, xs):
        traces.append(cell)
        return jaxrnn.run(cell, params, xs)[1]

    compiled = jax.jit(outputs, static_argnums=0)
    xs = jnp.ones((3, 2, 4))
    params = cells.gru(5).init(jax.random.key(0), xs[0])
    for _ in range(3):
        compiled(around.stack(cells.gru(5)), (params,), xs)
    assert len(traces) == 1


def test_equal_cells_share_what_is_compiled_eagerly():
    traces = []

    @jaxrnn.factory
    def noting(features):
        inner = cells.gru(features)

        def step(p, h, x):
            traces.append(None)
            return inner.step(p, h, x)

        return jaxrnn.cell("noting", inner.init, step, carry=features)

    xs = jnp.ones((3, 2, 4))
    params = noting(5).init(jax.random.key(0), xs[0])
    jaxrnn.run(noting(5), params, xs)
    first = len(traces)
    for _ in range(3):
        jaxrnn.run(noting(5), params, xs)
    assert len(traces) == first


FACTOR = 2.0


@jaxrnn.factory
def reading(features):
    factor = FACTOR

    def step(p, h, x):
        return h, factor * x

    return jaxrnn.cell("reading", lambda key, x: (), step, carry=features)


def test_a_factory_that_reads_a_global_makes_no_stale_program(monkeypatch):
    xs = jnp.ones((3, 2, 4))
    before = jaxrnn.run(reading(5), (), xs)[1]
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    after = jaxrnn.run(reading(5), (), xs)[1]
    assert float(before[0, 0, 0]) == 2
    assert float(after[0, 0, 0]) == 3


def test_arrays_and_tracers_are_not_kept_alive():
    xs = jnp.ones((3, 2, 4))
    params = cells.gru(5).init(jax.random.key(0), xs[0])
    constant = jnp.full(5, 2.0)
    seen = weakref.ref(constant)
    jaxrnn.run(inside.leaky(cells.gru(5), constant), params, xs)
    del constant
    gc.collect()
    assert seen() is None

    cell = cells.elman(5)
    params = cell.init(jax.random.key(0), xs[0])

    def outputs(scale):
        scaled = cells.elman(5, activation=lambda u: scale * u)
        return jaxrnn.run(scaled, params, xs)[1]

    with jax.checking_leaks():
        jax.jit(outputs)(0.5)


def test_a_factory_must_make_a_cell():
    @jaxrnn.factory
    def nothing(features):
        return features

    with pytest.raises(TypeError, match=r"nothing\(\) .* must return a Cell or a Layer, got int"):
        nothing(8)


def local(features):
    @jaxrnn.factory
    def inner():
        return cells.gru(features)

    return inner()


UNPICKLED = {
    "a factory in a function": (
        lambda: local(8),
        r"gru\(8\) cannot be pickled: it was made by local.<locals>.inner",
    ),
    "a lambda in a partial": (
        lambda: cells.elman(8, activation=functools.partial(lambda a, u: u, 1)),
        "<lambda>, which has no name",
    ),
    "a lambda": (lambda: cells.elman(8, activation=lambda u: u), "<lambda>, which has no name"),
    "no factory": (
        lambda: jaxrnn.cell("mine", lambda key, x: (), lambda p, h, x: (h, h), carry=3),
        "mine cannot be pickled: its functions have no names; make it by a function",
    ),
}


@pytest.mark.parametrize("name", UNPICKLED)
def test_what_cannot_be_pickled_says_why(name):
    make, message = UNPICKLED[name]
    with pytest.raises(pickle.PicklingError, match=message):
        pickle.dumps(make())


def test_methods_with_the_same_options_are_equal():
    assert methods.scan(chunk=np.int64(8)) == methods.scan(chunk=8)
    assert methods.associative(block=np.int32(2)) == methods.associative(block=2)
    assert repr(methods.newton(max_iterations=np.int64(9))) == "newton(max_iterations=9)"
