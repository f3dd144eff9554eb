"""Matrix memories by chunks of time, against a loop in NumPy and against the steps of the cells."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxrnn import methods, run
from jaxrnn.cells import memory
from jaxrnn.cells.delta_net import delta_net, gated_delta_net
from jaxrnn.cells.linear_attention import gated_linear_attention, linear_attention, retention
from jaxrnn.cells.xlstm import mlstm
from jaxrnn.testing.case import case_of, loss_of, same
from tests.cells.reference import near

CELLS = {
    "linear_attention": linear_attention(6, heads=2, key_features=2),
    "retention": retention(6, heads=2, key_features=2),
    "gated_linear_attention": gated_linear_attention(6, heads=2, key_features=2, temperature=0.7),
    "delta_net": delta_net(6, heads=2, key_features=2),
    "gated_delta_net": gated_delta_net(6, heads=2, key_features=2),
    "mlstm": mlstm(6, heads=2, key_features=2),
}


def together(cell, params, xs, carry=None, *, mask=None, resets=None, chunk=None):
    """All steps at once, as a method asks for it."""
    if carry is None:
        carry = cell.carry(params, jnp.zeros_like(xs, shape=xs.shape[1:]))
    if mask is None:
        return cell.parallel(params, carry, xs, valid=None, resets=resets, chunk=chunk)
    xs = jnp.where(mask[..., None], xs, 0)
    resets = None if resets is None else resets & mask
    carry, ys = cell.parallel(params, carry, xs, valid=mask, resets=resets, chunk=chunk)
    return carry, jnp.where(mask[..., None], ys, 0)


def flags(length, *batch):
    valid = jax.random.bernoulli(jax.random.key(5), 0.8, (length, *batch))
    return valid, jax.random.bernoulli(jax.random.key(6), 0.15, (length, *batch)) & valid


def loop(memory, q, k, v, decay, beta, valid, resets):
    """Step by step, row by row and head by head; no β is a linear memory."""
    s, ys = np.array(memory), np.zeros_like(v)
    for t, *at in np.ndindex(q.shape[:-1]):
        at = tuple(at)
        if resets[t][at[:-1]]:
            s[at] = 0
        if valid[t][at[:-1]]:
            s[at] *= decay[t][at].reshape(-1, 1)
            key, value = k[t][at], v[t][at]
            if beta is not None:
                value = beta[t][at] * (value - s[at].T @ key)
            s[at] += np.outer(key, value)
        ys[t][at] = s[at].T @ q[t][at]
    return s, ys


@pytest.mark.parametrize("kind", ["head", "channel", "delta"])
@pytest.mark.parametrize(("length", "chunk", "group"), [(21, 4, 1 << 20), (37, 5, 1)])
def test_chunks_are_the_loop(kind, length, chunk, group, monkeypatch):
    monkeypatch.setattr(memory, "TOGETHER", group)  # of 1: one chunk after the other
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 6)
        lead = (length, 2, 3)
        q, k, v = (
            jax.random.normal(key, (*lead, n)) for key, n in zip(keys, (4, 4, 5), strict=False)
        )
        shape = (*lead, 4) if kind == "channel" else lead
        decay = jax.nn.sigmoid(2 * jax.random.normal(keys[3], shape))
        first = jax.random.normal(keys[4], (2, 3, 4, 5))
        valid, resets = flags(length, 2)
        options = {"valid": valid, "resets": resets, "chunk": chunk}
        beta = jax.nn.sigmoid(jax.random.normal(keys[5], lead)) if kind == "delta" else None
        given = (first, q, k, v, decay) if beta is None else (first, q, k, v, decay, beta)
        function = memory.linear if beta is None else memory.delta
        got = jax.jit(lambda *given: function(*given, **options))(*given)
        arrays = jax.tree.map(np.asarray, (first, q, k, v, decay, beta, valid, resets))
    for a, b in zip(got, loop(*arrays), strict=True):
        near(a, b)


@pytest.mark.parametrize("name", CELLS)
def test_all_steps_at_once_are_the_steps(name, monkeypatch):
    """T is no multiple of a chunk, and there are three groups; curvature for each kind of memory."""
    monkeypatch.setattr(memory, "TOGETHER", 2 * 3 * 2 * 8**2)
    with jax.enable_x64(True):
        cell = CELLS[name]
        case = case_of(cell, jnp.zeros((3, 4)), 37)
        mask, resets = flags(37, 3)
        args = (case.params, case.xs, case.carry)
        direction = jax.tree.map(lambda a: jnp.cos(3.0 * jnp.arange(a.size)).reshape(a.shape), args)

        def steps(*args):
            return run(cell, *args, mask=mask, resets=resets, method=methods.lax())

        def at_once(*args):
            return together(cell, *args, mask=mask, resets=resets, chunk=8)

        def everything(function):
            def loss(args):
                out = function(*args)
                return loss_of(out), out

            gradient = jax.grad(loss, has_aux=True)
            if name not in ("gated_linear_attention", "gated_delta_net", "mlstm"):
                return jax.jit(gradient)(args)
            return jax.jit(lambda args: jax.jvp(gradient, (args,), (direction,)))(args)

        same(everything(at_once), everything(steps), 1e-10, "all at once and the steps")


@pytest.mark.parametrize("name", CELLS)
def test_nothing_that_is_not_finite_survives_a_reset(name):
    """Neither what was in the memory nor what was written; and no step before sees a later one."""
    with jax.enable_x64(True):
        cell = CELLS[name]
        case = case_of(cell, jnp.zeros((2, 4)), 12)
        start = jax.tree.map(jnp.zeros_like, case.carry)
        poisoned = jax.tree.map(lambda a: a.at[0].set(jnp.nan).at[1].set(jnp.inf), start)
        resets = jnp.zeros((12, 2), bool).at[jnp.array([0, 5])].set(True)

        @jax.jit
        def results(carry, xs):
            def loss(params, carry, xs):
                out = together(cell, params, xs, carry, resets=resets, chunk=8)
                return loss_of(out), out

            return jax.grad(loss, argnums=(0, 1, 2), has_aux=True)(case.params, carry, xs)

        clean = results(start, case.xs)
        same(results(poisoned, case.xs), clean, 0.0, "after a reset of what was in the memory")
        # Within one chunk: written at 2, gone at 5.
        _, (last, ys) = results(start, case.xs.at[2].set(jnp.nan))
        assert np.isnan(ys[2:5]).all()
        same((last, ys.at[2:5].set(0)), (clean[1][0], clean[1][1].at[2:5].set(0)), 0.0, "written")


@pytest.mark.parametrize("name", CELLS)
def test_types_and_sizes(name):
    """Those of the steps: for no time, no batch axis, several, no rows, and any x and parameters."""
    cell = CELLS[name]
    for shape, kinds in {
        (9, 4): ("float32", "bfloat16"),
        (9, 2, 3, 4): ("bfloat16", "float32"),
        (0, 2, 4): ("float32", "float32"),
        (1, 2, 4): ("bfloat16", "bfloat16"),
        (9, 0, 4): ("float32", "float32"),
    }.items():
        x, xs = jax.ShapeDtypeStruct(shape[1:], kinds[1]), jax.ShapeDtypeStruct(shape, kinds[0])
        params = jax.eval_shape(cell.init, jax.random.key(0), x)
        want = jax.eval_shape(lambda p, xs: run(cell, p, xs, method=methods.lax()), params, xs)
        assert jax.eval_shape(lambda p, xs: together(cell, p, xs), params, xs) == want


def test_no_step_gives_the_memory_back():
    cell = CELLS["mlstm"]
    params = cell.init(jax.random.key(0), jnp.zeros(4))
    carry = jax.tree.map(lambda a: a + 1, cell.carry(params, jnp.zeros((2, 4))))
    got, _ = jax.jit(lambda carry: together(cell, params, jnp.zeros((0, 2, 4)), carry))(carry)
    same(got, carry, 0.0, "after no step")


def test_decays_are_never_divided_by():
    """In float32 a step that forgets nearly all, or all, costs those after it no digit."""
    keys = jax.random.split(jax.random.key(0), 4)
    q, k, v = (jax.random.normal(key, (64, 1, 8)) for key in keys[:3])
    decay = jax.random.uniform(keys[3], (64, 1), minval=0.9)
    decay = decay.at[7].set(1e-37).at[8:20].set(1e-6).at[40].set(0)
    options = {"valid": None, "resets": None, "chunk": 64}
    everything = np.ones((64,), bool)
    start = jnp.zeros((1, 8, 8))
    wide = [np.asarray(a, np.float64) for a in (start, q, k, v, decay)]
    _, want = loop(*wide, None, everything, ~everything)
    for kind in (decay, jnp.broadcast_to(decay[..., None], k.shape)):
        _, ys = jax.jit(lambda kind: memory.linear(start, q, k, v, kind, **options))(kind)
        assert np.linalg.norm(ys - want) < 1e-6 * np.linalg.norm(want)


def test_inside_shard_map():
    """Also where the memory comes in the same on every device."""
    cell = CELLS["mlstm"]
    xs = jax.random.normal(jax.random.key(0), (9, 4, 4))
    params = cell.init(jax.random.key(1), xs[0])
    carry = cell.carry(params, xs[0, :2])
    mesh = jax.make_mesh((2,), ("rows",), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    sharded = jax.shard_map(
        lambda p, xs, carry: together(cell, p, xs, carry, chunk=4)[1],
        mesh=mesh,
        in_specs=(P(), P(None, "rows"), P()),
        out_specs=P(None, "rows"),
    )
    np.testing.assert_allclose(
        jax.jit(sharded)(params, xs, carry),
        jax.jit(lambda: together(cell, params, xs)[1])(),
        rtol=1e-4,
        atol=1e-6,
    )


def test_nothing_is_multiplied_across_a_wall():
    """What is behind a reset may be so large that its product with what comes after is infinite."""
    k = jnp.ones((4, 1, 2)).at[0].set(1e30)
    q = jnp.ones((4, 1, 2)).at[2].set(1e30)
    options = {"valid": None, "resets": jnp.array([False, True, False, False]), "chunk": 4}

    @jax.jit
    def outputs(decay):
        return memory.linear(jnp.zeros((1, 2, 2)), q, k, jnp.ones((4, 1, 2)), decay, **options)[1]

    for decay in (jnp.ones((4, 1)), jnp.ones((4, 1, 2))):
        np.testing.assert_allclose(outputs(decay)[:, 0, 0], [2e30, 2, 4e30, 6], rtol=1e-6)
