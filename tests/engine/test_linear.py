"""The linear recurrence against `lax.scan`: values, derivatives of every order, transformations."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

from jaxrnn.engine.linear import linear_recurrence
from jaxrnn.engine.prefix import BLOCK, Way

T, B, N = 23, 4, 3
WAYS = {
    "tree": Way(1),
    "blocks": Way(3),
    "ragged": Way(5),
    "one by one": Way(1000),
    "device": Way(),
}
KINDS = {
    "diagonal": {"matrix": False},
    "backwards": {"matrix": False, "reverse": True},
    "matrix": {"matrix": True},
    "matrix backwards": {"matrix": True, "reverse": True},
}


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def operands(matrix, dtype=jnp.float64, times=T, size=N):
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = [(times, B, size, size) if matrix else (times, B, size), (T, B, size), (B, size)]
    a, b, h0 = (jax.random.normal(k, s, dtype) for k, s in zip(keys, shapes, strict=True))
    return 0.5 * a, b, h0


def looped(a, b, h0, *, matrix, reverse=False):
    def step(h, ab):
        h = (ab[0] @ h[..., None])[..., 0] + ab[1] if matrix else ab[0] * h + ab[1]
        return h, h

    a = jnp.broadcast_to(a, (T, *a.shape[1:]))
    return lax.scan(step, h0, (a, b), reverse=reverse)[1]


def all_derivatives(f, args):
    loss = lambda *args: (w := jnp.sin(f(*args))) @ jnp.cos(jnp.arange(w.shape[-1]))  # noqa: E731
    total = lambda *args: jnp.real(loss(*args)).sum()  # noqa: E731
    gradient = jax.grad(total, (0, 1, 2))
    direction = jax.tree.map(jnp.cos, args)
    out, push = jax.jvp(f, args, direction)
    _, curved = jax.jvp(gradient, args, direction)
    return out, push, gradient(*args), curved


def close(got, want, tolerance=1e-12):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["tree", "ragged", "one by one"])
def test_is_the_loop_with_derivatives_of_every_kind(way, kind):
    args = operands(KINDS[kind]["matrix"])
    solve = partial(linear_recurrence, way=WAYS[way], **KINDS[kind])
    got = jax.jit(lambda *a: all_derivatives(solve, a))
    want = jax.jit(lambda *a: all_derivatives(partial(looped, **KINDS[kind]), a))
    close(got(*args), want(*args))


@pytest.mark.parametrize("way", ["tree", "ragged"])
@pytest.mark.parametrize(("matrix", "size"), [(False, 3), (True, 3), (True, 6)])
def test_complex_and_what_never_changes(way, matrix, size):
    args = operands(matrix, jnp.complex128, times=1, size=size)
    solve = partial(linear_recurrence, way=WAYS[way], matrix=matrix)
    got = jax.jit(lambda *a: all_derivatives(solve, a))
    want = jax.jit(lambda *a: all_derivatives(partial(looped, matrix=matrix), a))
    # An a that never changes and is not small makes numbers of 1e59, and their rounding.
    close(got(*args), want(*args), 1e-11)


@pytest.mark.parametrize("axes", [(2, 2, 1), (None, 1, None), (0, None, None), (None, None, 0)])
def test_vmap(axes):
    args = operands(False)
    many = [
        v if axis is None else jnp.stack([v, 2 * v], axis)
        for v, axis in zip(args, axes, strict=True)
    ]
    solve = partial(linear_recurrence, way=Way(4))
    got = jax.vmap(solve, in_axes=axes)(*many)
    for i in range(2):
        one = [v if x is None else jnp.take(v, i, x) for v, x in zip(many, axes, strict=True)]
        close(got[i], looped(*one, matrix=False))


@pytest.mark.parametrize("way", ["tree", "ragged"])
def test_gradient_inside_shard_map(way):
    args = operands(False)
    mesh = jax.make_mesh((4,), ("rows",), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:4])
    solve = partial(linear_recurrence, way=WAYS[way])
    split = jax.shard_map(
        lambda a, b, h0: lax.psum((solve(a, b, h0) ** 2).sum(), "rows"),
        mesh=mesh,
        in_specs=(P(), P(None, "rows"), P("rows")),
        out_specs=P(),
    )
    one = args[0][:, :1], *args[1:]
    got = jax.jit(jax.grad(split, (0, 1, 2)))(*one)
    want = jax.grad(lambda *a: (solve(*a) ** 2).sum(), (0, 1, 2))(*one)
    close(got, want)


def test_checkpoint_export_and_eager():
    args = operands(False)
    solve = partial(linear_recurrence, way=Way(4))
    total = lambda *args: (solve(*args) ** 2).sum()  # noqa: E731
    close(jax.grad(jax.checkpoint(total))(*args), jax.grad(total)(*args))
    exported = jax.export.deserialize(jax.export.export(jax.jit(solve))(*args).serialize())
    close(exported.call(*args), solve(*args))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("matrix", [False, True])
def test_a_zero_drops_what_was_even_nan(way, matrix):
    a, b, h0 = operands(matrix)
    a = a.at[11].set(0.0)
    solve = partial(linear_recurrence, matrix=matrix, way=WAYS[way])
    poisoned = jnp.full_like(h0, jnp.nan)
    close(solve(a, b, poisoned)[11:], solve(a, b, h0)[11:])
    gradients = jax.grad(lambda *args: solve(*args)[11:].sum(), (0, 1, 2))
    got = gradients(a, b, poisoned)
    assert all(bool(jnp.isfinite(g).all()) for g in got)
    close(got[1], gradients(a, b, h0)[1])


def test_the_backward_pass_is_a_recurrence_not_a_loop_over_saved_steps():
    args = operands(False)
    solve = partial(linear_recurrence, way=Way(4))
    jaxpr = jax.make_jaxpr(jax.grad(lambda *a: solve(*a).sum(), (0, 1, 2)))(*args)
    names = [e.primitive.name for e in jaxpr.jaxpr.eqns]
    assert names.count("linear_recurrence") == 2
    assert "scan" not in names
    assert "while" not in names


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the sizes are those of a CPU")
def test_a_cpu_takes_blocks_only_where_a_step_has_few_numbers():
    few, many = jnp.zeros((4, 16)), jnp.zeros((5, 16))
    assert Way().size(few, 999, False) == BLOCK
    assert Way().size(many, 999, False) == 999
    assert Way().size(few.astype(complex), 999, False) == 999
    assert Way().size(jnp.zeros((1, 8)), 999, True) == BLOCK
    assert Way().size(jnp.zeros((1, 9)), 999, True) == 999
    assert Way(7).size(many, 999, False) == 7
