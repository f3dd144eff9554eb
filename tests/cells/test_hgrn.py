"""Hierarchically gated networks against NumPy in float64, and what their bounds promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import run
from jaxrnn.cells.hgrn import hgrn, lower_bounds, real_hgrn
from jaxrnn.engine.structure import Kind
from tests.cells.reference import dtypes, near, normalise, ran, sigmoid, structure

BOUND = np.array([0.0, 0.1, 0.3, 0.5, 0.9])


def silu(a):
    return a * sigmoid(a)


def test_hgrn():
    p, xs, carry, ys = ran(hgrn(5, lower_bound=BOUND))
    h = np.zeros((3, 5), complex)
    for x, y in zip(xs, ys, strict=True):
        u = x @ p.input + p.bias
        f = BOUND + (1 - BOUND) * sigmoid(u[:, :5])
        c = silu(u[:, 15:20]) + 1j * silu(u[:, 20:])
        h = f * np.exp(1j * p.phase) * h + (1 - f) * c
        memory = normalise(np.concatenate([h.real, h.imag], axis=-1))
        near(y, (sigmoid(u[:, 5:15]) * memory) @ p.output + p.output_bias)
    near(carry, h)


def test_real_hgrn():
    p, xs, carry, ys = ran(real_hgrn(5, lower_bound=0.25))
    h = np.zeros((3, 5))
    for x, y in zip(xs, ys, strict=True):
        u = x @ p.input + p.bias
        f = 0.25 + 0.75 * sigmoid(u[:, :5])
        h = f * h + (1 - f) * silu(u[:, 10:])
        near(y, (sigmoid(u[:, 5:10]) * normalise(h)) @ p.output + p.output_bias)
    near(carry, h)


@pytest.mark.parametrize("make", [hgrn, real_hgrn])
def test_the_carry_is_affine(make):
    assert structure(make(5, lower_bound=0.2)) == Kind.AFFINE


@pytest.mark.parametrize("make", [hgrn, real_hgrn])
def test_no_less_than_the_bound_is_kept(make):
    """However closed the gate, and whatever the phase: |∂hₜ/∂hₜ₋₁| is in [γ, 1]."""
    cell = make(5, lower_bound=BOUND)
    x = 100 * jax.random.normal(jax.random.key(0), (64, 4))
    params = cell.init(jax.random.key(1), x)
    h = cell.carry(params, x)
    kept = jnp.abs(cell.step(params, h + 1, x)[0] - cell.step(params, h, x)[0])
    assert (kept >= BOUND - 1e-5).all()
    assert (kept <= 1 + 1e-5).all()
    np.testing.assert_allclose(kept.min(0), BOUND, atol=1e-5)


def test_phases_are_those_of_the_authors():
    phase = hgrn(4).init(jax.random.key(0), jnp.ones(3)).phase
    np.testing.assert_allclose(phase, [1, 1e-2, 1e-4, 1e-6], rtol=1e-5)


def test_lower_bounds_grow_from_0_and_stay_below_1():
    logits = jax.random.normal(jax.random.key(0), (4, 5))
    bounds = np.asarray(lower_bounds(logits))
    share = np.exp(logits) / np.exp(logits).sum(0)
    np.testing.assert_allclose(bounds[0], 0, atol=1e-7)
    np.testing.assert_allclose(bounds[2], share[1] + share[2], rtol=1e-5)
    assert (np.diff(bounds, axis=0) > 0).all()
    assert (bounds < 1).all()


def test_a_bound_may_be_learned():
    """It is closed over while traced, and its gradient is that of finite differences."""
    xs = jax.random.normal(jax.random.key(0), (5, 2, 4))
    params = real_hgrn(3).init(jax.random.key(1), xs[0])

    def loss(bound):
        carry, _ = run(real_hgrn(3, lower_bound=bound), params, xs)
        return jnp.sum(carry)

    slope = jax.jit(jax.grad(loss))(0.4)
    np.testing.assert_allclose(slope, (loss(0.41) - loss(0.39)) / 0.02, rtol=1e-2)


@pytest.mark.parametrize("bound", [1.0, -0.1, np.array([0.5, 1.5]), "high"])
def test_a_bound_outside_0_1_is_refused(bound):
    with pytest.raises(ValueError, match=r"hgrn\(\) needs a lower_bound with 0 <= lower_bound < 1"):
        hgrn(2, lower_bound=bound)


def test_a_traced_bound_leaves_the_dtype():
    assert dtypes(lambda v: real_hgrn(4, lower_bound=v), 0.5) == {"bfloat16"}
    assert dtypes(lambda v: hgrn(4, lower_bound=v), 0.5) == {"bfloat16", "complex64"}
