"""Every law on random nestings of combinators, three deep."""

import os

import pytest
from hypothesis import HealthCheck, given, settings

from jaxrnn.testing import LAWS, check_cell, laws_of
from tests.laws.nesting import nested_cells, nested_layers

# A nesting is compiled many times for one law: a few of them at each run of the tests, more on demand.
EXAMPLES = int(os.environ.get("JAXRNN_EXAMPLES", "2"))
drawn = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="JAXRNN_EXAMPLES" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("law", LAWS)
def test_cells_inside_of_combinators(law):
    @drawn
    @given(cell=nested_cells())
    def keeps(cell):
        assert check_cell(cell, laws=[law]) == [law]

    keeps()


@pytest.mark.parametrize("law", LAWS)
def test_layers_of_layers(law):
    @drawn
    @given(layer=nested_layers())
    def keeps(layer):
        if law in laws_of(layer):
            assert check_cell(layer, laws=[law]) == [law]

    keeps()
