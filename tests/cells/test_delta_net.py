"""Delta nets against NumPy, written as the papers print them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import run
from jaxrnn.cells.delta_net import delta_net, gated_delta_net
from jaxrnn.engine.structure import Kind
from tests.cells.reference import near, ran, sigmoid, structure


def unit(a):
    a = a * sigmoid(a)
    return a / np.sqrt((a**2).sum(-1, keepdims=True) + 1e-6)


def reference(xs, weight, gate):
    """Sₜ = αₜ Sₜ₋₁ (I − βₜ kₜ kₜᵀ) + βₜ vₜ kₜᵀ, yₜ = Sₜ qₜ; two heads of K = 4, V = 3."""
    ys, s = [], np.zeros((3, 2, 3, 4))
    for x in xs:
        q, k, v, b, *d = np.split(x @ weight, [8, 16, 22, 24], axis=-1)
        q, k = unit(q.reshape(3, 2, 4)), unit(k.reshape(3, 2, 4))
        v, b = v.reshape(3, 2, 3, 1), sigmoid(b)[..., None, None]
        turned = np.eye(4) - b * k[..., :, None] * k[..., None, :]
        s = gate(*d)[..., None, None] * s @ turned + b * v * k[..., None, :]
        ys.append(np.einsum("bhvk,bhk->bhv", s, q).reshape(3, 6))
    return s.swapaxes(-1, -2), np.stack(ys)


def test_delta_net():
    p, xs, s, ys = ran(delta_net(6, heads=2, key_features=4))
    want, outputs = reference(xs, p.input, lambda d: np.ones((3, 2)))  # no d: an empty block
    near(s, want)
    near(ys, outputs)


def test_gated_delta_net():
    p, xs, s, ys = ran(gated_delta_net(6, heads=2, key_features=4))

    def gate(d):
        return np.exp(-np.exp(p.decay) * np.log1p(np.exp(d + p.bias)))

    want, outputs = reference(xs, p.input, gate)
    near(s, want)
    near(ys, outputs)


def test_what_is_written_twice_is_read_once():
    """A key that comes again gets its new value, where linear attention would add the two."""
    cell = delta_net(2, key_features=2)
    weight = jnp.zeros((5, 7)).at[jnp.arange(4), jnp.array([2, 3, 4, 5])].set(1.0)
    weight = weight.at[4, 6].set(20.0).at[:, :2].set(weight[:, 2:4])  # β ≈ 1, q = k
    xs = jnp.array([[9.0, -9, 1, 2, 1], [9.0, -9, 5, -3, 1]])
    _, ys = run(cell, cell.init(jax.random.key(0), xs[0])._replace(input=weight), xs)
    np.testing.assert_allclose(ys, xs[:, 2:4], rtol=1e-4)


def test_the_start_of_the_gates():
    cell = gated_delta_net(64, heads=64, decay_range=(2.0, 3.0), step_range=(0.01, 0.02))
    p = cell.init(jax.random.key(0), jnp.zeros(4))
    for drawn, low, high in ((jnp.exp(p.decay), 2, 3), (jax.nn.softplus(p.bias), 0.01, 0.02)):
        assert low * 0.999 <= drawn.min() < drawn.max() <= high * 1.001
        assert drawn.max() - drawn.min() > 0.8 * (high - low)


@pytest.mark.parametrize("make", [delta_net, gated_delta_net])
def test_a_key_mixes_the_rows_of_the_memory(make):
    assert structure(make(6, heads=2)) == Kind.DENSE


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: delta_net(6, heads=4), r"delta_net\(\) .* got 6 features and 4 heads"),
        (lambda: gated_delta_net(6, heads=0), r"gated_delta_net\(\) .* of heads, got 0"),
        (
            lambda: gated_delta_net(4, decay_range=(2.0, 1.0)),
            r"needs decay_range with 0 < low <= high, got \(2.0, 1.0\)",
        ),
        (lambda: gated_delta_net(4, step_range=(0.0, 1.0)), "needs step_range with 0 < low"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
