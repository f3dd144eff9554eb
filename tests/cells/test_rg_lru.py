"""The real-gated linear recurrent unit against NumPy in float64, and its gates at their ends."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import run
from jaxrnn.cells.rg_lru import complement, rg_lru
from tests.cells.test_lru import check_against, structure_of

key = jax.random.key(0)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def test_it_is_what_the_paper_prints():
    def blocks(gates):
        return np.kron([[1, 0], [0, 0]], gates[0]) + np.kron([[0, 0], [0, 1]], gates[1])

    def step(p, h, x):
        u = x @ p.input
        r = sigmoid(u @ blocks(p.gates[..., :3]) + p.gate_bias[:, :3].ravel())
        i = sigmoid(u @ blocks(p.gates[..., 3:]) + p.gate_bias[:, 3:].ravel())
        a = sigmoid(p.decay) ** (5 * r)
        h = a * h + np.sqrt(1 - a**2) * (i * u)
        return h, h

    check_against(rg_lru(6, heads=2, c=5.0), step)


def test_it_can_run_in_parallel():
    assert structure_of(rg_lru(6, heads=3)) == "elementwise affine"


@pytest.mark.parametrize("c", [8.0, 2.0])
def test_decays_start_uniform(c):
    p = rg_lru(800, heads=4, c=c).init(key, jnp.ones(2))
    assert p.gates.shape == (4, 200, 400)
    decay = sigmoid(np.asarray(p.decay, np.float64)) ** c
    assert 0.9 - 1e-5 < decay.min() < 0.901 < 0.998 < decay.max() < 0.999 + 1e-5
    assert decay.mean() == pytest.approx(0.9495, abs=0.003)


def test_numbers_may_be_traced():
    xs = jnp.ones((4, 2, 3))

    def outputs(c, r_min):
        cell = rg_lru(3, c=c, r_min=r_min)
        params = cell.init(key, xs[0])
        return params.decay, run(cell, params, xs)[1]

    swept = jax.vmap(outputs)(jnp.array([8.0, 4.0]), jnp.array([0.9, 0.5]))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-5), swept, outputs(4.0, 0.5)
    )


def test_the_complement_keeps_its_digits():
    log_a = -jnp.array([1e-12, 1e-7, 1e-3, 1.0, 50.0])
    want = np.sqrt(-np.expm1(2 * np.asarray(log_a, np.float64)))
    np.testing.assert_allclose(complement(log_a), want, rtol=1e-5)
    assert complement(jnp.zeros(())) < 1e-9
    assert jnp.isfinite(jax.grad(complement)(0.0))
    assert jnp.isfinite(jax.grad(jax.grad(complement))(0.0))


def test_gradients_at_the_ends_of_the_gates():
    """In float32 they are finite, and what they are in float64."""
    cell = rg_lru(2)
    x = jnp.ones((5, 3))
    params = cell.init(key, x)

    @jax.jit
    @partial(jax.vmap, in_axes=(None, None, 0, 0))
    def slopes(params, x, gate, decay):
        bias = jnp.stack([gate, gate, jnp.ones_like(gate), -jnp.ones_like(gate)])
        params = params._replace(gate_bias=bias[None], decay=jnp.stack([decay, decay]))
        first = jnp.ones_like(x, shape=(5, 2))
        return jax.grad(lambda p: jnp.sin(cell.step(p, first, x)[1]).sum())(params)

    ends = np.meshgrid([-200.0, -80.0, -15.0, 0.0, 80.0], [-80.0, 9.0, 80.0])
    case = jax.tree.map(np.asarray, (params, x, *(end.ravel() for end in ends)))
    narrow = slopes(*jax.tree.map(lambda a: a.astype(np.float32), case))
    with jax.enable_x64(True):
        wide = slopes(*jax.tree.map(lambda a: a.astype(np.float64), case))
    for a, b in zip(narrow, wide, strict=True):
        assert a.dtype == jnp.float32
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 4}, r"heads to divide features, got 4 and 6"),
        ({"heads": True}, r"heads to be a positive integer, got True"),
        ({"c": -1}, r"c > 0, got c=-1"),
        ({"r_max": 1.0}, r"0 < r_min <= r_max < 1, got r_min=0.9, r_max=1.0"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        rg_lru(6, **options)
