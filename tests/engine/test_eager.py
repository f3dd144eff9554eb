"""What is called outside `jax.jit`: compiled once, kept for a while, and never stale."""

import gc
import time
import types
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import Cell, cells
from jaxrnn.engine import eager
from jaxrnn.engine.closure import seen_by

init, xs = jnp.ones(3), jnp.zeros(2)


def powers(scale):
    """What two steps of h ← scale · h make of 1."""
    return np.full(3, scale**2)


def of_closure(weight):
    return lambda h, x: (h * weight, None)


def of_default(weight):
    return lambda h, x, weight=weight: (h * weight, None)


def of_container(weight):
    params = {"layers": [weight]}
    return lambda h, x: (h * params["layers"][0], None)


def of_attribute(weight):
    config = types.SimpleNamespace(weight=weight)
    return lambda h, x: (h * config.weight, None)


def of_method(weight):
    class Model:
        def __init__(self):
            self.weight = weight

        def step(self, h, x):
            return h * self.weight, None

    return Model().step


def of_callable(weight):
    class Model:
        weights = None

        def __init__(self):
            self.weight = weight

        def __call__(self, h, x):
            return h * self.weight, None

    return Model()


def of_partial(weight):
    return partial(lambda weight, h, x: (h * weight, None), weight)


def of_inner_function(weight):
    def scaled(h):
        return h * weight

    return lambda h, x: (scaled(h), None)


KINDS = [
    of_closure,
    of_default,
    of_container,
    of_attribute,
    of_method,
    of_callable,
    of_partial,
    of_inner_function,
]


@pytest.mark.parametrize("of", KINDS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_numpy_array_changed_in_place_is_seen(of, dtype):
    weight = np.ones(3, dtype)
    step = of(weight)
    for scale in (1, 5, 25):
        weight[:] = scale
        np.testing.assert_array_equal(jaxrnn.scan(step, init, xs)[0], powers(scale))


offset = np.zeros(3)


def test_a_global_array_changed_in_place_is_seen():
    def step(h, x):
        return h + offset, None

    for added in (0, 1, 2):
        offset[:] = added
        np.testing.assert_array_equal(jaxrnn.scan(step, init, xs)[0], 1 + 2 * init * added)


def test_a_name_bound_anew_and_an_attribute_set_are_seen():
    weight, config = jnp.ones(3), types.SimpleNamespace(scale=1.0)

    def step(h, x):
        return h * weight * config.scale, None

    np.testing.assert_array_equal(jaxrnn.scan(step, init, xs)[0], powers(1))
    weight = 2 * init
    np.testing.assert_array_equal(jaxrnn.scan(step, init, xs)[0], powers(2))
    config.scale = 3.0
    np.testing.assert_array_equal(jaxrnn.scan(step, init, xs)[0], powers(6))


def test_a_cell_sees_its_numpy_array_too():
    weight = np.ones(3, "float32")
    cell = Cell(
        name="mine",
        init=lambda key, x: (),
        carry=lambda p, x: jnp.ones_like(x),
        step=lambda p, h, x: (h * weight, h),
    )
    for scale in (1, 5):
        weight[:] = scale
        carry, _ = jaxrnn.run(cell, (), jnp.zeros((2, 3)))
        np.testing.assert_array_equal(carry, powers(scale))


def test_what_a_step_notes_while_it_is_traced_makes_nothing_stale():
    traces = []

    def step(h, x):
        traces.append(x)
        return h, None

    for _ in range(4):
        jaxrnn.scan(step, init, xs)
    assert len(traces) == 1


def test_what_sees_itself_is_looked_at_once():
    holder: dict = {}
    holder["self"] = holder
    assert seen_by(lambda: holder) == seen_by(lambda: holder)


def test_programs_of_many_lengths_are_forgotten():
    def step(h, x):
        return h + x, None

    for length in range(1, eager.KEPT + 9):
        jaxrnn.scan(step, 0.0, np.ones(length, "float32"))
    kept = eager._programs[step]
    assert len(kept) == eager.KEPT
    before = next(reversed(kept))
    assert float(jaxrnn.scan(step, 0.0, np.ones(1, "float32"))[0]) == 1  # forgotten, made again
    assert len(kept) == eager.KEPT
    assert next(reversed(kept)) != before


@pytest.mark.thorough
def test_memory_stays_flat_over_a_thousand_lengths():
    cell = cells.gru(8)
    params = cell.init(jax.random.key(0), jnp.ones((2, 3)))

    def resident():
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    for length in range(1, 1001):
        jaxrnn.run(cell, params, np.ones((length, 2, 3), "float32"))
        if length == 300:
            before = resident()
    assert resident() - before < 50e6


def test_an_eager_run_takes_little_more_than_the_compiled_call():
    cell = cells.lstm(8)
    inputs = jnp.ones((20, 2, 3))
    params = cell.init(jax.random.key(0), inputs[0])
    compiled = jax.jit(lambda p, xs: jaxrnn.run(cell, p, xs))

    def seconds(call):
        jax.block_until_ready(call())
        taken = []
        for _ in range(50):
            start = time.perf_counter()
            jax.block_until_ready(call())
            taken.append(time.perf_counter() - start)
        return np.median(taken)

    extra = [
        seconds(lambda: jaxrnn.run(cell, params, inputs))
        - seconds(lambda: compiled(params, inputs))
        for _ in range(3)
    ]
    assert min(extra) < 1e-3


def test_the_size_of_a_named_axis_is_that_of_the_vmap_around():
    def step(h, x):
        return h + jax.lax.axis_size("rows"), None

    def total(_):
        return jaxrnn.scan(step, 0, None, length=2)[0]

    for size in (2, 3, 2):
        mapped = jax.vmap(total, axis_name="rows", axis_size=size)(jnp.zeros(size))
        np.testing.assert_array_equal(mapped, np.full(size, 2 * size))
    with pytest.raises(NameError):
        total(None)


@pytest.mark.parametrize("name", ["jax_threefry_partitionable", "jax_random_seed_offset"])
def test_a_setting_of_jax_changed_between_two_calls_is_seen(name):
    def step(h, x):
        return h + jax.random.normal(jax.random.key(0), (4, 3)), None

    def outcome():
        return np.asarray(jaxrnn.scan(step, jnp.zeros((4, 3)), None, length=1)[0])

    before = getattr(jax.config, name)
    first = outcome()
    jax.config.update(name, 1 - before if isinstance(before, int) else not before)
    try:
        np.testing.assert_array_equal(
            outcome(), jax.lax.scan(lambda h, x: step(h, x), jnp.zeros((4, 3)), None, length=1)[0]
        )
        assert (outcome() != first).any()
    finally:
        jax.config.update(name, before)
    np.testing.assert_array_equal(outcome(), first)


@pytest.mark.parametrize("called_before", [False, True])
@pytest.mark.parametrize("debug", [jax.debug_nans, jax.debug_infs], ids=lambda f: f.__name__)
def test_the_place_of_what_is_not_finite_is_named(debug, called_before):
    def step(h, x):
        return h, jnp.log(x)

    bad = -1.0 if debug is jax.debug_nans else 0.0
    xs = jnp.array([1.0, bad])
    if called_before:
        jaxrnn.scan(step, 0.0, xs)
    with debug(True), pytest.raises(FloatingPointError, match="encountered in log"):
        jaxrnn.scan(step, 0.0, xs)
    assert jaxrnn.scan(step, 0.0, xs)[1].shape == (2,)
