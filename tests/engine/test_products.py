"""The recurrent products of a step are found in whatever way it is written."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import cells
from jaxrnn.engine.products import recurrent_operands, recurrent_weights, with_operands

x = jax.random.normal(jax.random.key(0), (3, 4))


def found(cell):
    """The names of the recurrent weights, and the shapes of what they multiply."""
    params = cell.init(jax.random.key(1), x)
    carry = cell.carry(params, x)
    weights = recurrent_weights(cell.step, params, carry, x)
    names = [name for name, yes in zip(params._fields, weights, strict=True) if yes]
    return names, [v.shape for v in recurrent_operands(cell.step, params, carry, x)]


@pytest.mark.parametrize(
    ("cell", "weights", "operands"),
    [
        (cells.elman(5), ["recurrent"], [(3, 5)]),
        (cells.lstm(5), ["recurrent"], [(3, 5)]),
        (cells.peephole_lstm(5), ["recurrent"], [(3, 5)]),
        (cells.layer_norm_lstm(5), ["recurrent"], [(3, 5)]),
        (cells.gru(5), ["recurrent"], [(3, 5)]),
        (cells.gru_reset_before(5), ["recurrent"], [(3, 5), (3, 5)]),
        (cells.indrnn(5), [], []),
    ],
)
def test_of_the_cells(cell, weights, operands):
    assert found(cell) == (weights, operands)


def step(p, h, x):
    """A weight by way of a transpose, behind a jit and an einsum; one that only reads out."""
    u = jax.jit(lambda h: jnp.einsum("bh,gh->bg", h, p["R"].T))(h)
    h = jnp.tanh(u + x @ p["W"])
    return h, h @ p["V"]


params = {
    name: jax.random.normal(jax.random.key(2), shape)
    for name, shape in {"R": (5, 5), "V": (5, 2), "W": (4, 5)}.items()
}
h = jax.random.normal(jax.random.key(3), (3, 5))


def test_weights_in_disguise():
    assert recurrent_weights(step, params, h, x) == [True, False, False]  # R, V, W


def test_operands_are_changed_at_their_products_only():
    changed = with_operands(step, lambda i, value: 2 * value)
    after, y = changed(params, h, x)
    want, _ = step(params, 2 * h, x)
    np.testing.assert_allclose(after, want, rtol=1e-6)
    np.testing.assert_allclose(y, want @ params["V"], rtol=1e-6)


def test_nothing_changed_is_the_step_and_so_are_its_gradients():
    same = with_operands(step, lambda i, value: value)

    def loss(step):
        return lambda *args: sum(jnp.sin(v).sum() for v in step(*args))

    for function in (jax.jit, lambda f: jax.grad(f, argnums=(0, 1, 2))):
        got, want = (function(loss(s))(params, h, x) for s in (same, step))
        for a, b in zip(*map(jax.tree.leaves, (got, want)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)


def test_an_output_that_is_the_carry_stays_it():
    cell = cells.lstm(5)
    params = cell.init(jax.random.key(1), x)
    changed = with_operands(lambda p, c, x: cell.step(p, c, x), lambda i, value: value)
    after, y = changed(params, cell.carry(params, x), x)
    assert y is after.h
