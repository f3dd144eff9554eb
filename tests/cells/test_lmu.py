"""Legendre memory unit against NumPy in float64, and what its memory holds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.linalg import expm

from jaxrnn.cells.lmu import legendre, lmu
from tests.cells.reference import near, ran


def continuous(order):
    """A and B, entry by entry as the paper prints them."""
    A = np.zeros((order, order))
    for i in range(order):
        for j in range(order):
            A[i, j] = (2 * i + 1) * (-1.0 if i < j else (-1.0) ** (i - j + 1))
    return A, np.array([(2 * i + 1) * (-1.0) ** i for i in range(order)])


def held(order, theta):
    """The zero-order hold by its formula: Ā = exp(A/θ), B̄ = A⁻¹(Ā − I)B."""
    A, B = continuous(order)
    with jax.enable_x64(True):
        step = np.asarray(expm(A / theta, max_squarings=40))
    return step, np.linalg.solve(A, (step - np.eye(order)) @ B)


@pytest.mark.parametrize(("order", "theta"), [(1, 2.0), (6, 30.0), (32, 100.0), (24, 3.0)])
def test_the_constants_are_the_zero_order_hold(order, theta):
    A, B = legendre(order, theta)
    step, drive = held(order, theta)
    np.testing.assert_allclose(A, step, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(B, drive, rtol=1e-8, atol=1e-10)


def test_lmu():
    p, xs, carry, ys = ran(lmu(5, order=4, theta=8.0))
    A, B = held(4, 8.0)
    h, m = np.zeros((3, 5)), np.zeros((3, 4))
    for x, y in zip(xs, ys, strict=True):
        u = x @ p.input_encoder[:, 0] + h @ p.recurrent_encoder[:, 0] + m @ p.memory_encoder[:, 0]
        m = np.stack([A @ row + B * value for row, value in zip(m, u, strict=True)])
        h = np.tanh(x @ p.input + h @ p.recurrent + m @ p.memory)
        near(y, h)
    near(carry.h, h)
    near(carry.m, m)


def test_the_memory_holds_a_window():
    """u of d steps ago is m · P(d/θ), with the shifted Legendre polynomials P."""
    order, theta = 12, 50.0
    A, B = legendre(order, theta)
    signal = np.sin(2 * np.pi * np.arange(200) / 60)
    m = np.zeros(order)
    for u in signal:
        m = A @ m + B * u
    for delay in (0.0, 10.0, 25.0, 50.0):
        basis = np.polynomial.legendre.legvander(np.array([2 * delay / theta - 1]), order - 1)[0]
        # A held u is one half step old on average.
        want = np.sin(2 * np.pi * (199.5 - delay) / 60)
        np.testing.assert_allclose(m @ basis, want, atol=0.03)


def test_a_memory_of_256_polynomials_is_finite_and_stable():
    A, B = legendre(256, 784.0)
    assert np.isfinite(A).all()
    assert np.isfinite(B).all()
    assert np.abs(np.linalg.eigvals(A)).max() < 1


def test_constants_are_no_parameters():
    params = lmu(5, order=4, theta=8.0).init(jax.random.key(0), jnp.ones(3))
    assert {k: v.shape for k, v in params._asdict().items()} == {
        "input": (3, 5),
        "recurrent": (5, 5),
        "memory": (4, 5),
        "input_encoder": (3, 1),
        "recurrent_encoder": (5, 1),
        "memory_encoder": (4, 1),
    }
    np.testing.assert_array_equal(params.memory_encoder, 0)


def test_refusals():
    for theta in (0.0, -3.0, "long"):
        with pytest.raises(ValueError, match="needs a positive number of steps as theta"):
            lmu(4, theta=theta)
    with pytest.raises(TypeError, match="make one cell for each theta"):
        jax.vmap(lambda theta: lmu(4, theta=theta).init(jax.random.key(0), jnp.ones(3)))(
            jnp.ones(2)
        )
