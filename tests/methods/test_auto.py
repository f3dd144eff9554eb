"""What `method=None` takes: rules of measurements, one set for each pass and kind of device."""

import jax
import jax.numpy as jnp
import pytest

import jaxrnn
from jaxrnn import cells, methods
from jaxrnn.core import problem_of
from jaxrnn.methods.auto import passes, take
from jaxrnn.methods.hoisting import choose


def problem(cell, *shape):
    """A cell over [T, B, D]; nothing of it is computed."""
    xs = jax.ShapeDtypeStruct(shape, jnp.float32)
    found = []

    def look(key, xs):
        params = cell.init(key, xs[0])
        start = cell.carry(params, xs[0])
        found.append(problem_of(cell, params, xs, start, None, None, None, False))
        _ = found[0].traced
        return ()

    jax.eval_shape(look, jax.random.key(0), xs)
    return found[0]


def taken(cell, *shape, platform="cpu"):
    return take(problem(cell, *shape), platform).method


def test_forward_a_sliced_product_stays_in_the_loop_and_a_gradient_hoists_it():
    method = taken(cells.gru(128), 128, 8, 128)
    assert method == methods.either(forward=methods.scan(hoist=False), gradient=methods.scan())
    because = take(problem(cells.gru(128), 128, 8, 128), "cpu").because
    assert because.startswith("without a derivative: with 8 rows")
    assert "with one: " in because


def test_a_loop_that_both_passes_run_alike_takes_one_method():
    assert taken(cells.lstm(64), 256, 8, 64) == methods.scan()


def test_only_a_forward_pass_of_few_rows_is_chunked():
    method = taken(cells.lstm(256), 4096, 1, 256)
    forward, gradient = method.options
    assert forward.options.chunk == 256
    assert gradient == methods.scan()


def test_a_gradient_of_many_rows_and_steps_is_chunked():
    _, gradient = taken(cells.gru(64), 1024, 16, 64).options
    assert gradient == methods.scan(chunk=32)
    _, gradient = taken(cells.gru(256), 64, 16, 256).options
    assert gradient == methods.scan()


@pytest.mark.parametrize("make", [cells.lstm, cells.gru])
def test_a_gradient_of_very_many_rows_leaves_products_in_the_loop(make):
    assert taken(make(32), 128, 128, 32) == methods.scan(hoist=False)


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_a_parallel_form_is_taken_from_some_steps_on(platform):
    cell = cells.mlstm(8, heads=2)
    assert taken(cell, 64, 2, 8, platform=platform) == methods.associative()
    assert taken(cell, 8, 2, 8, platform=platform) != methods.associative()


def test_a_linear_recurrence_is_taken_at_once_by_an_accelerator_and_for_its_gradient():
    assert taken(cells.min_gru(8), 64, 2, 8, platform="gpu") == methods.associative()
    assert "affine" in take(problem(cells.min_gru(8), 64, 2, 8), "gpu").because
    method = taken(cells.min_gru(8), 64, 2, 8, platform="cpu")
    assert method == methods.either(forward=methods.scan(), gradient=methods.associative())
    assert taken(cells.min_gru(8), 16, 2, 8) == methods.scan()


def test_a_state_many_times_its_output_stays_in_the_loop():
    for cell in (cells.s4d(16, state=64), cells.selective_ssm(16, state=16)):
        assert taken(cell, 64, 2, 16) == methods.scan(hoist=False)
        assert "numbers for one of output" in take(problem(cell, 64, 2, 16), "cpu").because
        assert taken(cell, 64, 2, 16, platform="gpu") == methods.associative()


def test_a_small_complex_recurrence_of_many_steps_is_solved_in_chunks():
    forward, _ = taken(cells.lru(8, state=64), 2048, 1, 8).options
    assert forward == methods.associative(chunk=1024)
    for rows, steps in ((2, 2048), (1, 2047)):
        forward, _ = taken(cells.lru(8, state=64), steps, rows, 8).options
        assert forward.name.startswith("scan(")
    forward, _ = taken(cells.min_gru(64), 2048, 1, 8).options
    assert forward.name.startswith("scan(")


def test_the_choice_depends_on_the_device():
    loop = problem(cells.lstm(256), 128, 32, 256).traced.loop
    assert choose(loop, passes("cpu").forward).options.hoist is False
    assert choose(loop, passes("gpu").forward).options.hoist is True


def test_run_and_explain_take_the_same():
    for length, rows, features in ((128, 1, 64), (128, 64, 64), (100, 32, 1024), (2000, 1, 512)):
        cell = cells.lstm(features)
        xs = jax.ShapeDtypeStruct((length, rows, features), jnp.float32)
        params = jax.eval_shape(cell.init, jax.random.key(0), xs)
        found = jaxrnn.explain(cell, params, xs)
        assert found.choice == take(problem(cell, *xs.shape)).method
        assert found.because == take(problem(cell, *xs.shape)).because


def test_a_loop_is_turned_round_only_where_that_was_measured_to_be_faster():
    def turned(make, rows, features, platform="cpu"):
        loop = problem(make(features), 64, rows, 64).traced.loop
        rules = passes(platform)
        return [choose(loop, r).options.feature_major for r in (rules.forward, rules.gradient)]

    assert turned(cells.lstm, 8, 256) == [True, True]
    assert turned(cells.lstm, 8, 512) == [True, True]
    assert turned(cells.lstm, 8, 512, "gpu") == [False, False]
    assert turned(cells.lstm, 4, 256) == [False, True]
    assert turned(cells.lstm, 16, 512) == [True, True]
    assert turned(cells.lstm, 16, 256) == [False, False]
    assert turned(cells.lstm, 12, 512) == [False, False]
    assert turned(cells.elman, 32, 1024) == [True, True]
    assert turned(cells.gru, 8, 1024) == [True, True]
    assert turned(cells.lstm, 8, 128) == [False, False]
    assert turned(cells.elman, 8, 512) == [False, True]
    assert turned(cells.gru, 8, 512) == [False, True]
    assert turned(cells.layer_norm_lstm, 8, 256) == [False, False]


def test_effects_keep_their_order():
    def step(h, x):
        jax.debug.print("{}", x)
        return h + x, h

    assert jaxrnn.explain(step, 0.0, jnp.ones(3)).choice == methods.lax()
