"""The printed plan: 80 columns, and it says what is so."""

import jax
import jax.numpy as jnp
import pytest

import jaxrnn
from jaxrnn import around, cells, inside, methods
from tests.tables import CELLS

xs = jax.ShapeDtypeStruct((128, 32, 256), jnp.float32)


def explained(cell, xs=xs, **options):
    params = jax.eval_shape(
        cell.init, jax.random.key(0), jax.ShapeDtypeStruct(xs.shape[1:], xs.dtype)
    )
    return jaxrnn.explain(cell, params, xs, **options)


@pytest.mark.parametrize("name", CELLS)
def test_it_fits_eighty_columns(name):
    lengths = jax.ShapeDtypeStruct((32,), jnp.int32)
    for options in ({}, {"lengths": lengths, "reverse": True}):
        for line in str(explained(CELLS[name], **options)).splitlines():
            assert len(line) <= 80, line


def test_the_input_product_of_an_lstm_is_before_the_loop():
    plan = explained(cells.lstm(256)).plan
    assert [(stage, cost.products) for stage, cost in plan.costs.items()] == (
        [("once", 0), ("before", 1), ("during", 1), ("after", 0)]
    )
    assert plan.costs["before"].flops == 2 * 32 * 256 * 1024 + 32 * 1024
    text = str(explained(cells.lstm(256)))
    before = text.index("before the loop, all time steps at once\n  a = x · p.input")
    assert before < text.index("during the loop, step by step\n  d = h · p.recurrent")
    assert "carried by the backward loop      h f32[32,256], c f32[32,256]" in text
    assert "after it, for all steps at once   p.recurrent f32[256,1024]" in text
    assert "added up inside it" not in text
    assert "dense                             because of dot_general at cells/lstm.py:" in text


def test_a_bare_step_function():
    W = jnp.ones((4, 4))

    def step(h, x):
        h = 0.5 * h + x @ W
        return h, jnp.tanh(h @ W)

    found = jaxrnn.explain(step, jnp.zeros((2, 4)), jnp.ones((9, 2, 4)))
    text = str(found)
    assert text.startswith("step over 9 steps of f32[9,2,4]\n")
    assert found.plan.costs["after"].products == 1
    assert "structure\n  elementwise affine\n" in text
    assert "test_explain.py" in text
    assert found.choice == methods.scan()


def test_leaves_that_are_solved_one_after_another_are_named_in_order():
    def step(carry, x):
        slow, gated = carry
        return (0.9 * slow + x, jnp.tanh(slow) * gated + x), gated

    found = jaxrnn.explain(step, (jnp.zeros(4), jnp.zeros(4)), jnp.ones((9, 4)))
    assert "elementwise affine" in str(found)
    assert "each leaf given those before it: h[0], h[1]" in str(found)


def test_a_refusal_is_printed_with_its_reason():
    def step(h, x):
        jax.debug.print("{}", x)
        return h + x, h

    found = jaxrnn.explain(step, 0.0, jnp.ones(3))
    assert found.legal["lax()"] is None
    assert "debug" in found.legal["scan()"]
    assert found.choice == methods.lax()
    assert "refused: it moves the equations" in str(found)


def test_a_choice_of_two_methods_is_told_with_both_reasons():
    cell, xs = cells.min_gru(8), jnp.ones((64, 2, 8))
    found = jaxrnn.explain(cell, cell.init(jax.random.key(0), xs[0]), xs)
    assert found.legal["associative()"] is None
    assert found.legal["newton()"] is None
    if jax.default_backend() == "cpu":
        text = str(found)
        assert "method=None takes either(forward=scan(), gradient=associative())" in text
        assert "without a derivative: " in text
        assert "with one: the carry is affine in itself" in " ".join(text.split())


def test_a_layer_is_explained_loop_by_loop():
    layer = around.stack(cells.lstm(256), around.dense(64), around.bidirectional(cells.gru(32)))
    loops = explained(layer)
    assert [e.subject.split(" over")[0] for e in loops] == ["lstm(256)", "gru(32)", "gru(32)"]
    assert str(loops).count("method=None takes") == 3
    assert "f32[128,32,64]" in loops[1].subject
    assert str(explained(around.dense(64))) == "no loop"


def test_noise_of_a_sequence_is_drawn_once():
    cell = inside.recurrent_dropout(cells.lstm(256), 0.5)
    plan = explained(cell, key=jax.random.key(0)).plan
    assert plan.costs["during"].products == 1
    assert plan.costs["once"].products == 0
