"""Affine recurrences in parallel: long ones, split ones, refused ones, and NaN before a reset."""

import resource

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jaxrnn
from jaxrnn import cells, methods
from jaxrnn.methods import Problem

LONG = 16384


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def data(length, rows=2, features=3, seed=0):
    keys = jax.random.split(jax.random.key(seed), 3)
    xs = jax.random.normal(keys[0], (length, rows, features))
    mask = jax.random.bernoulli(keys[1], 0.8, (length, rows))
    resets = jax.random.bernoulli(keys[2], 0.01, (length, rows))
    return xs, {"mask": mask, "resets": resets}


def results(cell, params, xs, method, options):
    def loss(params, xs):
        carry, ys = jaxrnn.run(cell, params, xs, method=method, **options)
        return jnp.square(ys).mean() + sum(jnp.abs(v).sum() for v in jax.tree.leaves(carry)), (
            carry,
            ys,
        )

    return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(params, xs)


def close(got, want, tolerance=1e-8):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        a, b = np.ravel(a), np.ravel(b)
        error = np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30)
        assert error <= tolerance


AFFINE = {
    "min_gru": cells.min_gru(3),
    "min_lstm": cells.min_lstm(3),
    "lru": cells.lru(3, state=2, r_min=0.9, r_max=0.999),
    "s4d": cells.s4d(3, state=4),
    "s5": cells.s5(3, state=4),
    "rg_lru": cells.rg_lru(4, heads=2),
    "hgrn": cells.hgrn(3),
    "real_hgrn": cells.real_hgrn(3),
    "sru_v1": cells.sru_v1(3),
    "qrnn": cells.qrnn(3),
    "causal_conv": cells.causal_conv(3),
    "selective_ssm": cells.selective_ssm(3, state=2),
}


WHOLE, CHUNKS = methods.associative(), methods.associative(chunk=1000, block=1)


@pytest.mark.parametrize(
    ("name", "method"),
    [*((name, WHOLE) for name in AFFINE), ("lru", CHUNKS), ("qrnn", CHUNKS)],
)
def test_sixteen_thousand_steps_with_masks_and_resets(name, method):
    cell = AFFINE[name]
    xs, options = data(LONG)
    params = cell.init(jax.random.key(1), xs[0])
    want = results(cell, params, xs, methods.lax(), options)
    close(results(cell, params, xs, method, options), want)


def test_leaves_that_need_earlier_leaves_and_leaves_that_need_each_other():
    xs, _ = data(50)

    def step(carry, x):
        turning, other, gated, late = carry
        new = (
            0.9 * turning - 0.1 * other + x,
            other + 0.1 * turning,
            jnp.tanh(turning * other) * gated + jnp.sin(late),
            x,
        )
        return new, (gated * turning, new[2])

    problem = Problem(name="step", step=step, carry=(xs[0], xs[1], xs[2], xs[3]), xs=xs)
    for method in (
        methods.associative(),
        methods.associative(block=4),
        methods.associative(chunk=7),
    ):
        close(method(problem), methods.lax()(problem), 1e-12)


def test_a_counter_beside_the_carry_is_refused_by_name():
    problem = Problem(
        name="counting", step=lambda c, x: ((c[0] + x, c[1] + 1), x), carry=(0.0, 0), xs=jnp.ones(3)
    )
    with pytest.raises(NotImplementedError, match="counting carries an integer or a key"):
        methods.associative()(problem)


def test_a_refusal_names_the_primitive_the_line_and_the_remedy():
    xs, _ = data(5)
    cell = cells.gru(4)
    params = cell.init(jax.random.key(0), xs[0])
    with pytest.raises(
        NotImplementedError,
        match=r"gru\(4\) applies dot_general \(cells/gru.py:\d+\).*newton\(\)",
    ):
        jaxrnn.run(cell, params, xs, method=methods.associative())
    problem = Problem(
        name="mine", step=lambda h, x: (jnp.tanh(h) + x, h), carry=0.0, xs=jnp.ones(3)
    )
    with pytest.raises(
        NotImplementedError, match=r"applies tanh \(methods/test_associative.py:\d+\)"
    ):
        methods.associative()(problem)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"chunk": 0}, "chunk must be a positive number"),
        ({"block": True}, "block must be a positive number"),
        ({"axis": "time"}, "give a mesh and the name of one of its axes"),
    ],
)
def test_bad_arguments(arguments, says):
    with pytest.raises(ValueError, match=says):
        methods.associative(**arguments)


@pytest.mark.parametrize("method", [methods.associative(), methods.associative(block=3, chunk=10)])
def test_nan_does_not_survive_a_reset_nor_reach_a_gradient(method):
    cell = cells.min_gru(3)
    xs, _ = data(20)
    params = cell.init(jax.random.key(0), xs[0])
    resets = jnp.zeros((20, 2), bool).at[12].set(True)

    def loss(params, carry):
        return jaxrnn.run(cell, params, xs, carry, resets=resets, method=method)[1][12:].sum()

    poisoned = jnp.full((2, 3), jnp.nan)
    got = jax.grad(loss)(params, poisoned)
    want = jax.grad(loss)(params, jnp.zeros((2, 3)))
    close(got, want, 1e-12)


def test_blocks_are_not_asked_for_in_vain():
    """The form of a cell of its own has no blocks and no mesh: they are kept to, or refused."""
    cell = cells.mlstm(4)
    xs, _ = data(5)
    params = cell.init(jax.random.key(0), xs[0])
    with pytest.raises(NotImplementedError, match=r"mlstm\(4\) applies"):
        jaxrnn.run(cell, params, xs, method=methods.associative(block=2))


def mesh_of(times, rows):
    kinds = (jax.sharding.AxisType.Auto,) * 2
    return jax.make_mesh((times, rows), ("time", "rows"), kinds)


@pytest.mark.parametrize("name", ["lru", "min_gru", "qrnn"])
@pytest.mark.parametrize(("times", "rows", "length"), [(8, 1, 61), (4, 2, 64)])
def test_time_split_over_devices_gives_the_same(name, times, rows, length):
    cell = AFFINE[name]
    xs, options = data(length)
    params = cell.init(jax.random.key(1), xs[0])
    mesh = mesh_of(times, rows)
    split = xs
    if length % times == 0:
        split = jax.device_put(xs, NamedSharding(mesh, P("time", "rows")))
    method = methods.associative(mesh=mesh, axis="time")
    for direction in ({}, {"reverse": True}):
        want = results(cell, params, xs, methods.lax(), options | direction)
        close(results(cell, params, split, method, options | direction), want, 1e-10)


def test_what_is_split_stays_split():
    cell = AFFINE["lru"]
    xs, options = data(64)
    params = cell.init(jax.random.key(1), xs[0])
    mesh = mesh_of(8, 1)
    split = jax.device_put(xs, NamedSharding(mesh, P("time")))
    method = methods.associative(mesh=mesh, axis="time")
    (_, (_, ys)), (_, d_xs) = results(cell, params, split, method, options)
    assert ys.sharding.spec[0] == "time"
    assert d_xs.sharding.spec[0] == "time"


@pytest.mark.thorough
def test_a_million_steps_with_gradient_and_the_same_on_eight_devices():
    with jax.enable_x64(False):
        cell = cells.lru(64, state=64, r_min=0.9, r_max=0.999)
        xs = jax.random.normal(jax.random.key(0), (1 << 20, 1, 64))
        params = cell.init(jax.random.key(1), xs[0])
        got = results(cell, params, xs, methods.associative(), {})
        assert all(bool(jnp.isfinite(v).all()) for v in jax.tree.leaves(got))
        close(results(cell, params, xs, methods.associative(chunk=1 << 15), {}), got, 1e-4)
        mesh = mesh_of(8, 1)
        split = jax.device_put(xs, NamedSharding(mesh, P("time")))
        close(
            results(cell, params, split, methods.associative(mesh=mesh, axis="time"), {}), got, 1e-4
        )
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        assert peak < 16, f"{peak:.1f} GiB at the most"
