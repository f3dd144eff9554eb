"""Forty steps and the structure of each, and random ones that must keep their promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from jaxrnn.engine.structure import Kind, find
from jaxrnn.engine.trace import trace

T, B, H = 3, 2, 4
xs = jax.random.normal(jax.random.key(0), (T, B, H)) + 2
h0 = jnp.full((B, H), 0.5)
a = jnp.linspace(0.1, 0.9, H)
R = jax.random.normal(jax.random.key(1), (H, H))

AFFINE, ELEMENTWISE, DENSE, FREE = Kind.AFFINE, Kind.ELEMENTWISE, Kind.DENSE, Kind.FREE

ONE_LEAF = [
    ("a·h + x", lambda h, x: a * h + x, AFFINE),
    ("x - h", lambda h, x: x - h, AFFINE),
    ("-h", lambda h, x: -h, AFFINE),
    ("h / x", lambda h, x: h / x, AFFINE),
    ("x / h", lambda h, x: x / h, ELEMENTWISE),
    ("σ(x)·h + (1-σ(x))·tanh(x)", lambda h, x: (z := jax.nn.sigmoid(x)) * h + (1 - z) * x, AFFINE),
    ("tanh(x·R)·h", lambda h, x: jnp.tanh(x @ R) * h, AFFINE),
    ("where(x>0, h, x)", lambda h, x: jnp.where(x > 0, h, x), AFFINE),
    ("where(x>0, h², h)", lambda h, x: jnp.where(x > 0, h * h, h), ELEMENTWISE),
    ("where(h>0, h, x)", lambda h, x: jnp.where(h > 0, h, x), ELEMENTWISE),
    ("h·h", lambda h, x: h * h, ELEMENTWISE),
    ("h**2", lambda h, x: h**2, ELEMENTWISE),
    ("tanh(h)", lambda h, x: jnp.tanh(h + x), ELEMENTWISE),
    ("relu(h)", lambda h, x: jax.nn.relu(a * h + x), ELEMENTWISE),
    ("max(h, x)", lambda h, x: jnp.maximum(h, x), ELEMENTWISE),
    ("clip(h)", lambda h, x: jnp.clip(h, -1, 1), ELEMENTWISE),
    ("|h|", lambda h, x: jnp.abs(h), ELEMENTWISE),
    ("exp(h)", lambda h, x: jnp.exp(-h), ELEMENTWISE),
    ("stop_gradient(h)", lambda h, x: lax.stop_gradient(h) + x, ELEMENTWISE),
    ("round(h)", lambda h, x: jnp.round(h), ELEMENTWISE),
    ("through integers", lambda h, x: h.astype(int).astype(h.dtype), ELEMENTWISE),
    ("reshaped and back", lambda h, x: (2 * h.reshape(-1)).reshape(B, H), AFFINE),
    ("an axis added and dropped", lambda h, x: (2 * h[None])[0], None),
    ("h·R", lambda h, x: h @ R, DENSE),
    ("cumsum over features", lambda h, x: jnp.cumsum(h, -1), DENSE),
    ("mean over features", lambda h, x: h - h.mean(-1, keepdims=True), DENSE),
    ("softmax", lambda h, x: jax.nn.softmax(h), DENSE),
    ("flipped", lambda h, x: h[:, ::-1], DENSE),
    ("rolled", lambda h, x: jnp.roll(h, 1, -1), DENSE),
    ("transposed twice", lambda h, x: h.T.T * 2, DENSE),
    ("sorted", lambda h, x: jnp.sort(h, -1), DENSE),
    ("one for all", lambda h, x: jnp.broadcast_to(h[:, :1], (B, H)), DENSE),
    ("h[0] added", lambda h, x: h + h[0, 0], DENSE),
    ("cond on the carry", lambda h, x: lax.cond(h.sum() > 0, lambda: h, lambda: x), DENSE),
    ("an inner loop", lambda h, x: lax.fori_loop(0, 3, lambda i, c: 0.5 * c, h), DENSE),
    ("convolved", lambda h, x: jax.vmap(lambda r: jnp.convolve(r, a, "same"))(h), DENSE),
    ("new every time", lambda h, x: x * 2, FREE),
    ("constant", lambda h, x: jnp.ones_like(h), FREE),
    ("a jitted step", jax.jit(lambda h, x: jax.jit(jnp.multiply)(a, h) + x), AFFINE),
    ("jax.checkpoint", jax.checkpoint(lambda h, x: a * h + x), DENSE),
]

TREES = [
    ("two leaves", (h0, h0), lambda c, x: (a * c[0] + x, 0.5 * c[1] + c[0]), AFFINE),
    ("one times the other", (h0, h0), lambda c, x: (a * c[0] + x, c[0] * c[1]), ELEMENTWISE),
    ("a counter", (h0, 0), lambda c, x: (a * c[0], c[1] + 1), ELEMENTWISE),
    ("a key", (h0, jax.random.key(0)), lambda c, x: (c[0], jax.random.split(c[1])[0]), DENSE),
    ("complex", (h0 * 1j,), lambda c, x: ((0.5 + 0.5j) * c[0] + x,), AFFINE),
    ("conjugated", (h0 * 1j,), lambda c, x: (jnp.conj(c[0]),), ELEMENTWISE),
]


def structure(step, init=h0):
    loop = trace(lambda c, x: (step(c, x), None), init, xs).loop
    return find(loop.parts)


def test_there_are_forty():
    assert len(ONE_LEAF) + len(TREES) >= 40


@pytest.mark.parametrize(("step", "kind"), [c[1:] for c in ONE_LEAF], ids=[c[0] for c in ONE_LEAF])
def test_kind(step, kind):
    found = structure(step)
    assert found.kind in (kind, *([AFFINE, DENSE] if kind is None else []))
    if found.kind >= Kind.ELEMENTWISE:
        assert found.because is not None
        assert found.reason.split(" at ")[1].startswith("engine/test_structure.py:")


@pytest.mark.parametrize(
    ("init", "step", "kind"), [c[1:] for c in TREES], ids=[c[0] for c in TREES]
)
def test_kind_of_a_tree(init, step, kind):
    assert structure(step, init).kind is kind


def test_each_leaf_has_a_kind_of_its_own():
    found = structure(lambda c, x: (a * c[0], jnp.tanh(c[1]), c[2] @ R), (h0, h0, h0))
    assert [leaf.kind for leaf in found.leaves] == [AFFINE, ELEMENTWISE, DENSE]
    assert found.reason.startswith("dot_general at engine/test_structure.py:")


expressions = st.recursive(
    st.sampled_from(["h", "x", "a", "2"]),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["+", "-", "*", "/", "max"]), inner, inner),
        st.tuples(st.sampled_from(["neg", "tanh", "where", "flip", "square"]), inner),
    ),
    max_leaves=8,
)


def value(tree, h, x):
    if isinstance(tree, str):
        return {
            "h": h,
            "x": x,
            "a": jnp.broadcast_to(a, h.shape).astype(h.dtype),
            "2": jnp.full_like(h, 2.0),
        }[tree]
    op, *inner = tree
    v = [value(i, h, x) for i in inner]
    return {
        "+": lambda: v[0] + v[1],
        "-": lambda: v[0] - v[1],
        "*": lambda: v[0] * v[1],
        "/": lambda: v[0] / (v[1] + 10.0),
        "max": lambda: jnp.maximum(v[0], v[1]),
        "neg": lambda: -v[0],
        "tanh": lambda: jnp.tanh(v[0]),
        "where": lambda: jnp.where(x > 2, v[0], x),
        "flip": lambda: v[0][..., ::-1],
        "square": lambda: v[0] ** 2,
    }[op]()


@settings(max_examples=60, deadline=None)
@given(expressions)
def test_what_is_judged_affine_keeps_superposition(tree):
    kind = structure(lambda h, x: value(tree, h, x)).kind
    with jax.enable_x64(True):
        x = jnp.asarray(xs[0], jnp.float64)
        p, q = (jax.random.normal(jax.random.key(i), (B, H), jnp.float64) for i in (1, 2))
        step = lambda h: value(tree, h, x)  # noqa: E731
        if kind <= Kind.AFFINE:
            mixed = 0.3 * step(p) + 0.7 * step(q)
            np.testing.assert_allclose(step(0.3 * p + 0.7 * q), mixed, rtol=1e-9, atol=1e-9)
        if kind <= Kind.ELEMENTWISE:
            jacobian = jax.jacobian(step)(p).reshape(B * H, B * H)
            assert not jnp.any(jacobian - jnp.diag(jnp.diag(jacobian)))
