"""The cells of xLSTM against NumPy, written as the paper prints them before it stabilises them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn.cells.xlstm import SLSTMCarry, mlstm, slstm
from jaxrnn.engine.structure import Kind
from tests.cells.reference import near, ran, sigmoid, structure


def test_mlstm():
    """Eq. 19–27, without m: C and n grow with e^ĩ."""
    p, xs, carry, ys = ran(mlstm(6, heads=2, key_features=4))
    c, n = np.zeros((3, 2, 3, 4)), np.zeros((3, 2, 4))
    for x, y in zip(xs, ys, strict=True):
        i, f, o, q, k, v = np.split(x @ p.input + p.bias, [2, 4, 10, 18, 26], axis=-1)
        i, f = np.exp(i)[..., None], sigmoid(f)[..., None]
        q, k, v = (a.reshape(3, 2, -1) for a in (q, k / np.sqrt(4), v))
        c = f[..., None] * c + i[..., None] * v[..., :, None] * k[..., None, :]
        n = f * n + i * k
        read = np.einsum("bhvk,bhk->bhv", c, q)
        read /= np.maximum(np.abs((n * q).sum(-1, keepdims=True)), 1)
        near(y, sigmoid(o) * read.reshape(3, 6))
    scale = np.exp(carry.m)[..., None]
    near(scale * carry.n, n)
    near(scale[..., None] * carry.c, c.swapaxes(-1, -2))


def test_slstm():
    """Eq. 8–14, without m, R block-diagonal."""
    p, xs, carry, ys = ran(slstm(6, heads=2))
    h = c = n = np.zeros((3, 6))
    for x, y in zip(xs, ys, strict=True):
        w = np.split(x @ p.input + p.bias, 4, axis=-1)
        r = [np.split(h[:, 3 * b : 3 * b + 3] @ p.recurrent[b], 4, axis=-1) for b in range(2)]
        i, f, o, z = (w[g] + np.concatenate([r[0][g], r[1][g]], axis=-1) for g in range(4))
        c = sigmoid(f) * c + np.exp(i) * np.tanh(z)
        n = sigmoid(f) * n + np.exp(i)
        h = sigmoid(o) * c / n
        near(y, h)
    near(np.exp(carry.m) * carry.n, n)


def scanned(cell, params, carry, xs):
    return jax.lax.scan(lambda c, x: cell.step(params, c, x), carry, xs)


def at_once(cell, params, carry, xs):
    return cell.parallel(params, carry, xs, valid=None, resets=None, chunk=8)


@pytest.mark.parametrize("scale", [0.0, 1.0])
@pytest.mark.parametrize(
    ("cell", "form", "wide"),
    [(mlstm(4, heads=2), scanned, 2), (mlstm(4, heads=2), at_once, 2), (slstm(4), scanned, 4)],
)
def test_gates_of_80_stay_finite(cell, form, wide, scale):
    """ĩ and f̃ of ±80 and 0 in any order, in float32, values and gradients; also where all else is 0."""
    d, steps = 3, 20
    params = cell.init(jax.random.key(0), jnp.zeros(d))
    # Two inputs more are the pre-activations; they are all that reaches the gates.
    input = jnp.pad(scale * params.input, [(0, 2), (0, 0)])
    for row, columns in ((d, slice(0, wide)), (d + 1, slice(wide, 2 * wide))):
        input = input.at[:, columns].set(0).at[row, columns].set(1)
    params = params._replace(input=input, bias=jnp.zeros_like(params.bias))
    pair = jax.random.choice(jax.random.key(1), jnp.array([-80.0, 0.0, 80.0]), (2, steps, 2))
    noise = jax.random.normal(jax.random.key(2), (2, steps, d))
    xs = jnp.concatenate([noise, pair], axis=-1)

    @jax.jit
    @jax.vmap
    def results(xs):
        carry = cell.carry(params, xs[0])

        def loss(params, xs):
            last, ys = form(cell, params, carry, xs)
            return sum(jnp.sin(a).sum() for a in (*jax.tree.leaves(last), ys)), ys

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, xs)

    for leaf in jax.tree.leaves(results(xs)):
        assert np.isfinite(leaf).all()


def test_no_gate_is_too_small_to_start_with():
    """The first thing written is read as it is, however little its gate; nothing has weight yet."""
    cell = slstm(2)
    p = jax.tree.map(jnp.zeros_like, cell.init(jax.random.key(0), jnp.zeros(1)))
    p = p._replace(bias=jnp.array([-300.0, -300, 80, 80, 80, 80, 1, -1]))
    carry, y = cell.step(p, cell.carry(p, jnp.zeros(1)), jnp.zeros(1))
    np.testing.assert_allclose(y, np.tanh([1, -1]), rtol=1e-6)
    assert (carry.m == -300).all()


def test_the_heads_of_slstm_do_not_see_each_other():
    cell = slstm(6, heads=3)
    p = cell.init(jax.random.key(0), jnp.zeros(4))
    assert p.recurrent.shape == (3, 2, 8)
    carry = SLSTMCarry(*(jax.random.normal(jax.random.key(i), (6,)) for i in range(4)))
    jacobian = jax.jacobian(lambda h: cell.step(p, carry._replace(h=h), jnp.zeros(4))[1])(carry.h)
    others = jnp.kron(1 - jnp.eye(3), jnp.ones((2, 2)))
    assert not (others * jacobian).any()


def test_the_bias_of_the_forget_gates():
    x = jnp.zeros(4)
    assert mlstm(8, heads=4).init(jax.random.key(0), x).bias[:10].tolist() == [0] * 4 + [
        3,
        4,
        5,
        6,
        0,
        0,
    ]
    assert (mlstm(8, heads=4, forget_bias=2.0).init(jax.random.key(0), x).bias[4:8] == 2).all()
    assert (slstm(3, forget_bias=4.0).init(jax.random.key(0), x).bias[3:6] == 4).all()


@pytest.mark.parametrize("make", [mlstm, slstm])
def test_structure_and_errors(make):
    assert structure(make(6, heads=2)) == Kind.DENSE
    with pytest.raises(ValueError, match=rf"{make.__name__}\(\) .* got 6 features and 4 heads"):
        make(6, heads=4)
