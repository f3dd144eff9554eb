"""The laws compile the most, so each of them begins as a new module does."""

import gc

import pytest


@pytest.fixture(autouse=True)
def spared_again():
    gc.freeze()
