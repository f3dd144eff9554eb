"""The fastest method by measuring: never one that is wrong, and remembered if asked."""

import json
import time

import jax
import jax.numpy as jnp
import pytest

import jaxrnn
from jaxrnn import cells, methods
from jaxrnn.methods import Method

xs = jax.random.normal(jax.random.key(0), (12, 2, 3))
cell = cells.gru(4)
params = cell.init(jax.random.key(1), xs[0])


def slow(problem, _):
    wait = lambda x: (time.sleep(0.05), x)[1]  # noqa: E731
    carry, ys = methods.scan()(problem)
    like = jax.ShapeDtypeStruct(ys.shape, ys.dtype)
    return carry, jax.pure_callback(wait, like, ys)


def wrong(problem, _):
    carry, ys = methods.scan()(problem)
    return carry, 1.001 * ys


SLOW, WRONG = Method(name="slow", run=slow), Method(name="wrong", run=wrong)
QUICK = {"candidates": [SLOW, WRONG, methods.associative(), methods.scan()], "seconds": 0.01}


def test_the_fastest_that_is_right():
    told = {}
    found = jaxrnn.tune(
        cell, params, xs, grad=False, **QUICK, report=lambda m, says: told.update({m.name: says})
    )
    assert found == methods.scan()
    assert told["slow"] > 0.04 > told["scan()"]
    assert "off methods.lax() by" in told["wrong"]
    assert "applies dot_general" in told["associative()"]


def test_gradients_masks_and_every_method_of_the_library():
    mask = jnp.ones(xs.shape[:2], bool).at[3, 0].set(False)
    told = {}
    report = lambda m, says: told.update({m.name: says})  # noqa: E731
    for layer in (cell, cells.min_gru(4)):
        own = layer.init(jax.random.key(0), xs[0])
        found = jaxrnn.tune(layer, own, xs, mask=mask, seconds=0.001, report=report)
        assert isinstance(told[found.name], float)
        jaxrnn.run(layer, own, xs, mask=mask, method=found)
    assert all(isinstance(says, float) for says in told.values())  # of min_gru, which all can serve


def test_an_answer_is_remembered_by_program_and_shape(tmp_path):
    cache = tmp_path / "deep" / "tuned.json"
    asked = []
    options = {**QUICK, "grad": False, "cache": cache, "report": lambda *_: asked.append(1)}
    first = jaxrnn.tune(cell, params, xs, **options)
    assert asked
    asked.clear()
    assert jaxrnn.tune(cell, params, xs, **options) == first
    assert not asked
    jaxrnn.tune(cell, params, xs[:5], **options)
    assert asked
    assert len(json.loads(cache.read_text())["jaxrnn.tune"]) == 2


def test_bad_arguments(tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    with pytest.raises(ValueError, match=r"no file of jaxrnn\.tune"):
        jaxrnn.tune(cell, params, xs, cache=notes, **QUICK)
    assert notes.read_text() == "mine"
    with pytest.raises(TypeError, match="give candidates="):
        jaxrnn.tune(cell, params, xs, method=None)
    with pytest.raises(NotImplementedError, match="no method of associative"):
        jaxrnn.tune(cell, params, xs, candidates=[methods.associative()])
