"""The linear recurrent unit against NumPy in float64, and what its initialisation promises."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import explain, run
from jaxrnn.cells.lru import lru
from jaxrnn.testing.case import nudge

key = jax.random.key(0)


def random_case(cell):
    xs = jax.random.normal(jax.random.key(1), (6, 2, 3, 4))
    params = nudge(cell.init(key, xs[0]), 2)
    return params, xs, nudge(cell.carry(params, xs[0]), 3)


def check_against(cell, reference):
    """Outputs, carry, and the slope of their sum in one direction, against a loop in NumPy."""
    with jax.enable_x64(True):
        params, xs, carry = random_case(cell)
        towards = nudge(jax.tree.map(jnp.zeros_like, params), 4)

        def loss(params):
            last, ys = run(cell, params, xs, carry)
            return ys.sum() + (last.real + last.imag).sum(), (last, ys)

        slope, got = jax.jit(jax.grad(loss, has_aux=True))(params)
    params, xs, carry, towards, slope = jax.tree.map(
        np.asarray, (params, xs, carry, towards, slope)
    )

    def at(distance):
        p = jax.tree.map(lambda a, d: a + distance * d, params, towards)
        h, ys = carry, []
        for x in xs:
            h, y = reference(p, h, x)
            ys.append(y)
        return h, np.stack(ys)

    def total(distance):
        h, ys = at(distance)
        return ys.sum() + (h.real + h.imag).sum()

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-10), got, at(0.0))
    along = sum(np.vdot(a, d) for a, d in zip(slope, towards, strict=True))
    assert along == pytest.approx((total(1e-6) - total(-1e-6)) / 2e-6, rel=1e-6)


def structure_of(cell):
    """What `explain` says of it."""
    x = jax.ShapeDtypeStruct((3, 4), jnp.float32)
    xs = jax.ShapeDtypeStruct((6, 3, 4), jnp.float32)
    explained = str(explain(cell, jax.eval_shape(cell.init, key, x), xs))
    return explained.partition("\nstructure\n")[2].partition("\n")[0].strip()


def eigenvalues(p):
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), p)
    return np.exp(-np.exp(p.log_decay) + 1j * np.exp(p.log_phase))


def test_it_is_what_the_paper_prints():
    def step(p, h, x):
        B, C = p.input[:, :7] + 1j * p.input[:, 7:], p.output[:7] - 1j * p.output[7:]
        h = eigenvalues(p) * h + np.exp(p.log_scale) * (x @ B)
        return h, (h @ C).real + x @ p.skip

    check_against(lru(5, state=7), step)


def test_it_can_run_in_parallel():
    assert structure_of(lru(5)) == "elementwise affine"


def test_it_starts_uniform_in_a_ring():
    p = lru(4, state=4000, r_min=0.6, r_max=0.9, max_phase=1.5).init(key, jnp.ones(3))
    size, phase = np.abs(eigenvalues(p)), np.angle(eigenvalues(p))
    assert 0.6 <= size.min() < 0.601 < 0.899 < size.max() <= 0.9
    assert 0 <= phase.min() < 0.01 < 1.49 < phase.max() <= 1.5
    # Uniform in the area: |λ|² is uniform, as is the phase; each mean has an error of 1/√(12·4000).
    assert np.mean((size**2 - 0.36) / 0.45) == pytest.approx(0.5, abs=0.02)
    assert np.mean(phase / 1.5) == pytest.approx(0.5, abs=0.02)
    np.testing.assert_allclose(np.exp(p.log_scale), np.sqrt(1 - size**2), rtol=1e-4)


def test_white_noise_keeps_its_size():
    cell = lru(4, state=300, r_min=0.8, r_max=0.95)
    xs = jax.random.normal(key, (200, 8))
    carry, _ = run(cell, cell.init(key, xs[0]), xs)
    assert jnp.mean(jnp.abs(carry) ** 2) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("radius", [0.0, 0.999, 1.0])
def test_a_ring_may_be_a_circle(radius):
    p = lru(3, r_min=radius, r_max=radius).init(key, jnp.ones(3))
    assert all(jnp.isfinite(leaf).all() for leaf in p)
    np.testing.assert_allclose(np.abs(eigenvalues(p)), radius, atol=1e-3)


def test_a_ring_may_be_traced():
    def init(r_min, max_phase):
        return lru(3, r_min=r_min, max_phase=max_phase).init(key, jnp.ones(3))

    swept = jax.vmap(init)(jnp.array([0.2, 0.9]), jnp.array([1.0, 0.1]))
    single = init(0.9, 0.1)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-5), swept, single)


def test_bfloat16_parameters_remember():
    """A decay of 0.999 is 1 in bfloat16; it is computed in the precision of the carry."""
    cell = lru(3, r_min=0.999, r_max=0.999)
    x = jnp.zeros(4, jnp.bfloat16)
    params = cell.init(key, x)
    carry = jnp.ones_like(cell.carry(params, x))
    after, y = cell.step(params, carry, x)
    assert (after.dtype, y.dtype) == (jnp.complex64, jnp.bfloat16)
    np.testing.assert_allclose(1 - jnp.abs(after), 0.001, rtol=0.05)


def test_memory_never_grows():
    """Whatever an optimiser does to the parameters: |λ| ≤ 1, and the gradient is finite."""
    cell = lru(3)
    xs = jnp.ones((5, 2, 4))
    params = cell.init(key, xs[0])
    step = jax.jit(cell.step)
    gradient = jax.jit(jax.grad(lambda p: run(cell, p, xs)[1].sum()))
    for v in (-80.0, 80.0):
        wild = params._replace(log_decay=jnp.full(3, v))
        carry = jnp.ones((2, 3), jnp.complex64)
        after, _ = step(wild, carry, jnp.zeros((2, 4)))
        assert (np.abs(after) <= 1 + 1e-6).all()
        assert all(np.isfinite(leaf).all() for leaf in gradient(wild))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"state": 0}, r"state to be a positive integer, got 0"),
        ({"r_min": 0.9, "r_max": 0.5}, r"0 <= r_min <= r_max <= 1, got r_min=0.9, r_max=0.5"),
        ({"r_max": 1.1}, r"r_max <= 1, got r_min=0.0, r_max=1.1"),
        ({"r_max": math.nan}, r"r_max=nan"),
        ({"r_max": "1"}, r"r_max='1'"),
        ({"max_phase": 0}, r"max_phase > 0, got max_phase=0"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        lru(4, **options)


def test_x_of_another_size():
    cell = lru(4)
    params = cell.init(key, jnp.ones((2, 3)))
    with pytest.raises(ValueError, match=r"lru\(4\) got x with 5 features"):
        run(cell, params, jnp.ones((6, 2, 5)))
    assert repr(lru(4, state=4)) == "lru(4)"
    assert repr(lru(4, state=6)) == "lru(4, state=6)"
