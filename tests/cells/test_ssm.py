"""S4D and S5 against what they stand for: a convolution, a dense model, a differential equation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.linalg import expm

from jaxrnn import run
from jaxrnn.cells import ssm
from jaxrnn.cells.ssm import bilinear, s4d, s5, zoh
from tests.cells.test_lru import check_against, structure_of

key = jax.random.key(0)


def sampled(p, rule):
    """Ā and B̄/B of a model as the papers print them."""
    A, step = -np.exp(p.log_decay) + 1j * p.frequency, np.exp(p.log_step)
    step = step.reshape(step.shape + (1,) * (A.ndim - step.ndim))
    if rule is zoh:
        return np.exp(step * A), (np.exp(step * A) - 1) / A
    return (1 + step * A / 2) / (1 - step * A / 2), step / (1 - step * A / 2)


@pytest.mark.parametrize("rule", [zoh, bilinear])
def test_s4d_is_what_the_paper_prints(rule):
    def step(p, h, x):
        (a, b), u = sampled(p, rule), x @ p.input
        h = a * h + b * u[..., None]
        C = p.output[:, :3] + 1j * p.output[:, 3:]
        return h, 2 * np.einsum("hn,...hn->...h", C, h).real + p.skip * u

    check_against(s4d(5, state=6, discretise=rule, dt_min=0.2, dt_max=0.9), step)


@pytest.mark.parametrize("rule", [zoh, bilinear])
def test_s5_is_what_the_paper_prints(rule):
    def step(p, h, x):
        a, b = sampled(p, rule)
        B, C = p.input[:, :4] + 1j * p.input[:, 4:], p.output[:4] - 1j * p.output[4:]
        h = a * h + b * (x @ B)
        return h, 2 * (h @ C).real + x @ p.skip

    check_against(s5(5, state=8, blocks=2, discretise=rule, dt_min=0.2, dt_max=0.9), step)


def test_s5_starts_as_a_real_dense_model():
    """ḣ = A h + B u, A block-diagonal of HiPPO-LegS normal parts, sampled by a matrix exponential."""
    with jax.enable_x64(True):
        B, C = jax.random.normal(key, (4, 8)), jax.random.normal(jax.random.key(1), (8, 5))
        cell = s5(
            5,
            state=8,
            blocks=2,
            dt_min=0.3,
            dt_max=0.3,
            input_init=lambda key, shape, dtype: B,
            output_init=lambda key, shape, dtype: C,
        )
        xs = jax.random.normal(key, (9, 4))
        params = cell.init(key, xs[0])
        _, ys = run(cell, params, xs)
        A = np.kron(np.eye(2), ssm.hippo_normal(4))
        step = expm(0.3 * A)
    step, B, C, xs, ys, D = jax.tree.map(np.asarray, (step, B, C, xs, ys, params.skip))
    hold, h = np.linalg.solve(A, step - np.eye(8)), np.zeros(8)
    for x, y in zip(xs, ys, strict=True):
        h = step @ h + hold @ (x @ B)
        np.testing.assert_allclose(y, h @ C + x @ D, atol=1e-10)


def test_hippo():
    """The normal part, and a term of rank one, are the HiPPO-LegS matrix; V diagonalises it."""
    n = 6
    q = 2 * np.arange(n) + 1
    legs = -np.tril(np.sqrt(np.outer(q, q)), -1) - np.diag(np.arange(n) + 1)
    np.testing.assert_allclose(ssm.hippo_normal(n) - np.outer(q, q) ** 0.5 / 2, legs, atol=1e-12)
    values, V = ssm.hippo_pairs(n)
    assert (values.imag > 0).all()
    np.testing.assert_allclose(
        2 * ((V * values) @ V.conj().T).real, ssm.hippo_normal(n), atol=1e-12
    )


def test_where_the_eigenvalues_start():
    legs, inv, lin = (np.sort_complex(f(64)) for f in (ssm.s4d_legs, ssm.s4d_inv, ssm.s4d_lin))
    for values in (legs, inv, lin):
        assert values.shape == (32,)
        np.testing.assert_allclose(values.real, -0.5, atol=1e-9)
    # The paper: S4D-Inv approximates the spectrum of S4D-LegS, whose largest frequency is N²/π.
    frequencies = np.sort(legs.imag)
    np.testing.assert_allclose(np.sort(inv.imag)[-2:], frequencies[-2:], rtol=0.06)
    np.testing.assert_allclose(frequencies[-1], 64**2 / np.pi, rtol=0.01)
    np.testing.assert_allclose(np.diff(np.sort(lin.imag)), np.pi)
    p = s4d(3, state=8, eigenvalues=ssm.s4d_inv).init(key, jnp.ones(2))
    np.testing.assert_allclose(p.frequency, np.tile(ssm.s4d_inv(8).imag, (3, 1)), rtol=1e-6)
    np.testing.assert_allclose(jnp.exp(p.log_decay), 0.5, rtol=1e-6)


@pytest.mark.parametrize("cell", [s4d(400, state=2), s5(2, state=800, blocks=200)], ids=str)
def test_steps_start_log_uniform(cell):
    log_step = np.log10(np.exp(cell.init(key, jnp.ones(2)).log_step))
    assert log_step.shape == (400,)
    assert -3 <= log_step.min() < -2.97 < -1.03 < log_step.max() <= -1
    assert log_step.mean() == pytest.approx(-2, abs=0.1)


def test_sampling_solves_the_differential_equation():
    """Zero-order hold exactly, so that two half steps are one; Tustin's method to second order."""
    A = jnp.asarray(-0.3 + 2j)

    def twice_half(rule, step):
        (a, b), (a2, b2) = rule(A, step), rule(A, step / 2)
        return abs(a - a2 * a2) + abs(b - (a2 * b2 + b2))

    with jax.enable_x64(True):
        assert twice_half(zoh, jnp.asarray(0.4)) < 1e-6
        for step in (0.1, 0.05):
            exact, ours = zoh(A, jnp.asarray(step)), bilinear(A, jnp.asarray(step))
            for got, want in zip(ours, exact, strict=True):
                assert 0.02 < abs(got - want) / step**3 < 1


def test_a_short_step_keeps_its_digits():
    """exp(ΔA) − 1 would lose all but one in float32."""
    for A in (-0.5 + 3j, -2.0):
        _, b = zoh(jnp.asarray(A), jnp.float32(1e-6))
        assert abs(b / 1e-6 - 1) < 1e-5


@pytest.mark.parametrize("cell", [s4d(5, state=4), s5(5, state=4)], ids=str)
def test_they_can_run_in_parallel(cell):
    assert structure_of(cell) == "elementwise affine"


@pytest.mark.parametrize("rule", [zoh, bilinear])
def test_extreme_parameters_have_gradients(rule):
    """One eigenvalue of S4D-Lin has no frequency: all that keeps it from 0 is its decay."""
    cell = s4d(2, state=4, discretise=rule)
    x = jnp.ones(4)
    params = cell.init(key, x)

    @jax.jit
    @jax.vmap
    def slope(log_decay, log_step):
        wild = params._replace(
            log_decay=jnp.full((2, 2), log_decay), log_step=jnp.full(2, log_step)
        )
        carry = jnp.ones((2, 2), jnp.complex64)
        return jax.grad(lambda p: jnp.real(sum(v.sum() for v in cell.step(p, carry, x))))(wild)

    ends = np.meshgrid([-30.0, -0.7, 30.0], [-30.0, -3.0, 30.0])
    slopes = slope(*(jnp.asarray(end.ravel(), jnp.float32) for end in ends))
    assert all(jnp.isfinite(leaf).all() for leaf in slopes), slopes


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: s4d(4, state=5), ValueError, r"s4d\(\) .* state to be a multiple of 2, got 5"),
        (lambda: s4d(4, dt_min=0.0), ValueError, r"0 < dt_min <= dt_max, got dt_min=0.0"),
        (
            lambda: ssm.check_function("s4d", "f", "A -> B", "zoh"),
            TypeError,
            r"f to be .* got 'zoh'",
        ),
        (lambda: s5(4, state=8, blocks=3), ValueError, r"s5\(\) .* multiple of 6, got 8"),
        (lambda: s5(4, blocks=0), ValueError, r"blocks to be a positive integer, got 0"),
        (lambda: s5(4, dt_min=0.2), ValueError, r"got dt_min=0.2, dt_max=0.1"),
        (
            lambda: s4d(4, state=4, eigenvalues=np.ones).init(key, jnp.ones(3)),
            ValueError,
            r"eigenvalues\(4\) to be an array \[2\] .* got \[1",
        ),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
