"""What `run` promises beyond the laws: conventions, caching, layers, pytrees."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import Cell, Layer, cells, methods
from tests.tables import METHODS

T, B, D, H = 6, 3, 4, 5
xs = jax.random.normal(jax.random.key(0), (T, B, D))
cell = cells.gru(H)
params = cell.init(jax.random.key(1), xs[0])


def test_signatures_are_frozen():
    assert str(inspect.signature(jaxrnn.run)).replace("Any", "_").split(" -> ")[0] == (
        "(layer: jaxrnn.core.Cell | jaxrnn.core.Layer, params: _, xs: _, carry: _ = None, *,"
        " lengths: _ = None, mask: _ = None, resets: _ = None, key: _ = None,"
        " reverse: bool = False, method: jaxrnn.methods.base.Method | None = None)"
    )
    of_jax = list(inspect.signature(jax.lax.scan).parameters)
    ours = ["chunk", "remat", "hoist", "defer", "feature_major"]
    assert list(inspect.signature(jaxrnn.scan).parameters) == [*of_jax, *ours]
    assert {n for n in vars(jaxrnn) if not n.startswith("_")} >= (
        {"run", "scan", "explain", "Cell", "Layer", "cells", "methods"}
    )


def test_a_missing_step_holds_and_gives_zero():
    mask = jnp.ones((T, B), bool).at[2, 1].set(False)
    carry, ys = jaxrnn.run(cell, params, xs, mask=mask)
    assert (ys[2, 1] == 0).all()
    assert (ys[2, 0] != 0).all()
    short = jaxrnn.run(cell, params, jnp.delete(xs[:, 1:2], 2, axis=0))
    np.testing.assert_allclose(carry[1], short[0][0], rtol=1e-6)


def test_resets_come_before_the_step():
    """resets[t] = done[t-1]: a reset at 0 changes nothing, one at T-1 leaves the last step alone."""
    plain = jaxrnn.run(cell, params, xs)
    at_start = jnp.zeros((T, B), bool).at[0].set(True)
    np.testing.assert_array_equal(jaxrnn.run(cell, params, xs, resets=at_start)[1], plain[1])
    at_end = jnp.zeros((T, B), bool).at[-1].set(True)
    carry, _ = jaxrnn.run(cell, params, xs, resets=at_end)
    np.testing.assert_allclose(carry, jaxrnn.run(cell, params, xs[-1:])[0], rtol=1e-6)


def test_a_reset_at_an_invalid_step_does_nothing():
    lengths = jnp.full(B, 3)
    late = jnp.zeros((T, B), bool).at[4].set(True)
    both = jaxrnn.run(cell, params, xs, lengths=lengths, resets=late)
    want = jaxrnn.run(cell, params, xs, lengths=lengths)[0]
    np.testing.assert_allclose(both[0], want, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_learned_carry_gets_a_gradient_at_every_reset(method):
    learned = Cell(
        name="learned",
        init=cell.init,
        carry=lambda p, x: jnp.zeros_like(x, shape=(*x.shape[:-1], H)) + p["start"],
        step=lambda p, h, x: cell.step(p["gru"], h, x),
    )
    tree = {"gru": params, "start": jnp.zeros(H)}
    resets = jnp.zeros((T, B), bool).at[3].set(True)

    def loss(tree, method):
        return jnp.sin(jaxrnn.run(learned, tree, xs, resets=resets, method=method)[1]).sum()

    def alone(tree):
        return jnp.sin(jaxrnn.run(learned, tree, xs[:3], method=methods.lax())[1]).sum()

    @jax.jit
    def gradients(tree):
        both = [jax.grad(loss)(tree, m) for m in (method, methods.lax())]
        return [gradient["start"] for gradient in (*both, jax.grad(alone)(tree))]

    got, want, without = gradients(tree)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert np.abs(got - without).max() > 0.1


def test_xs_may_be_any_pytree():
    pair = Cell(
        name="pair",
        init=lambda key, x: jnp.eye(D),
        carry=lambda p, x: jnp.zeros_like(x["a"]),
        step=lambda p, h, x: (h @ p + x["a"] * x["b"][..., None], {"out": h}),
    )
    tree = {"a": xs, "b": xs[..., 0]}
    _, ys = jaxrnn.run(pair, jnp.eye(D), tree, lengths=jnp.array([6, 2, 0]))
    want = jnp.cumsum(xs * xs[..., :1], axis=0)
    np.testing.assert_allclose(ys["out"][1:, 0], want[:-1, 0], rtol=1e-5)


def test_numpy_arrays_will_do():
    got = jaxrnn.run(cell, jax.tree.map(np.asarray, params), np.asarray(xs))
    np.testing.assert_array_equal(got[1], jaxrnn.run(cell, params, xs)[1])


def test_no_batch_axis_is_a_batch():
    _, ys = jaxrnn.run(cell, params, xs[:, 0])
    np.testing.assert_allclose(ys, jaxrnn.run(cell, params, xs)[1][:, 0], rtol=1e-5, atol=1e-6)


def test_noise_is_one_key_a_step_whatever_the_length():
    noisy = Cell(
        name="noisy",
        init=cell.init,
        carry=lambda p, x: jnp.zeros_like(x),
        step=lambda p, h, x, key=None: (h, x if key is None else jax.random.normal(key, x.shape)),
    )
    key = jax.random.key(3)
    long = jaxrnn.run(noisy, params, xs, key=key)[1]
    np.testing.assert_array_equal(jaxrnn.run(noisy, params, xs[:4], key=key)[1], long[:4])
    assert len(np.unique(np.asarray(long))) == long.size
    np.testing.assert_array_equal(jaxrnn.run(noisy, params, xs)[1], xs)


def test_a_layer_is_run_as_it_says():
    def flip(params, xs, carry, *, valid, resets, keys, reverse, method):
        assert (valid is None, resets is None, keys is None, method) == (True, True, True, None)
        return carry, xs[::-1] if not reverse else xs

    layer = Layer(
        name="flip",
        init=lambda key, x: None,
        carry=lambda p, x: (),
        step=None,
        run=flip,
    )
    np.testing.assert_array_equal(jaxrnn.run(layer, None, xs)[1], xs[::-1])


def test_the_second_eager_call_compiles_nothing():
    traces = []

    def step(p, h, x):
        traces.append(None)
        return cell.step(p, h, x)

    mine = Cell(name="mine", init=cell.init, carry=cell.carry, step=step)
    jaxrnn.run(mine, params, xs, method=methods.scan(chunk=2))
    first = len(traces)
    jaxrnn.run(mine, params, xs, method=methods.scan(chunk=2))
    assert first <= 4
    assert len(traces) - first <= 1, "only the check of the carry's type reads the step again"

    def f(h, x):
        traces.append(None)
        return h + x.sum(), h

    traces.clear()
    for _ in range(3):
        jaxrnn.scan(f, 0.0, xs)
    assert len(traces) <= 2


def test_programs_are_forgotten_with_their_owner():
    from jaxrnn.engine.eager import _programs

    before = len(_programs)
    for i in range(3):
        jaxrnn.scan(lambda h, x, i=i: (h + i * x.sum(), h), 0.0, xs)
    assert len(_programs) <= before + 1


def test_memory_of_a_rematerialised_gradient():
    """scan(chunk=32, remat=True) at T=4096 holds 8 times less than lax; JAX 0.11 makes lax hold less."""
    lstm = cells.lstm(32)
    long = jnp.ones((4096, 4, 16))
    weights = lstm.init(jax.random.key(0), long[0])

    def temporary(method):
        def loss(p, xs):
            return jnp.mean(jaxrnn.run(lstm, p, xs, method=method)[1] ** 2)

        program = jax.jit(jax.grad(loss)).lower(weights, long).compile()
        return program.memory_analysis().temp_size_in_bytes, program(weights, long)

    (ours, got), (theirs, want) = map(
        temporary, (methods.scan(chunk=32, remat=True), methods.lax())
    )
    assert theirs >= (8 if jax.__version_info__ < (0, 11) else 6) * ours
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-7)
