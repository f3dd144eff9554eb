"""Where gradients are computed, read off the jaxpr of the gradient."""

import jax
import jax.numpy as jnp
import pytest

import jaxrnn
from jaxrnn import cells, methods
from tests.reading import dots_in, loops, loops_of

T, B, D, H = 6, 3, 4, 5
xs = jnp.ones((T, B, D))


def gradient(cell, method):
    params = cell.init(jax.random.key(0), xs[0])

    def loss(params, xs):
        carry, ys = jaxrnn.run(cell, params, xs, method=method)
        return ys.sum() + sum(leaf.sum() for leaf in jax.tree.leaves(carry))

    return jax.make_jaxpr(jax.grad(loss, (0, 1)))(params, xs), params


def weight_shapes(params):
    shapes = {leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim == 2}
    return shapes | {shape[::-1] for shape in shapes}


RECURRENT_WEIGHTS = {
    cells.elman: 1,
    cells.jordan: 2,
    cells.lstm: 1,
    cells.peephole_lstm: 1,
    cells.gru: 1,
    cells.gru_reset_before: 2,
    cells.mgu: 2,
    cells.indrnn: 0,
}


@pytest.mark.parametrize("make", RECURRENT_WEIGHTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("method", [methods.scan(), methods.scan(hoist=False)], ids=str)
def test_loops_hold_what_they_must(make, method):
    """One product per recurrent weight in each loop, and no weight-shaped carry in any."""
    jaxpr, params = gradient(make(H), method)
    forward, backward = loops_of(jaxpr)
    inputs = 0 if method == methods.scan() else 1
    assert dots_in(forward.body) == RECURRENT_WEIGHTS[make] + inputs
    assert dots_in(backward.body) == RECURRENT_WEIGHTS[make] + inputs
    for loop in (forward, backward):
        assert not weight_shapes(params) & set(loop.carry_shapes)
        for eqn in loops.products(loop.body):
            assert all(T not in v.aval.shape for v in eqn.invars)


def test_lax_has_what_we_take_out():
    """The reference for the test above: JAX's own gradient carries every weight."""
    jaxpr, params = gradient(cells.lstm(H), methods.lax())
    _, backward = loops_of(jaxpr)
    assert weight_shapes(params) & set(backward.carry_shapes)


def test_the_backward_loop_of_an_lstm_carries_two_cotangents():
    jaxpr, _ = gradient(cells.lstm(H), methods.scan())
    _, backward = loops_of(jaxpr)
    assert sorted(backward.carry_shapes) == [(B, H), (B, H)]


def test_the_cotangent_of_a_sum_is_kept_once():
    """x·W, h·R and b end in one sum: one [T, B, 4H] array serves three weight gradients."""
    jaxpr, _ = gradient(cells.lstm(H), methods.scan())
    _, backward = loops_of(jaxpr)
    assert backward.stacked_shapes.count((T, B, 4 * H)) == 1


def test_residuals_are_few():
    """Six [B, H] arrays a step (i f o g, tanh c, c) and h for the weight gradient; JAX keeps 11."""
    kept = {}
    for method in (methods.scan(), methods.lax()):
        jaxpr, _ = gradient(cells.lstm(H), method)
        forward, _ = loops_of(jaxpr)
        sizes = [jnp.prod(jnp.array(s)).item() for s in forward.stacked_shapes]
        kept[method.name] = sum(sizes) // (T * B * H)
    assert kept["scan()"] <= 8 < kept["lax()"]


def test_a_weight_that_is_not_differentiated_costs_nothing():
    cell = cells.lstm(H)
    params = cell.init(jax.random.key(0), xs[0])

    def loss(xs):
        return jaxrnn.run(cell, params, xs, method=methods.scan())[1].sum()

    jaxpr = jax.make_jaxpr(jax.grad(loss))(xs)
    _, backward = loops_of(jaxpr)
    assert sorted(backward.carry_shapes) == [(B, H), (B, H)]
    outside = dots_in(jaxpr.jaxpr, nested=False)
    assert outside == 2, "x·W and its cotangent; no product for a weight gradient"


def test_an_embedding_fed_back_is_deferred_too():
    """A table looked up inside the loop: its gradient is one scatter, not one for each step."""
    table = jnp.cos(jnp.arange(40.0)).reshape(8, 5)

    def loss(table, scan):
        def step(state, x):
            h, token = state
            h = jnp.tanh(h + table[token] + x)
            return (h, jnp.argmax(h, -1) % 8), h

        init = (jnp.zeros((B, 5)), jnp.zeros(B, int))
        return jnp.sum(jnp.sin(scan(step, init, jnp.ones((T, B, 5)))[1]))

    jaxpr = jax.make_jaxpr(jax.grad(loss), static_argnums=1)(table, jaxrnn.scan)
    _, backward = loops_of(jaxpr)
    assert table.shape not in backward.carry_shapes
    got, want = (jax.grad(loss)(table, scan) for scan in (jaxrnn.scan, jax.lax.scan))
    assert jnp.allclose(got, want, rtol=1e-5, atol=1e-6)
