"""Residual cells, and recurrence in a projected space."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import cells, inside, run

xs = jax.random.normal(jax.random.key(0), (6, 3, 4))


def test_residual_adds_x():
    cell = inside.residual(cells.gru(4))
    params = cell.init(jax.random.key(1), xs[0])
    np.testing.assert_allclose(
        run(cell, params, xs)[1], xs + run(cells.gru(4), params, xs)[1], rtol=1e-6
    )


def test_residual_needs_like_shapes():
    cell = inside.residual(cells.gru(5))
    params = cell.init(jax.random.key(1), xs[0])
    with pytest.raises(ValueError, match=r"residual\(gru\(5\)\) adds x to y and needs them alike"):
        run(cell, params, xs)


def test_project_is_lstmp():
    """By hand, as Sak et al. print it."""
    cell = inside.project(cells.lstm(8), 3)
    params = cell.init(jax.random.key(1), xs[0])
    p, projection = params
    assert p.recurrent.shape == (3, 32)
    r, c = jnp.zeros((3, 3)), jnp.zeros((3, 8))
    ys = []
    for x in xs:
        i, f, o, g = jnp.split(x @ p.input + p.bias + r @ p.recurrent, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        r = (jax.nn.sigmoid(o) * jnp.tanh(c)) @ projection
        ys.append(r)
    carry, got = run(cell, params, xs)
    np.testing.assert_allclose(got, jnp.stack(ys), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(carry.h, r, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_project_is_what_pytorch_computes():
    torch = pytest.importorskip("torch")
    cell = inside.project(cells.lstm(8), 3)
    p, projection = params = cell.init(jax.random.key(1), xs[0])
    other = torch.nn.LSTM(4, 8, proj_size=3)

    def ifgo(w):  # PyTorch's order of gates; its weights are transposed
        i, f, o, g = np.split(np.asarray(w).T, 4)
        return torch.tensor(np.concatenate([i, f, g, o]))

    with torch.no_grad():
        other.weight_ih_l0.copy_(ifgo(p.input))
        other.weight_hh_l0.copy_(ifgo(p.recurrent))
        other.bias_ih_l0.copy_(ifgo(p.bias))
        other.bias_hh_l0.zero_()
        other.weight_hr_l0.copy_(torch.tensor(np.asarray(projection).T))
        want = other(torch.tensor(np.asarray(xs)))[0].numpy()
    np.testing.assert_allclose(run(cell, params, xs)[1], want, rtol=1e-5, atol=1e-6)


def test_an_output_that_is_fed_back_may_have_any_size():
    """That of a Jordan network is read in its product alone."""
    cell = inside.project(cells.jordan(8, outputs=2), 1)
    params = cell.init(jax.random.key(1), xs[0])
    (p, projection), y = params, jnp.zeros((3, 1))
    ys = []
    for x in xs:
        h = jnp.tanh(x @ p.input + p.bias + y @ p.recurrent)
        y = jnp.tanh(h @ p.output + p.output_bias) @ projection
        ys.append(y)
    np.testing.assert_allclose(run(cell, params, xs)[1], ys, rtol=1e-5, atol=1e-6)


def test_the_rows_of_a_projected_recurrence_are_orthonormal():
    params = inside.project(cells.lstm(8), 3).init(jax.random.key(1), xs[0])
    for gate in np.split(np.asarray(params.cell.recurrent), 4, axis=1):
        np.testing.assert_allclose(gate @ gate.T, np.eye(3), atol=1e-5)


def test_combinators_go_around_a_projection():
    cell = inside.zoneout(inside.drop_connect(inside.project(cells.lstm(8), 3), 0.3), 0.1)
    params = cell.init(jax.random.key(1), xs[0])
    carry, ys = run(cell, params, xs, key=jax.random.key(2))
    assert ys.shape == (6, 3, 3)
    assert carry.c.shape == (3, 8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: inside.project(cells.gru(8), 3), "reads its carry outside the product"),
        (lambda: inside.project(cells.gru(8), 1), "reads its carry outside the product"),
        (lambda: inside.project(cells.lstm(8), 9), "at most the 8 features of lstm"),
        (
            lambda: inside.project(inside.residual(cells.lstm(4)), 3),
            "output is a leaf of its carry",
        ),
        (lambda: inside.project(cells.indrnn(8), 3), "project"),
        (
            lambda: inside.project(inside.drop_connect(cells.lstm(8), 0.5), 3),
            "project the cell first",
        ),
    ],
)
def test_cells_that_cannot_be_projected_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make().init(jax.random.key(0), xs[0])


def test_a_wrong_size_is_refused():
    with pytest.raises(ValueError, match=r"project\(lstm\(8\), 0\) needs a positive number"):
        inside.project(cells.lstm(8), 0)
