"""Every law on every cell: what `jaxrnn.testing.check_cell` promises for a user's cell."""

import pytest

from jaxrnn.testing import LAWS, check_cell
from tests.tables import CELLS


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", CELLS)
def test_law(name, law):
    assert check_cell(CELLS[name], laws=[law]) == [law]
