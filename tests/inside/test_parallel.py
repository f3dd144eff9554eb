"""What a combinator makes of a cell's form for all steps at once: nothing, but where it still holds."""

import inspect
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from jaxrnn import cells, inside


def parallel(params, carry, xs, *, valid, resets, chunk):
    return carry, xs + 1


COMBINATORS = {
    "clip_carry": lambda cell: inside.clip_carry(cell, 1.0),
    "drop_connect": lambda cell: inside.drop_connect(cell, 0.5),
    "leaky": lambda cell: inside.leaky(cell, 2.0),
    "learned_carry": inside.learned_carry,
    "narrow": lambda cell: inside.narrow(cell, 2),
    "project": lambda cell: inside.project(cell, 2),
    "recurrent_dropout": lambda cell: inside.recurrent_dropout(cell, 0.5),
    "residual": inside.residual,
    "zoneout": lambda cell: inside.zoneout(cell, 0.5),
}


def test_there_are_no_others():
    public = {name for name, value in vars(inside).items() if inspect.isfunction(value)}
    assert public == set(COMBINATORS)


@pytest.mark.parametrize("name", COMBINATORS)
def test_the_form_of_the_cell_inside_does_not_stay(name):
    combined = COMBINATORS[name](replace(cells.lstm(4), parallel=parallel))
    assert (combined.parallel is not None) == (name == "residual")
    per_step = inside.recurrent_dropout(replace(cells.lstm(4), parallel=parallel), 0.5, per="step")
    assert per_step.parallel is None
    assert COMBINATORS[name](cells.lstm(4)).parallel is None


def test_a_residual_adds_to_all_outputs_at_once():
    combined = inside.residual(replace(cells.lstm(4), parallel=parallel))
    xs = jnp.arange(12.0).reshape(3, 4)
    carry, ys = combined.parallel((), 7, xs, valid=None, resets=None, chunk=None)
    assert carry == 7
    assert jax.numpy.array_equal(ys, 2 * xs + 1)
