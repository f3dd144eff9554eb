"""Many devices compute what one does: data parallel, and with params spread over them too."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxrnn
from jaxrnn import cells, train

T, B, D, H = 5, 8, 3, 8
P = jax.P
AUTO = jax.sharding.AxisType.Auto
draw = np.random.default_rng(0)
ROWS = draw.normal(size=(6, T, B, D))
RULES = [("^0/(input|recurrent)$", P(None, "model")), ("^1$", P("model"))]


def make(dtype, kind):
    cell = kind(H)
    params = (cell.init(jax.random.key(0), jnp.ones(D, dtype)), jnp.ones((H, D), dtype) / H)

    def loss(params, batch, key, carry):
        noise = 0.1 * jax.random.normal(key, batch.shape, batch.dtype)
        carry, ys = jaxrnn.run(cell, params[0], batch + noise, carry)
        return train.mean_squared_error(ys[:-1] @ params[1], batch[1:]), {}, carry

    return params, loss, cell.carry(params[0], jnp.ones((B, D), dtype))


def meshed(devices, axes):
    return jax.make_mesh(devices, axes, axis_types=(AUTO,) * len(axes))


LAYOUTS = {
    "data": (meshed((8,), ("data",)), [], P(None, "data")),
    "data and model": (meshed((4, 2), ("data", "model")), RULES, P(None, "data")),
    "model": (meshed((8,), ("model",)), RULES, P()),
}


def fit(dtype, kind=cells.lstm, layout=None, on_host=True, **options):
    params, loss, memory = make(dtype, kind)
    if layout is not None:
        mesh, rules, spec = LAYOUTS[layout]
        params = train.shard(params, mesh, rules)
        options["sharding"] = jax.sharding.NamedSharding(mesh, spec)
    table = jnp.array(ROWS, dtype)
    data = list(np.asarray(table)) if on_host else lambda n: table[n % 6]
    options = {"updates": 9, "chunk": 4, "clip": 0.5, "memory": memory, **options}
    return train.fit(loss, params, optax.adam(0.02), data, **options)


@pytest.fixture(scope="module")
def alone():
    with jax.enable_x64(True):
        return fit(jnp.float64)


def close(result, expected, tolerance):
    for a, b in zip(
        jax.tree.leaves((result.state.params, result.state.moments, result.state.memory)),
        jax.tree.leaves((expected.state.params, expected.state.moments, expected.state.memory)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(result.history.losses, expected.history.losses, rtol=tolerance)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_many_devices_agree_with_one(layout, alone):
    with jax.enable_x64(True):
        close(fit(jnp.float64, layout=layout), alone, 1e-10)


def test_they_agree_in_single_precision():
    alone = fit(jnp.float32, cells.gru)
    close(fit(jnp.float32, cells.gru, "data and model", on_host=False), alone, 1e-5)


def test_arrays_lie_where_they_were_placed():
    result = fit(jnp.float32, cells.elman, "data and model")
    mesh, _, _ = LAYOUTS["data and model"]
    params, moments = result.state.params, result.state.moments[0]
    for tree in (params, moments.mu, moments.nu, result.best):
        assert tree[0].recurrent.sharding.spec == P(None, "model")
        assert tree[0].recurrent.addressable_shards[0].data.shape == (H, H // 2)
        assert tree[1].addressable_shards[0].data.shape == (H // 2, D)
        assert tree[0].bias.sharding.is_equivalent_to(jax.sharding.NamedSharding(mesh, P()), 1)


def test_a_run_on_many_devices_resumes_to_the_bit(tmp_path):
    options = {"dtype": jnp.float32, "kind": cells.elman, "layout": "data and model", "every": 4}
    whole = fit(**options)
    fit(**options, updates=5, checkpoints=train.Checkpoints(tmp_path))
    other = fit(**options, checkpoints=train.Checkpoints(tmp_path), resume=True)
    for a, b in zip(
        jax.tree.leaves(whole.state[:3]), jax.tree.leaves(other.state[:3]), strict=True
    ):
        assert a.sharding == b.sharding
        np.testing.assert_array_equal(a, b)


def test_what_was_saved_on_many_devices_is_restored_on_one(tmp_path):
    options = {"dtype": jnp.float32, "kind": cells.elman, "every": 4}
    fit(**options, updates=5, layout="model", checkpoints=train.Checkpoints(tmp_path))
    other = fit(**options, checkpoints=train.Checkpoints(tmp_path), resume=True)
    assert len(other.state.params[1].devices()) == 1
    close(other, fit(**options), 1e-5)


REFUSED = {
    "a rule for nothing": (
        [("weights", P("data"))],
        "no leaf is placed by the rule 'weights': .* the leaves are 0/input, 0/recurrent, 0/bias, 1",
    ),
    "a rule behind another": (
        [("0/", P()), ("0/bias", P("data"))],
        "no leaf is placed by the rule '0/bias': .* or another comes before it",
    ),
    "an axis that is not there": ([("1", P("model"))], "names the axis 'model'; the mesh has .*8"),
    "what does not divide": (
        [("1", P(None, "data"))],
        r"cuts axis 1 of 1 into 8 parts, but \[8, 3\] does not divide",
    ),
    "too many axes": ([("bias", P(None, "data"))], r"more axes than 0/bias, which is \[8\]"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_rules_that_do_not_fit_are_refused(case):
    rules, message = REFUSED[case]
    params, _, _ = make(jnp.float32, cells.elman)
    with pytest.raises(ValueError, match=message):
        train.shard(params, LAYOUTS["data"][0], rules)
