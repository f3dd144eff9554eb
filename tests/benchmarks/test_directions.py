"""Both directions of time: the contenders are what they are called, and no more."""

import jax
import pytest

import jaxrnn
from benchmarks import directions
from benchmarks.contenders import AUTO, LAX
from benchmarks.directions import ONE_LOOP, TWO_RUNS, BothWays
from jaxrnn import methods

TINY = BothWays("gru", batch=2, length=12, features=4)


@pytest.mark.parametrize(("name", "loops"), [(LAX, 2), (TWO_RUNS, 2), (ONE_LOOP, 1)])
def test_as_many_loops_as_are_said(name, loops):
    layer = directions.field(TINY, [methods.auto()])[name].layer

    def run(params, xs):
        return jaxrnn.run(layer, params, xs, method=methods.lax())

    text = str(jax.make_jaxpr(run)(*TINY.arrays()))
    assert text.count(" scan[") == loops


def test_the_plain_scans_are_plain():
    field = directions.field(TINY, [methods.auto()])
    assert {name: contender.method.name for name, contender in field.items()} == {
        LAX: "lax()",
        AUTO: "auto()",
        TWO_RUNS: "auto()",
        ONE_LOOP: "auto()",
    }
