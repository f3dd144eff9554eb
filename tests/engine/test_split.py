"""What the engine finds to run once, before, during and after the loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.engine.split import split
from jaxrnn.engine.trace import trace

T, B, D, H = 4, 3, 5, 6
W, R, V = jnp.ones((D, H)), jnp.ones((H, H)), jnp.ones((H, 2))
b = jnp.ones(H)
xs, h0 = jnp.ones((T, B, D)), jnp.zeros((B, H))


def parts_of(f, init=h0, xs=xs, **options):
    loop = trace(f, init, xs).loop
    return split(loop.step, loop.num_consts, loop.num_carry, **options)


def names(jaxpr):
    return [eqn.primitive.name for eqn in jaxpr.eqns]


def dots(jaxpr):
    return names(jaxpr).count("dot_general")


def emits(f):
    return lambda h, x: (f(h, x), h)


@pytest.mark.parametrize(
    "step",
    [
        lambda h, x: jnp.tanh(x @ W + h @ R + b),
        lambda h, x: jnp.tanh(b + (h @ R + x @ W)),
        lambda h, x: jnp.tanh((h @ R + b) + x @ W),
        lambda h, x: jnp.tanh(jnp.concatenate([h, x], -1) @ jnp.concatenate([R, W]) + b),
        lambda h, x: jnp.tanh(jnp.concatenate([x, h], -1) @ jnp.concatenate([W, R]) + b),
        jax.jit(lambda h, x: jnp.tanh(jax.jit(jnp.matmul)(x, W) + h @ R + b)),
    ],
)
def test_the_input_product_and_the_bias_leave_the_loop_however_the_sum_is_written(step):
    parts = parts_of(emits(step))
    assert dots(parts.before) == 1
    assert "add" in names(parts.before)
    assert names(parts.during) == ["dot_general", "add", "tanh"]
    assert parts.after.eqns == []


def test_a_weight_on_the_left_is_distributed_as_well():
    def step(h, x):
        return jnp.concatenate([R.T, W.T], 1) @ jnp.concatenate([h, x.T]), h

    parts = parts_of(step, jnp.zeros((H, B)))
    assert (dots(parts.before), dots(parts.during)) == (1, 1)


def test_the_readout_comes_after():
    parts = parts_of(lambda h, x: ((h := jnp.tanh(x @ W + h @ R)), jnp.tanh(h @ V)))
    assert (dots(parts.before), dots(parts.during), dots(parts.after)) == (1, 1, 1)
    assert "tanh" in names(parts.after)


def test_a_large_state_is_not_kept_for_a_small_readout():
    """Reading a [H, H] memory inside the loop keeps H numbers a step, not H²."""
    memory = jnp.zeros((B, H, H))

    def step(C, x):
        C = 0.9 * C + jnp.einsum("bd,be->bde", x @ W, x @ W)
        return C, jnp.einsum("bde,bd->be", C, x @ W)

    parts = parts_of(step, memory)
    assert dots(parts.during) == 1
    assert sum(v.aval.size for v in parts.during.outvars[1:]) == B * H


def test_an_outer_product_of_x_is_made_inside_the_loop():
    """Made before the loop it would be kept for all T steps: H² numbers instead of H."""
    parts = parts_of(
        lambda C, x: (C + x[:, :, None] * x[:, None, :], C[:, 0]), jnp.zeros((B, D, D))
    )
    assert parts.before.outvars == []


def test_what_needs_nothing_runs_once():
    parts = parts_of(emits(lambda h, x: jnp.tanh(h @ jnp.exp(R) + x @ jnp.cos(W))))
    assert set(names(parts.once)) == {"exp", "cos"}


def test_a_carry_that_never_changes_is_a_constant():
    parts = parts_of(lambda c, x: (((c[0] @ c[1]) + x @ W, c[1]), x), (h0, R))
    assert len(parts.carry) == 1
    assert dots(parts.during) == 1


def test_control_flow_on_x_stays_in_the_loop():
    def step(h, x):
        picked = jax.lax.cond(x.sum() > 0, lambda: x @ W, lambda: jnp.zeros((B, H)))
        return h + picked, h

    parts = parts_of(step)
    assert "cond" in names(parts.during)
    assert dots(parts.before) == 0


def test_noise_is_drawn_before_the_loop_if_the_generator_allows():
    def step(h, key):
        return h + jax.random.normal(key, h.shape), h

    for impl, moved in (("threefry2x32", True), ("rbg", False)):
        keys = jax.random.split(jax.random.key(0, impl=impl), T)
        parts = parts_of(step, xs=keys)
        assert (parts.before.outvars != []) is moved
        assert any("random" in n for n in names(parts.before)) is moved


def test_hoist_false_moves_only_what_needs_nothing():
    parts = parts_of(emits(lambda h, x: jnp.tanh(x @ jnp.exp(W) + h @ R)), hoist=False)
    assert names(parts.once) == ["exp"]
    assert parts.before.eqns == parts.after.eqns == []
    assert dots(parts.during) == 2


def test_a_step_without_a_carry_has_no_loop():
    weight = jnp.ones((4, 5))

    def run(xs):
        return jaxrnn.scan(lambda carry, x: (carry, jnp.tanh(x @ weight)), (), xs)[1]

    xs = jnp.ones((6, 3, 4))
    text = str(jax.make_jaxpr(run)(xs))
    assert "scan" not in text
    assert text.count("dot_general[") == 1
    np.testing.assert_allclose(run(xs), jnp.tanh(xs @ weight), rtol=1e-6)
