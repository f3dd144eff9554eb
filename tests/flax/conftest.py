import pytest

from tests.flax.cases import CASES, Wrapped


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Wrapped:
    return CASES[request.param]
