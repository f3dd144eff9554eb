"""Quasi-recurrent networks against NumPy in float64, with the window as the paper prints it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import around, run
from jaxrnn.cells.convolution import causal_conv
from jaxrnn.cells.qrnn import qrnn
from jaxrnn.engine.structure import Kind
from tests.cells.reference import dtypes, near, ran, sigmoid, structure

GATES = {"f": "fz", "fo": "foz", "ifo": "ifoz"}


def pooled(u, pooling):
    """h of pre-activations u [T, B, G, H], by gate."""
    u = {gate: u[:, :, k] for k, gate in enumerate(GATES[pooling])}
    f, z = sigmoid(u["f"]), np.tanh(u["z"])
    i = sigmoid(u["i"]) if "i" in u else 1 - f
    o = sigmoid(u["o"]) if "o" in u else np.ones_like(f)
    c, h = np.zeros_like(f[0]), []
    for t in range(len(f)):
        c = f[t] * c + i[t] * z[t]
        h.append(o[t] * c)
    return c, np.stack(h)


@pytest.mark.parametrize(("window", "pooling"), [(2, "fo"), (1, "f"), (3, "ifo")])
def test_qrnn(window, pooling):
    p, xs, carry, ys = ran(qrnn(5, window=window, pooling=pooling))
    gates = len(GATES[pooling])
    weights = p.input.reshape(4, window, gates, 5)
    padded = np.concatenate([np.zeros((window - 1, 3, 4)), xs])
    seen = np.stack([padded[window - 1 - j : window - 1 - j + 6] for j in range(window)])
    u = np.einsum("ktbd,dkgh->tbgh", seen, weights) + p.bias.reshape(gates, 5)
    c, h = pooled(u, pooling)
    near(ys, h)
    near(carry.c, c)
    assert len(carry.coming) == window - 1


def test_the_loop_holds_no_product():
    """The window is in the carry, and yet every product with a weight is made for all steps at once."""
    cell, xs = qrnn(5, window=3), jnp.ones((4, 2, 3))
    params = cell.init(jax.random.key(0), xs[0])
    parts = jaxrnn.explain(cell, params, xs).plan.parts
    made = [[e.primitive.name for e in stage.eqns] for stage in (parts.before, parts.during)]
    assert "dot_general" in made[0]
    assert "dot_general" not in made[1]


def test_structure():
    assert structure(qrnn(5, window=1)) == Kind.AFFINE
    assert structure(qrnn(5)) == Kind.DENSE


def test_a_depthwise_window_before_it_is_a_qrnn_with_a_window():
    """What the docstring offers in place of a window: a W that is depthwise, then dense."""
    apart = around.stack(causal_conv(2), qrnn(5, window=1))
    xs = jax.random.normal(jax.random.key(0), (6, 2, 4))
    conv = causal_conv(2).init(jax.random.key(1), xs[0])._replace(bias=jnp.zeros(4))
    dense = qrnn(5, window=1).init(jax.random.key(2), xs[0])
    whole = qrnn(5).init(jax.random.key(3), xs[0])
    lags = [w[:, None] * dense.input for w in conv.input.T]
    whole = whole._replace(input=jnp.concatenate(lags, axis=-1), bias=dense.bias)
    params = jax.tree.unflatten(
        jax.tree.structure(apart.init(jax.random.key(0), xs[0])), [*conv, *dense]
    )
    np.testing.assert_allclose(run(apart, params, xs)[1], run(qrnn(5), whole, xs)[1], atol=1e-5)


def test_blocks_are_drawn_for_the_whole_window_and_each_gate_by_itself():
    """Glorot's bound is that of K·D inputs and K·H outputs; no block repeats another."""
    w = qrnn(40, window=3).init(jax.random.key(0), jnp.ones(20)).input
    bound = (6 / (3 * 20 + 3 * 40)) ** 0.5
    np.testing.assert_allclose(jnp.abs(w).max(), bound, rtol=0.01)
    blocks = np.asarray(w).reshape(20, 9, 40)
    assert len({round(float(b.sum()), 4) for b in blocks.swapaxes(0, 1)}) == 9


@pytest.mark.parametrize(("pooling", "want"), [("f", [2, 0]), ("ifo", [0, 2, 0, 0])])
def test_the_forget_bias_is_that_of_f(pooling, want):
    cell = qrnn(1, pooling=pooling, forget_bias=2.0)
    np.testing.assert_array_equal(cell.init(jax.random.key(0), jnp.ones(3)).bias, want)


def test_names_show_what_is_not_the_default():
    assert [repr(qrnn(4)), repr(qrnn(4, window=3, pooling="f"))] == [
        "qrnn(4)",
        "qrnn(4, window=3, pooling='f')",
    ]


def test_refusals():
    with pytest.raises(ValueError, match=r"needs a pooling of f, fo, ifo, got 'of'"):
        qrnn(4, pooling="of")
    with pytest.raises(ValueError, match=r"qrnn\(\) needs a window of 1 time step or more, got 0"):
        qrnn(4, window=0)


def test_a_traced_forget_bias_leaves_the_dtype():
    assert dtypes(lambda v: qrnn(4, forget_bias=v), 1.0) == {"bfloat16"}
