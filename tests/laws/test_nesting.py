"""Every law on random nestings of combinators, three deep."""

import os

import pytest
from hypothesis import HealthCheck, given, settings

from jaxrnn.testing import LAWS, check_cell, laws_of
from jaxrnn.testing.transforms import TRANSFORMS
from tests.laws.nesting import nested_cells, nested_layers

# What compiles a nesting many times.
THOROUGH = {"every method agrees with lax", *TRANSFORMS}


def laws_besides(often):
    """All laws; those that compile the most, but for `often`, on demand only."""
    late = THOROUGH - often
    return [pytest.param(n, marks=[pytest.mark.thorough] if n in late else []) for n in LAWS]


def drawn(law):
    """The same few nestings of each law at every run of the tests; more, and others, on demand."""
    asked = os.environ.get("JAXRNN_EXAMPLES")
    return settings(
        max_examples=int(asked or (1 if law in THOROUGH else 2)),
        deadline=None,
        derandomize=asked is None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.parametrize("law", laws_besides({"every method agrees with lax"}))
def test_cells_inside_of_combinators(law):
    @drawn(law)
    @given(cell=nested_cells())
    def keeps(cell):
        assert check_cell(cell, laws=[law]) == [law]

    keeps()


@pytest.mark.parametrize("law", laws_besides({"inside shard_map"}))
def test_layers_of_layers(law):
    @drawn(law)
    @given(layer=nested_layers())
    def keeps(layer):
        if law in laws_of(layer):
            assert check_cell(layer, laws=[law]) == [law]

    keeps()
