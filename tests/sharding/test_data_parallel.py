"""A batch split over devices: each does its share of the work, and tells the others gradients alone.

No test of values can see work that is done by every device. So the operations of one device's program
are counted, and what it sends is looked for in its text.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxrnn
from jaxrnn import around, cells, methods, train

T, B, D = 12, 32, 8
DEVICES = 8
KINDS = {"auto": AxisType.Auto, "explicit": AxisType.Explicit}
LAYERS = {
    "elman": cells.elman(32),
    "gru": cells.gru(32),
    "lstm": cells.lstm(32),
    "lru": cells.lru(32),
    "mlstm": cells.mlstm(32, heads=2),
    "stack": around.stack(cells.lstm(32), around.dense(8)),
    "bidirectional": around.bidirectional(cells.gru(32)),
    "deep": around.stack(around.layer_norm(), cells.gru(32), around.dropout(0.1), around.dense(4)),
}
xs = np.random.default_rng(0).standard_normal((T, B, D)).astype("float32")
lengths = np.random.default_rng(1).integers(1, T + 1, B)


def mesh_of(count, kind):
    return jax.make_mesh((count,), ("data",), (KINDS[kind],), devices=jax.devices()[:count])


def placed(tree, mesh, *spec):
    return jax.device_put(tree, NamedSharding(mesh, P(*spec)))


def gathers(compiled):
    return len(re.findall(r" all-(?:gather|to-all)\(", compiled.as_text()))


def reduces(compiled):
    return len(re.findall(r" all-reduce(?:-start)?\(", compiled.as_text()))


def close(got, want, tolerance=2e-5):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        scale = np.max(np.abs(np.asarray(b))) + 1e-6
        assert np.max(np.abs(np.asarray(a) - np.asarray(b))) <= tolerance * scale


def on_devices(function, params, mesh):
    """The compiled program of a function of (params, xs, lengths), and what it gives."""
    args = placed(params, mesh), placed(xs, mesh, None, "data"), placed(lengths, mesh, "data")
    compiled = jax.jit(function).lower(*args).compile()
    return compiled, compiled(*args)


def divided(function, params, kind):
    """Asserts that eight devices do an eighth each; returns the program and its results."""
    one, want = on_devices(function, params, mesh_of(1, kind))
    several, got = on_devices(function, params, mesh_of(DEVICES, kind))
    close(got, want)
    share = several.cost_analysis()["flops"] / one.cost_analysis()["flops"]
    assert share <= 1.1 / DEVICES
    assert gathers(several) == 0
    return several, got


def squares(layer, method=None):
    def loss(params, xs, lengths):
        _, ys = jaxrnn.run(layer, params, xs, lengths=lengths, method=method)
        return jnp.mean(jnp.abs(ys) ** 2)

    return loss


def params_of(layer):
    return layer.init(jax.random.key(0), jnp.zeros((B, D)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LAYERS)
def test_a_gradient_is_divided(name, kind):
    layer = LAYERS[name]
    program, _ = divided(jax.grad(squares(layer)), params_of(layer), kind)
    assert 1 <= reduces(program) <= (3 if name == "lru" else 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["lstm", "stack", "bidirectional"])
def test_outputs_stay_split(name, kind):
    layer = LAYERS[name]

    def outputs(params, xs, lengths):
        return jaxrnn.run(layer, params, xs, lengths=lengths)[1]

    program, ys = divided(outputs, params_of(layer), kind)
    assert reduces(program) == 0
    assert ys.sharding.spec[1] == "data"


METHODS = {
    "chunks": methods.scan(chunk=5, remat=True),
    "feature_major": methods.scan(hoist=False, feature_major=True),
    "no_defer": methods.scan(defer=False),
    "lax": methods.lax(),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", METHODS)
def test_every_way_through_time_is_right(name, kind):
    layer = cells.lstm(16)
    loss = jax.grad(squares(layer, METHODS[name]))
    params = params_of(layer)
    want = jax.jit(jax.grad(squares(layer, methods.lax())))(params, xs, lengths)
    close(on_devices(loss, params, mesh_of(DEVICES, kind))[1], want)


@pytest.mark.parametrize("name", ["lstm", "stack", "bidirectional", "lru"])
def test_within_a_mesh_that_is_set(name):
    layer, mesh = LAYERS[name], mesh_of(DEVICES, "explicit")
    params = params_of(layer)
    want = jax.jit(jax.grad(squares(layer, methods.lax())))(params, xs, lengths)
    with jax.set_mesh(mesh):
        close(on_devices(jax.grad(squares(layer)), params, mesh)[1], want)


@pytest.mark.parametrize("kind", KINDS)
def test_eagerly(kind):
    layer, mesh = LAYERS["stack"], mesh_of(DEVICES, kind)
    params = params_of(layer)
    want = jaxrnn.run(layer, params, jnp.asarray(xs))
    got = jaxrnn.run(layer, placed(params, mesh), placed(xs, mesh, None, "data"))
    close(got, want)
    assert got[1].sharding.spec[1] == "data"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("set_it", [False, True], ids=["", "set_mesh"])
def test_scan_of_a_users_step(kind, set_it):
    W = np.random.default_rng(2).standard_normal((D, D)).astype("float32") / 4

    def loss(scan, W, h, xs):
        def step(h, x):
            h = jnp.tanh(x @ W + h @ W)
            return h, h * 2

        return jnp.mean(scan(step, h, xs)[1] ** 2)

    mesh = mesh_of(DEVICES, kind)
    args = placed(W, mesh), placed(np.zeros((B, D), "float32"), mesh, "data")
    args = (*args, placed(xs, mesh, None, "data"))

    def gradient(scan):
        return jax.jit(jax.grad(lambda W, h, xs: loss(scan, W, h, xs), (0, 1, 2)))(*args)

    if set_it:
        with jax.set_mesh(mesh):
            got, want = gradient(jaxrnn.scan), gradient(jax.lax.scan)
    else:
        got, want = gradient(jaxrnn.scan), gradient(jax.lax.scan)
    close(got, want)
    assert [a.sharding.spec for a in got] == [a.sharding.spec for a in want]


def test_weights_split_over_devices():
    """Their columns over four devices, the batch over two."""
    layer = cells.elman(16)
    params = params_of(layer)
    mesh = jax.make_mesh((2, 4), ("data", "model"), (AxisType.Auto,) * 2)
    split = type(params)(
        placed(params.input, mesh, None, "model"),
        placed(params.recurrent, mesh, None, "model"),
        placed(params.bias, mesh, "model"),
    )
    loss = jax.grad(squares(layer))
    want = jax.jit(loss)(params, xs, lengths)
    close(jax.jit(loss)(split, placed(xs, mesh, None, "data"), lengths), want)


FEATURES = {
    **{name: LAYERS[name] for name in ("gru", "lru", "mlstm", "bidirectional", "deep")},
    "s4d": cells.s4d(8),
    "a cell that keeps its inputs": cells.causal_conv(3),
    "frames": around.stack(around.causal_conv(3, 4), around.downsample(2)),
    "a layer without steps inside": around.stack(around.bidirectional(cells.gru(4)), cells.lstm(4)),
}


@pytest.mark.parametrize("spec", [("data", "model"), (None, "model")], ids=str)
@pytest.mark.parametrize("name", FEATURES)
def test_features_of_the_input_split_over_an_explicit_mesh(name, spec):
    layer, mesh = FEATURES[name], jax.make_mesh((4, 2), ("data", "model"))
    params = params_of(layer)

    def loss(params, xs):
        return jnp.mean(jnp.abs(jaxrnn.run(layer, params, xs)[1]) ** 2)

    gradient = jax.jit(jax.value_and_grad(loss))
    got = gradient(placed(params, mesh), placed(xs, mesh, None, *spec))
    close(got, gradient(params, xs))


def test_an_explicit_mesh_of_the_only_device(monkeypatch):
    """Where there is one device, time and batch are made one axis, which such types do not allow."""
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    layer, mesh = LAYERS["stack"], mesh_of(1, "explicit")
    gradient = jax.jit(jax.grad(squares(layer)))
    params = params_of(layer)
    split = placed(params, mesh), placed(xs, mesh, None, "data"), placed(lengths, mesh, "data")
    close(gradient(*split), gradient(params, xs, lengths))


@pytest.mark.parametrize("kind", KINDS)
def test_a_sweep_is_divided(kind):
    """Settings side by side under `vmap`, each device with its own: they tell each other nothing."""
    layer = LAYERS["stack"]

    def trained(rate, seed, xs):
        params = layer.init(jax.random.key(seed), xs[0])
        gradient = jax.grad(lambda p: jnp.mean(jaxrnn.run(layer, p, xs)[1] ** 2))(params)
        return jax.tree.map(lambda p, g: p - rate * g, params, gradient)

    program = jax.jit(jax.vmap(trained, (0, 0, None)))
    rates, seeds = jnp.linspace(0.1, 1, DEVICES), jnp.arange(DEVICES)
    flops, results = [], []
    for count in (1, DEVICES):
        mesh = mesh_of(count, kind)
        settings = placed(rates, mesh, "data"), placed(seeds, mesh, "data")
        compiled = program.lower(*settings, placed(xs, mesh)).compile()
        flops.append(compiled.cost_analysis()["flops"])
        results.append(compiled(*settings, placed(xs, mesh)))
    assert flops[1] <= 1.1 / DEVICES * flops[0]
    assert gathers(compiled) == reduces(compiled) == 0
    close(results[1], results[0])


def test_a_users_carry_that_does_not_say_how_it_is_split():
    gru = cells.gru(16)
    mine = jaxrnn.Cell(
        name="mine",
        init=gru.init,
        carry=lambda params, x: jnp.zeros_like(x, shape=(*x.shape[:-1], 16)),
        step=gru.step,
    )
    params, mesh = params_of(mine), mesh_of(DEVICES, "explicit")
    resets = np.random.default_rng(3).random((T, B)) < 0.3

    def outputs(params, xs, resets):
        return jaxrnn.run(mine, params, xs, resets=resets)[1]

    want = jax.jit(outputs)(params, xs, resets)
    split = placed(params, mesh), placed(xs, mesh, None, "data"), placed(resets, mesh, None, "data")
    close(jax.jit(outputs)(*split), want)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k2", [T, T + 5])
def test_truncated_backpropagation_is_divided_and_its_carry_split(kind, k2):
    layer = LAYERS["stack"]
    loss, memory = train.tbptt(
        layer, lambda ys, batch: train.mean_squared_error(ys, batch["targets"]), k1=T, k2=k2
    )
    optimizer = optax.sgd(0.1)
    flops = []
    for count in (1, DEVICES):
        mesh = mesh_of(count, kind)
        batch = {"xs": xs, "targets": np.zeros((T, B, 8), "float32")}
        batch = {name: placed(value, mesh, None, "data") for name, value in batch.items()}
        params = placed(params_of(layer), mesh)
        past = memory(params, batch)
        assert all(leaf.sharding.spec[:1] == ("data",) for leaf in jax.tree.leaves(past.carry))
        state = train.init(params, optimizer, memory=past)
        program = jax.jit(train.step(loss, optimizer)).lower(state, batch).compile()
        after, _ = program(state, batch)
        flops.append(program.cost_analysis()["flops"])
    assert gathers(program) == 0
    assert flops[1] <= 1.1 / DEVICES * flops[0]
    assert all(leaf.sharding.spec[:1] == ("data",) for leaf in jax.tree.leaves(after.memory.carry))


@pytest.mark.parametrize("kind", KINDS)
def test_fit_trains_the_same_on_one_device_and_on_eight(kind):
    layer = LAYERS["stack"]

    def loss(params, batch, key):
        return train.mean_squared_error(jaxrnn.run(layer, params, batch["xs"])[1], batch["targets"])

    losses = []
    for count in (1, DEVICES):
        mesh = mesh_of(count, kind)
        batch = {"xs": xs, "targets": np.ones((T, B, 8), "float32")}
        batch = {name: placed(value, mesh, None, "data") for name, value in batch.items()}
        result = train.fit(
            loss, placed(params_of(layer), mesh), optax.adam(0.01), [batch] * 3, updates=3
        )
        losses.append(result.history.losses)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
