"""Newton's method over time: to its tolerance, never unconverged, differentiable all the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import cells, methods
from jaxrnn.core import problem_of
from jaxrnn.engine.recurrence import Recurrence
from jaxrnn.engine.rows import rows_of
from jaxrnn.engine.trace import trace
from jaxrnn.engine.trajectory import frame_of
from jaxrnn.methods import Problem

T, B, D, H = 60, 3, 4, 5
CELLS = {
    "elman": cells.elman(H),
    "gru": cells.gru(H),
    "lstm": cells.lstm(H),
    "indrnn": cells.indrnn(H),
}


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def made(cell, length=T):
    xs = jax.random.normal(jax.random.key(0), (length, B, D))
    return cell.init(jax.random.key(1), xs[0]), xs


def results(cell, params, xs, method, **options):
    def loss(params, xs):
        carry, ys = jaxrnn.run(cell, params, xs, method=method, **options)
        return jnp.sin(ys).sum() + sum(jnp.cos(v).sum() for v in jax.tree.leaves(carry)), ys

    return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(params, xs)


def close(got, want, tolerance):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize(
    ("name", "jacobian"),
    [*((name, None) for name in CELLS), ("indrnn", "dense"), ("gru", "diagonal")],
)
def test_it_is_the_loop_to_its_tolerance_and_so_is_its_gradient(name, jacobian):
    cell = CELLS[name]
    params, xs = made(cell)
    method = methods.newton(jacobian=jacobian)
    flags = jax.random.bernoulli(jax.random.key(2), 0.8, (T, B))
    for options in ({}, {"mask": flags, "resets": ~flags[::-1], "reverse": True}):
        assert methods.newton.diagnose(cell, params, xs, method=method, **options).converged
        want = results(cell, params, xs, methods.lax(), **options)
        close(results(cell, params, xs, method, **options), want, 1e-9)


def test_what_does_not_converge_is_the_loop_itself():
    """The logistic map h' = 4h(1 − h), whose Lyapunov exponent is log 2."""
    chaos = jaxrnn.Cell(
        name="logistic",
        init=lambda key, x: jnp.float64(4.0),
        carry=lambda p, x: jnp.zeros_like(x, shape=(x.shape[0], H)) + 0.1 * jnp.arange(1.0, H + 1),
        step=lambda p, h, x: (h := p * h * (1 - h), h),
    )
    params, xs = made(chaos, 400)
    method = methods.newton(max_iterations=3)
    found = methods.newton.diagnose(chaos, params, xs, method=method)
    assert not found.converged
    assert found.iterations == 3
    np.testing.assert_allclose(found.lyapunov, np.log(2), atol=0.1)
    ys = [jaxrnn.run(chaos, params, xs[:40], method=m)[1] for m in (method, methods.lax())]
    close(*ys, 1e-3)  # an error of rounding doubles with each step


def test_a_recurrence_that_forgets_takes_few_iterations_however_long():
    cell = CELLS["gru"]
    for length in (50, 1000):
        params, xs = made(cell, length)
        found = methods.newton.diagnose(cell, params, xs)
        assert found.converged
        assert found.iterations <= 8
        assert found.residual <= 1.2e-11
        assert found.lyapunov < 0


def test_a_linear_step_takes_one_iteration_and_its_exponent_is_known():
    cell = jaxrnn.Cell(
        name="linear",
        init=lambda key, x: jnp.diag(jnp.array([0.5, 0.25, 0.8])),
        carry=lambda p, x: jnp.zeros_like(x, shape=(x.shape[0], 3)),
        step=lambda p, h, x: (h @ p + x[:, :3], h),
    )
    params, xs = made(cell, 200)
    found = methods.newton.diagnose(cell, params, xs)
    assert found.iterations == 1
    np.testing.assert_allclose(found.lyapunov, np.log(0.8), atol=0.01)


def test_higher_derivatives_go_through():
    cell = CELLS["gru"]
    params, xs = made(cell, 9)

    def curved(method):
        loss = lambda xs: jnp.sin(jaxrnn.run(cell, params, xs, method=method)[1]).sum()  # noqa: E731
        return jax.jit(lambda xs: jax.jvp(jax.grad(loss), (xs,), (jnp.cos(xs),)))(xs)

    want = curved(methods.lax())
    close(curved(methods.newton()), want, 1e-9)
    close(curved(methods.scan(backward="associative")), want, 1e-9)


@pytest.mark.parametrize("name", CELLS)
def test_a_gradient_in_parallel_after_a_loop(name):
    cell = CELLS[name]
    params, xs = made(cell, 20)
    flags = jax.random.bernoulli(jax.random.key(2), 0.8, (20, B))
    options = {"mask": flags, "resets": ~flags[::-1]}
    want = results(cell, params, xs, methods.lax(), **options)
    for method in (
        methods.scan(backward="associative"),
        methods.scan(chunk=6, backward="associative"),
    ):
        close(results(cell, params, xs, method, **options), want, 1e-11)
    assert repr(method) == "scan(chunk=6, backward='associative')"


def loop_of(step, carry, xs):
    loop = trace(step, carry, xs).loop
    parts = loop.parts
    return Recurrence(parts.during, len(parts.invariant), len(parts.carry), loop.length)


def test_the_jacobian_is_as_small_as_the_step_allows():
    for name, shape in {"indrnn": ((B, H), None), "gru": ((B,), H), "lstm": ((B,), 2 * H)}.items():
        params, xs = made(CELLS[name])
        cell = CELLS[name]
        problem = problem_of(cell, params, xs, cell.carry(params, xs[0]), None, None, None, False)
        frame = frame_of(loop_of(problem.step, problem.carry, problem.xs), None)
        assert (frame.rows, frame.size) == shape


def test_rows_that_see_each_other_are_not_apart():
    xs, h, square = jnp.ones((T, B, B)), jnp.ones((B, B)), jnp.ones((B, B))
    steps = {
        "apart": (lambda h, x: (jnp.tanh(h @ square) + x, h), B),
        "mean of all": (lambda h, x: (jnp.tanh(h - h.mean(0)), x), None),
        "transposed": (lambda h, x: (jnp.tanh(h.T) + x, h), None),
        "one with its mirror": (lambda h, x: (jnp.tanh(h * h.T), x), None),
        "mixed by a matrix": (lambda h, x: (jnp.tanh(square @ h), x), None),
        "sorted": (lambda h, x: (jnp.tanh(jnp.sort(h, 0)), x), None),
        "shifted": (lambda h, x: (jnp.tanh(jnp.roll(h, 1, 0)), x), None),
        "backwards": (lambda h, x: (jnp.tanh(h[::-1]), x), None),
        "some twice": (lambda h, x: (jnp.tanh(jnp.concatenate([h[1:], h[:1]])), x), None),
        "features shifted": (lambda h, x: (jnp.tanh(jnp.roll(h, 1, 1)), x), B),
        "a row for all": (lambda h, x: (jnp.tanh(h[:1] + x), x), None),
    }
    for name, (step, rows) in steps.items():
        assert rows_of(loop_of(step, h, xs)) == rows, name


@pytest.mark.parametrize(
    ("carry", "says"),
    [(1, "carries int"), (1.0 + 1.0j, "carries complex128"), (jax.random.key(0), "carries key")],
)
def test_a_carry_of_other_numbers_is_refused(carry, says):
    def step(c, x):
        moved = (
            jax.random.split(c)[0] if jnp.issubdtype(c.dtype, jax.dtypes.prng_key) else c * c + 1
        )
        return moved, x

    problem = Problem(name="odd", step=step, carry=jnp.asarray(carry), xs=jnp.ones(3))
    for method in (methods.newton(), methods.scan(backward="associative")):
        with pytest.raises(NotImplementedError, match=says):
            method(problem)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"jacobian": "full"}, 'must be "dense", "diagonal" or None'),
        ({"max_iterations": 0}, "max_iterations must be a positive integer"),
        ({"tolerance": 0.0}, "tolerance must be positive"),
    ],
)
def test_bad_arguments(arguments, says):
    with pytest.raises(ValueError, match=says):
        methods.newton(**arguments)
    with pytest.raises(ValueError, match="backward must be"):
        methods.scan(backward="newton")
    params, xs = made(CELLS["gru"], 3)
    with pytest.raises(TypeError, match=r"made by methods.newton\(\)"):
        methods.newton.diagnose(CELLS["gru"], params, xs, method=methods.lax())
