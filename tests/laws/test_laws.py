"""Every law on every cell: what `jaxrnn.testing.check_cell` promises for a user's cell."""

import jax
import jax.numpy as jnp
import pytest

from jaxrnn import methods
from jaxrnn.testing import LAWS, case_of, check_cell
from jaxrnn.testing.case import derivatives, same, variations
from tests.tables import CELLS, REPRESENTATIVES

OTHERS = [name for name in CELLS if name not in REPRESENTATIVES]
# The nonlinear ones are run by the engine as the LSTM is, and differ by their equations alone.
# fmt: off
PARALLEL = {
    "gru", "sru_v1", "qrnn", "qrnn-ifo", "causal_conv", "min_gru", "min_lstm", "hgrn", "real_hgrn",
    "s4d", "s5", "selective_ssm", "rg_lru", "linear_attention", "retention",
    "gated_linear_attention", "delta_net", "gated_delta_net",
}
# fmt: on


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_law(name, law):
    assert check_cell(CELLS[name], laws=[law]) == [law]


@pytest.mark.thorough
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", OTHERS)
def test_law_thoroughly(name, law):
    assert check_cell(CELLS[name], laws=[law]) == [law]


@pytest.mark.parametrize("name", OTHERS)
def test_the_laws_of_a_step(name):
    laws = [
        "init is a function of key and shape",
        "streaming is running",
        "a reset is a fresh start",
        "the carry keeps its type",
        "structure found is there",
    ]
    assert check_cell(CELLS[name], laws=laws) == laws


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in PARALLEL else [pytest.mark.thorough]) for n in OTHERS],
)
def test_methods_agree_about_masks_resets_and_gradients(name):
    with jax.enable_x64(True):
        case = case_of(CELLS[name], jnp.zeros((3, 4)))
        options = variations(case)["all at once"]
        want = derivatives(case, methods.lax(), options, curvature=False)
        method = methods.first(methods.associative(chunk=3), methods.scan(chunk=3, remat=True))
        got = derivatives(case, method, options, curvature=False)
        same(got, want, case.tolerance, f"{method}")
