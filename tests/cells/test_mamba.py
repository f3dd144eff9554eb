"""The selective state space model against NumPy in float64, and what its initialisation promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import run
from jaxrnn.cells.mamba import selective_ssm
from jaxrnn.cells.ssm import zoh, zoh_euler
from jaxrnn.testing.case import nudge
from tests.cells.test_lru import check_against, structure_of

key = jax.random.key(0)


@pytest.mark.parametrize("rule", [zoh, zoh_euler])
def test_it_is_what_the_paper_prints(rule):
    def step(p, h, x):
        u, A = x @ p.input, -np.exp(p.log_decay)
        d, B, C = np.split(u @ p.select, [2, 5], axis=-1)
        dt = np.log1p(np.exp(d @ p.step + p.step_bias))[..., None]
        hold = (np.exp(dt * A) - 1) / A if rule is zoh else dt
        h = np.exp(dt * A) * h + np.einsum("...en,...n,...e->...en", hold, B, u)
        return h, np.einsum("...en,...n->...e", h, C) + p.skip * u

    check_against(selective_ssm(5, state=3, rank=2, discretise=rule), step)


def test_it_is_a_gate():
    """Theorem 1 of the paper: with N = 1, A = −1, B = 1, hₜ = (1 − g) hₜ₋₁ + g xₜ, g = σ(Linear(x))."""
    cell = selective_ssm(4, state=1, rank=1, discretise=zoh)
    xs = jax.random.normal(key, (7, 4)).at[:, 3].set(1.0)
    params = nudge(cell.init(key, xs[0]), 2)
    to_d = jax.random.normal(key, (4,))
    params = params._replace(
        input=jnp.eye(4),
        select=jnp.stack([to_d, jnp.eye(4)[3], jnp.eye(4)[3]], axis=-1),  # B = C = x₃ = 1
        log_decay=jnp.zeros((4, 1)),
        skip=jnp.zeros(4),
    )
    _, ys = run(cell, params, xs)
    h = np.zeros(4)
    for x, y in zip(xs, ys, strict=True):
        g = 1 / (1 + np.exp(-((x @ to_d) * params.step[0] + params.step_bias)))
        h = (1 - g) * h + g * x
        np.testing.assert_allclose(y, h, atol=1e-5)


def test_it_can_run_in_parallel():
    assert structure_of(selective_ssm(5, state=3)) == "elementwise affine"


def test_how_it_starts():
    p = selective_ssm(2000, state=3, dt_min=0.01, dt_max=0.1).init(key, jnp.ones(2))
    assert p.step.shape == (125, 2000)
    np.testing.assert_allclose(jnp.exp(p.log_decay), np.tile([1, 2, 3], (2000, 1)), rtol=1e-6)
    np.testing.assert_array_equal(p.skip, 1)
    log_step = np.log10(jax.nn.softplus(p.step_bias))
    assert -2.001 < log_step.min() < -1.99 < -1.01 < log_step.max() < -0.999
    assert log_step.mean() == pytest.approx(-1.5, abs=0.03)
    assert 0.99 * 125**-0.5 < np.abs(p.step).max() <= 125**-0.5


@pytest.mark.parametrize("rule", [zoh, zoh_euler])
def test_a_gate_wide_open_or_shut(rule):
    """Whatever Δ is before its softplus, values and gradients are finite; shut, all is kept."""
    cell = selective_ssm(3, state=2, discretise=rule)
    xs = jnp.ones((5, 4))
    params = cell.init(key, xs[0])._replace(step=jnp.zeros((1, 3)))
    slope = jax.jit(jax.value_and_grad(lambda p, h: run(cell, p, xs, h)[1].sum(), argnums=(0, 1)))
    for v in (-200.0, -80.0, 80.0, 200.0):
        wild = params._replace(step_bias=jnp.full(3, v))
        result = slope(wild, jnp.ones((3, 2)))
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(result)), v
        if v < 0:
            np.testing.assert_allclose(run(cell, wild, xs, jnp.ones((3, 2)))[0], 1, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"state": 0}, r"state to be a positive integer, got 0"),
        ({"rank": 0}, r"rank to be a positive integer, got 0"),
        ({"dt_max": 1e-4}, r"0 < dt_min <= dt_max, got dt_min=0.001, dt_max=0.0001"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        selective_ssm(4, **options)
