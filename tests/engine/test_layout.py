"""Feature-major loops: each primitive turned round gives what it gave, and loops hold what they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxrnn
from jaxrnn import cells, methods
from jaxrnn.engine.layout import lay_out
from jaxrnn.engine.recurrence import Recurrence
from jaxrnn.engine.trace import trace
from tests.reading import loops_of

T, B, F = 4, 3, 6
TURNED = methods.scan(feature_major=True)


def random(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape, jnp.float64)


# Steps h, x, W -> h with h and x [B, F] and W [F, F], each around what it is named after.
FOLLOWED = {
    "value · weight": lambda h, x, W: h @ W + x,
    "weight · value": lambda h, x, W: jnp.einsum("gf,bf->bg", W, h) + x,
    "turned weight": lambda h, x, W: h @ W.T,
    "two axes": lambda h, x, W: jnp.einsum("bij,ijg->bg", h.reshape(B, 2, 3), W.reshape(2, 3, F)),
    "heads": lambda h, x, W: jnp.einsum("bij,jk->bik", h.reshape(B, 2, 3), W[:3, :3]).reshape(B, F),
    "split": lambda h, x, W: jnp.concatenate(jnp.split(h, 3, axis=1)[::-1], axis=1),
    "slice": lambda h, x, W: h[:, ::2] @ W[:3],
    "concatenate": lambda h, x, W: jnp.concatenate([h[:, 1:], x[:, :1]], -1),
    "concatenate rows": lambda h, x, W: jnp.concatenate([h[1:], x[:1]], 0),
    "broadcast": lambda h, x, W: h * h[:, :1] + jnp.ones((B, 2, 1)).sum(1) * W[0],
    "pad": lambda h, x, W: jnp.pad(h[:, 1:], ((0, 0), (1, 0))),
    "select": lambda h, x, W: jnp.where(h[:, :1] > x, h, x),
    "flags": lambda h, x, W: jnp.where((x[:, 0] > 0)[:, None], h, 0.0),
    "sum": lambda h, x, W: h - h.mean(1, keepdims=True),
    "sum over rows": lambda h, x, W: h - h.sum(0),
    "max": lambda h, x, W: jnp.exp(h - h.max(-1)[:, None]),
    "softmax": lambda h, x, W: jax.nn.softmax(h + x),
    "cast": lambda h, x, W: h.astype(jnp.float32).astype(h.dtype),
    "rev": lambda h, x, W: h[:, ::-1],
    "transpose": lambda h, x, W: (h.T * x.T).T,
    "squeeze": lambda h, x, W: h * lax.squeeze(h[:, :1], (1,))[:, None],
    "reshape": lambda h, x, W: h.reshape(B, 3, 2).sum(1) @ W[:2],
}
TURNED_BACK = {
    "cumsum": lambda h, x, W: jnp.cumsum(h, axis=1) * x,
    "sort": lambda h, x, W: jnp.sort(h, axis=1) + x,
    "relu": lambda h, x, W: jax.nn.relu(h - x),
    "reshape of rows": lambda h, x, W: h.reshape(-1)[::-1].reshape(B, F),
    "rows with rows": lambda h, x, W: (h @ x.T) @ h,
    "attention": lambda h, x, W: jnp.einsum("bi,bij->bj", h, h[:, :, None] * x[:, None]),
}


def loop_of(step):
    """The loop of a step, with nothing taken out of it."""
    loop = trace(step, random(0, B, F), random(1, T, B, F)).loop
    parts = loop.unhoisted
    known = len(parts.consts) + len(parts.once.outvars)
    return Recurrence(parts.during, known, len(parts.carry), loop.length)


@pytest.mark.parametrize("name", [*FOLLOWED, *TURNED_BACK])
def test_a_primitive_turned_round_is_exact(name):
    with jax.enable_x64(True):
        step, W = (FOLLOWED | TURNED_BACK)[name], random(2, F, F)

        def scanned(h, x):
            h = step(h, x, W)
            return h, h[:, :2]

        layout = lay_out(loop_of(scanned))
        assert bool(layout.fallbacks) == (name in TURNED_BACK)
        arguments = scanned, random(0, B, F), random(1, T, B, F)
        got, want = jaxrnn.scan(*arguments, feature_major=True), lax.scan(*arguments)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-12, 1e-12), got, want)


def test_weights_are_turned_once_and_values_never():
    cell, xs = cells.lstm(8), jnp.ones((T, B, F))
    params = cell.init(jax.random.key(0), xs[0])
    [loop] = loops_of(
        jax.make_jaxpr(lambda p, x: jaxrnn.run(cell, p, x, method=TURNED))(params, xs)
    )
    assert loop.carry_shapes == [(8, B), (8, B)]
    assert loop.stacked_shapes == [(T, 8, B)]
    assert "transpose" not in {e.primitive.name for e in loop.body.eqns}


def test_weight_gradients_leave_a_turned_loop_too():
    cell, xs = cells.lstm(8), jnp.ones((T, B, F))
    params = cell.init(jax.random.key(0), xs[0])

    def loss(params):
        return jaxrnn.run(cell, params, xs, method=TURNED)[1].sum()

    _, backward = loops_of(jax.make_jaxpr(jax.grad(loss))(params))
    assert sorted(backward.carry_shapes) == [(8, B), (8, B)]
    assert backward.stacked_shapes.count((T, 32, B)) == 1


def test_a_carry_without_one_batch_axis_runs_as_written():
    for carry in (jnp.zeros(F), (jnp.zeros((B, F)), jnp.zeros((F, F)))):
        step = lambda h, x: (jax.tree.map(lambda v: v * x, h), None)  # noqa: E731
        got = jaxrnn.scan(step, carry, jnp.ones(T), feature_major=True)
        jax.tree.map(np.testing.assert_array_equal, got, lax.scan(step, carry, jnp.ones(T)))


DERIVATIVES = {
    "gradient": lambda f, v: jax.grad(f)(v),
    "jvp": lambda f, v: jax.jvp(f, (v,), (v,)),
    "hessian-vector": lambda f, v: jax.jvp(jax.grad(f), (v,), (v,))[1],
    "vmap of gradient": lambda f, v: jax.vmap(jax.grad(f))(jax.tree.map(lambda a: a[None], v)),
}
CELLS = {
    "lstm": (cells.lstm(5), TURNED),
    "elman": (cells.elman(5), methods.scan(defer=False, feature_major=True, unroll=2)),
    "gru": (cells.gru(5), methods.scan(chunk=3, remat=True, hoist=False, feature_major=True)),
    "peephole_lstm": (cells.peephole_lstm(5), TURNED),
    "layer_norm_lstm": (cells.layer_norm_lstm(5), TURNED),
}


@pytest.mark.parametrize("name", CELLS)
def test_derivatives_with_padding_and_resets(name):
    cell, method = CELLS[name]
    # Every derivative of one cell; of the others the one that training needs.
    derivatives = DERIVATIVES if name == "lstm" else {"gradient": DERIVATIVES["gradient"]}
    with jax.enable_x64(True):
        xs = random(1, T, B, F)
        params = cell.init(jax.random.key(0), xs[0])

        def loss(method):
            def f(values):
                carry, ys = jaxrnn.run(
                    cell,
                    *values,
                    method=method,
                    lengths=jnp.array([T, 2, 1]),
                    resets=jnp.zeros((T, B), bool).at[2, 0].set(True),
                    reverse=name == "gru",
                )
                return (ys**2).sum() + sum((v**2).sum() for v in jax.tree.leaves(carry))

            return f

        for derive in derivatives.values():
            got, want = (
                jax.jit(lambda v, m=m: derive(loss(m), v))((params, xs))  # noqa: B023
                for m in (method, methods.lax())
            )
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-9, 1e-9), got, want)
