"""Linear attention, retention and gated linear attention against NumPy, written as the papers do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn.cells.linear_attention import gated_linear_attention, linear_attention, retention
from jaxrnn.engine.structure import Kind
from tests.cells.reference import dtypes, near, ran, sigmoid, structure


def heads_of(x, weight, *widths):
    """q, k and v of two heads, and what comes after them."""
    blocks = np.split(x @ weight, np.cumsum(widths)[:-1], axis=-1)
    return [a.reshape(*a.shape[:-1], 2, -1) for a in blocks[:3]] + blocks[3:]


def test_linear_attention_is_attention_with_a_kernel():
    """Katharopoulos et al., eq. 9: sums over all that came before, with no memory."""
    p, xs, carry, ys = ran(linear_attention(6, heads=2, key_features=4))

    def phi(a):
        return np.where(a > 0, a + 1, np.exp(a))

    q, k, v = heads_of(xs, p.input, 8, 8, 6)
    for t in range(len(xs)):
        similar = np.einsum("bhk,sbhk->sbh", phi(q[t]), phi(k[: t + 1]))
        y = np.einsum("sbh,sbhv->bhv", similar, v[: t + 1]) / (similar.sum(0) + 1e-6)[..., None]
        near(ys[t], y.reshape(3, 6))
    near(carry.s, np.einsum("sbhk,sbhv->bhkv", phi(k), v))
    near(carry.z, phi(k).sum(0))


def test_retention_is_attention_with_decay():
    """Sun et al., eq. 5: (Q Kᵀ ⊙ D) V with D = γ^(n − m)."""
    p, xs, s, ys = ran(retention(6, heads=2, key_features=4))
    q, k, v = heads_of(xs, p.input, 8, 8, 6)
    gammas = np.array([1 - 1 / 32, 1 - 1 / 64])
    for t in range(len(xs)):
        left = gammas ** np.arange(t, -1, -1)[:, None]
        similar = np.einsum("bhk,sbhk,sh->sbh", q[t], k[: t + 1] / 2, left)
        near(ys[t], np.einsum("sbh,sbhv->bhv", similar, v[: t + 1]).reshape(3, 6))
    near(s, np.einsum("sbhk,sbhv,sh->bhkv", k / 2, v, left))


def test_gated_linear_attention():
    p, xs, s, ys = ran(gated_linear_attention(6, heads=2, key_features=4, rank=3, temperature=2.0))
    state = np.zeros((3, 2, 4, 3))
    for x, y in zip(xs, ys, strict=True):
        q, k, v, r = heads_of(x, p.input, 8, 8, 6, 3)
        alpha = sigmoid(r @ p.gate + p.bias) ** (1 / 2.0)
        state = alpha.reshape(3, 2, 4, 1) * state + k[..., :, None] * v[..., None, :]
        near(y, np.einsum("bhkv,bhk->bhv", state, q).reshape(3, 6))
    near(s, state)


def test_gates_far_from_0_stay_finite():
    """A gate that is shut, σ(−80)^(1/τ), forgets all that was; its gradient is a number."""
    cell = gated_linear_attention(4, temperature=0.25)
    xs = jax.random.normal(jax.random.key(0), (40, 2, 3))
    params = cell.init(jax.random.key(1), xs[0])
    params = params._replace(bias=jnp.array([-80.0, 80.0, 0.0, 5.0]))

    def loss(params, form):
        carry = cell.carry(params, xs[0])
        if form == "parallel":
            ys = cell.parallel(params, carry, xs, valid=None, resets=None, chunk=None)[1]
        else:
            ys = jax.lax.scan(lambda c, x: cell.step(params, c, x), carry, xs)[1]
        return jnp.sin(ys).sum()

    wanted, got = (jax.jit(jax.grad(lambda p, f=f: loss(p, f)))(params) for f in ("", "parallel"))
    for a, b in zip(got, wanted, strict=True):
        assert np.isfinite(b).all()
        assert np.linalg.norm(a - b) < 1e-4 * np.linalg.norm(b)


@pytest.mark.parametrize("make", [linear_attention, retention, gated_linear_attention])
def test_the_memory_is_elementwise_affine(make):
    assert structure(make(6, heads=2)) == Kind.AFFINE


@pytest.mark.parametrize(
    "make",
    [
        lambda v: linear_attention(4, epsilon=v),
        lambda v: retention(4, decay=v),
        lambda v: gated_linear_attention(4, temperature=v),
    ],
)
def test_traced_constants_keep_the_type(make):
    assert dtypes(make, 0.5) == {"bfloat16"}


@pytest.mark.parametrize("make", [linear_attention, retention, gated_linear_attention])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": 0}, "needs a positive number of features, got 0"),
        ({"features": 6, "heads": 4}, "got 6 features and 4 heads; choose"),
        ({"features": 6, "heads": True}, "needs a positive number of heads, got True"),
        ({"features": 6, "key_features": 0}, "needs a positive number of key_features, got 0"),
    ],
)
def test_errors_of_all(make, options, message):
    with pytest.raises(ValueError, match=rf"{make.__name__}\(.*\) .*{message}"):
        make(**options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: retention(4, heads=2, decay=1.5),
            r"retention\(\) needs decays in \[0, 1\], got 1.5",
        ),
        (
            lambda: retention(4, heads=2, decay=np.ones(3)),
            r"each of its 2 heads, got the shape \[3\]",
        ),
        (lambda: gated_linear_attention(4, rank=0), "needs a positive rank, got 0"),
        (lambda: gated_linear_attention(4, temperature=0.0), "needs a temperature > 0, got 0.0"),
    ],
)
def test_errors_of_one(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_names():
    assert str(retention(4)) == "retention(4)"
    cell = gated_linear_attention(4, heads=2, key_features=3, rank=5)
    assert str(cell) == "gated_linear_attention(4, heads=2, key_features=3, rank=5)"
