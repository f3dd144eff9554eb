"""One method forwards, another wherever a derivative is taken: in any order, mode and transformation."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import Cell, cells, methods

T, B, D = 7, 2, 3
xs = jax.random.normal(jax.random.key(0), (T, B, D))
cell = cells.gru(4)
params = cell.init(jax.random.key(1), xs[0])


def doubled(problem, _):
    carry, ys = methods.lax()(problem)
    return carry, 2 * ys


# Which of both has run can be told by the result.
twice = methods.Method(name="twice()", run=doubled)
method = methods.either(forward=twice, gradient=methods.lax())


def run(method, params, xs, **options):
    return jaxrnn.run(cell, params, xs, method=method, **options)[1]


def loss(method, params, xs, **options):
    return jnp.square(run(method, params, xs, **options)).sum()


def same(got, want):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), got, want)


def test_a_run_is_by_the_one():
    want = 2 * run(methods.lax(), params, xs)
    same(run(method, params, xs), want)
    same(jax.jit(run, static_argnums=0)(method, params, xs), want)
    many = jax.vmap(lambda xs: run(method, params, xs))(jnp.stack([xs, -xs]))
    same(many[0], want)
    same(jax.jit(jax.checkpoint(lambda xs: run(method, params, xs)))(xs), want)


@pytest.mark.parametrize("argnums", [1, 2, (1, 2)])
def test_every_derivative_is_of_the_other(argnums):
    got = jax.value_and_grad(loss, argnums)(method, params, xs)
    same(got, jax.value_and_grad(loss, argnums)(methods.lax(), params, xs))


def test_other_modes_and_orders():
    def of(method):
        f = lambda xs: loss(method, params, xs)  # noqa: E731
        along = jnp.ones_like(xs)
        return (
            jax.jvp(f, [xs], [along]),
            jax.jvp(jax.grad(f), [xs], [along]),
            jax.vmap(jax.grad(f))(jnp.stack([xs, 2 * xs])),
            jax.jit(jax.grad(jax.checkpoint(f)))(xs),
            jax.linearize(f, xs)[1](along),
        )

    same(of(method), of(methods.lax()))


def test_whole_numbers_and_keys_that_a_step_closes_over_have_no_derivative():
    def step(p, carry, x, key):
        count, h = carry
        noise = jax.random.normal(key, h.shape) * (count % 2)[..., None]
        h = jnp.tanh(h + p * x + noise)
        return (count + 1, h), h

    def start(_, x):
        return jnp.zeros(x.shape[:-1], jnp.int32), jnp.zeros_like(x)

    noisy = Cell(name="noisy", init=lambda key, x: jnp.ones(D), carry=start, step=step)
    lengths = jnp.array([3, T])

    @jax.jit
    def gradients(p, xs, lengths, key):
        return [
            jax.grad(
                lambda p, m=m: jaxrnn.run(noisy, p, xs, lengths=lengths, key=key, method=m)[1].sum()
            )(p)
            for m in (method, methods.lax())
        ]

    got, want = gradients(jnp.ones(D), xs, lengths, jax.random.key(3))
    same(got, want)
    assert np.abs(want).min() > 0


def test_only_one_of_both_is_compiled():
    both = methods.either(forward=methods.scan(chunk=2), gradient=methods.scan())
    forward = jax.jit(run, static_argnums=0).lower(both, params, xs).as_text()
    assert forward == jax.jit(run, static_argnums=0).lower(
        methods.scan(chunk=2), params, xs
    ).as_text().replace("scan(chunk=2)", repr(both))


def test_it_refuses_what_one_of_them_refuses():
    refusing = methods.either(forward=methods.scan(), gradient=methods.associative())
    with pytest.raises(NotImplementedError, match=r"cannot use associative\(\): it needs a step"):
        run(refusing, params, xs)


def test_effects_would_happen_in_an_order_of_their_own():
    def noting(p, h, x):
        jax.debug.callback(lambda _: None, x[0, 0])
        return cell.step(p, h, x)

    effectful = Cell(name="noting", init=cell.init, carry=cell.carry, step=noting)
    with pytest.raises(NotImplementedError, match=r"noting has an effect.*Use methods.lax\(\)"):
        jaxrnn.run(effectful, params, xs, method=methods.either(methods.lax(), methods.lax(2)))


def test_what_is_no_method_is_named():
    with pytest.raises(TypeError, match=r"gradient must be a method|Type-check error"):
        methods.either(methods.scan(), "scan")


@pytest.mark.parametrize("forward", [methods.lax(unroll=2), methods.scan(chunk=3)], ids=str)
def test_no_value_outlives_its_trace(forward):
    """JAX keeps the rule of differentiation with the program: it must not hold what was traced."""
    gru, xs = cells.gru(5), jnp.ones((7, 3, 4))
    params = gru.init(jax.random.key(0), xs[0])
    method = methods.either(forward=forward, gradient=methods.lax())

    def outputs(params):
        return jaxrnn.run(gru, params, xs, method=method)[1]

    with jax.checking_leaks():
        got = jax.jit(outputs)(params)
    np.testing.assert_allclose(got, jaxrnn.run(gru, params, xs, method=methods.lax())[1], rtol=1e-5)


def test_the_plain_scan_is_unrolled_as_asked():
    def unrolls(method):
        gru = cells.gru(5)
        xs = jax.ShapeDtypeStruct((7, 3, 4), jnp.float32)
        params = gru.init(jax.random.key(0), jnp.ones((3, 4)))
        jaxpr = jax.make_jaxpr(lambda xs: jaxrnn.run(gru, params, xs, method=method))(xs)
        return sorted(set(re.findall(r"unroll=(\d+)", str(jaxpr))))

    assert unrolls(methods.either(methods.lax(unroll=3), methods.lax())) == ["3"]
