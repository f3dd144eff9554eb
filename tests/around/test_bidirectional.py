"""Both directions agree with two separate runs, in two loops or in one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import around, cells, inside, methods, run
from jaxrnn.around.bidirectional import ONE_LOOP, together
from jaxrnn.core import problem_of

xs = jax.random.normal(jax.random.key(0), (7, 3, 4))
lengths = jnp.array([7, 4, 0])
flags = jax.random.bernoulli(jax.random.key(5), 0.6, (7, 3))

OPTIONS = {
    "plain": {},
    "lengths": {"lengths": lengths},
    "mask": {"mask": flags},
    "resets": {"resets": ~flags},
    "reverse": {"reverse": True, "lengths": lengths},
}
KINDS = {"same": (cells.lstm(5), None), "two": (cells.gru(5), cells.elman(5))}


@pytest.mark.parametrize("one_loop", [False, True])
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_it_agrees_with_two_runs(kind, option, one_loop, monkeypatch):
    monkeypatch.setitem(ONE_LOOP, "cpu", one_loop)
    forward, backward = KINDS[kind]
    layer = around.bidirectional(forward, backward)
    params = layer.init(jax.random.key(1), xs[0])
    options = {"reverse": False} | OPTIONS[option]

    def both(params, xs):
        back = options | {"reverse": not options["reverse"]}
        f, ys = run(forward, params.forward, xs, **options)
        b, zs = run(backward or forward, params.backward, xs, **back)
        return (f, b), jnp.concatenate([ys, zs], -1)

    def results(function):
        def loss(params, xs):
            out = function(params, xs)
            return jnp.sin(out[1]).sum(), out

        gradients, out = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(params, xs)
        return out, gradients

    got, want = map(results, (lambda params, xs: run(layer, params, xs, **options), both))
    for mine, theirs, rtol in zip(got, want, (1e-5, 1e-4), strict=True):
        for a, b in zip(*map(jax.tree.leaves, (mine, theirs)), strict=True):
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol / 10)


@pytest.mark.parametrize("method", [None, methods.lax(), methods.scan(chunk=3)])
def test_one_loop_is_two_loops(method):
    cell = cells.lstm(5)
    params = [cell.init(jax.random.key(i), xs[0]) for i in (1, 2)]
    valid = jnp.arange(7)[:, None] < lengths
    problems = [
        problem_of(cell, p, xs, cell.carry(p, xs[0]), valid, None, None, reverse)
        for p, reverse in zip(params, (False, True), strict=True)
    ]
    ran = together(problems, method)
    for p, reverse, got in zip(params, (False, True), ran, strict=True):
        want = run(cell, p, xs, lengths=lengths, reverse=reverse)
        for a, b in zip(*map(jax.tree.leaves, (got, want)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_merges():
    key = jax.random.key(1)
    outs = {}
    for merge in ("concat", "sum", "none"):
        layer = around.bidirectional(cells.gru(5), merge=merge)
        outs[merge] = run(layer, layer.init(key, xs[0]), xs)[1]
    f, b = outs["none"]
    np.testing.assert_array_equal(outs["concat"], jnp.concatenate([f, b], -1))
    np.testing.assert_array_equal(outs["sum"], f + b)


def test_directions_have_parameters_and_noise_of_their_own():
    layer = around.bidirectional(inside.recurrent_dropout(cells.lstm(5), 0.5))
    params = layer.init(jax.random.key(1), xs[0])
    assert not (params.forward.input == params.backward.input).all()
    drawn = layer.noise(params, xs[0], jax.random.key(2))
    assert not (drawn.forward.masks[0] == drawn.backward.masks[0]).all()
    a, b = (run(layer, params, xs, key=jax.random.key(k))[1] for k in (2, 3))
    assert not (a == b).all()


def test_a_stack_is_a_direction():
    deep = around.stack(cells.lstm(5), cells.gru(3))
    layer = around.bidirectional(deep)
    params = layer.init(jax.random.key(1), xs[0])
    ys = run(layer, params, xs, lengths=lengths)[1]
    want = run(deep, params.backward, xs, lengths=lengths, reverse=True)[1]
    np.testing.assert_allclose(ys[..., 3:], want, rtol=1e-5, atol=1e-6)


def test_pytorch_agrees():
    torch = pytest.importorskip("torch")
    layer = around.bidirectional(cells.elman(5))
    params = layer.init(jax.random.key(1), xs[0])
    other = torch.nn.RNN(4, 5, bidirectional=True)
    with torch.no_grad():
        for p, suffix in ((params.forward, "l0"), (params.backward, "l0_reverse")):
            getattr(other, f"weight_ih_{suffix}").copy_(torch.tensor(np.asarray(p.input).T))
            getattr(other, f"weight_hh_{suffix}").copy_(torch.tensor(np.asarray(p.recurrent).T))
            getattr(other, f"bias_ih_{suffix}").copy_(torch.tensor(np.asarray(p.bias)))
            getattr(other, f"bias_hh_{suffix}").zero_()
        want = other(torch.tensor(np.asarray(xs)))[0].numpy()
    np.testing.assert_allclose(run(layer, params, xs)[1], want, rtol=1e-5, atol=1e-6)
