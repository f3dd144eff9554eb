"""`jaxrnn.scan` in place of `jax.lax.scan`: the same result, and less in the loop."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxrnn
from tests.peers.agreement import TOLERANCE, Draws, assert_close, of_floats, quickly
from tests.peers.case import Case, H
from tests.peers.loops import jaxpr_of, loops
from tests.peers.others import OTHERS
from tests.peers.steps import STEPS

CASES = {name: other.case for name, other in OTHERS.items()} | STEPS
OURS_ALONE = ("chunk", "remat", "hoist", "defer")
OPTIONS = [
    {"reverse": True},
    {"chunk": 3},
    {"chunk": 4, "remat": True, "reverse": True},
    {"hoist": False},
    {"defer": False, "unroll": 3},
]
Function = Callable[..., Any]


# What is compared: functions of (floats, cotangents, tangents) for a function of floats.


def gradients(function: Function) -> Function:
    """Values, and gradients with respect to params, carry and xs."""

    def transformed(floats, cotangents, _):
        values, pull, others = jax.vjp(function, floats, has_aux=True)
        return {"values": values, "others": others, "gradients": pull(cotangents)[0]}

    return transformed


def tangents_of_gradients(function: Function) -> Function:
    """Forward mode through reverse mode: Hessian-vector products, and all of lower order too."""

    def transformed(floats, cotangents, tangents):
        def first(floats):
            return gradients(function)(floats, cotangents, tangents)

        primal, tangent = jax.jvp(first, (floats,), (tangents,))
        return primal | {"tangents": tangent["values"], "products": tangent["gradients"]}

    return transformed


def gradients_of_gradients(function: Function) -> Function:
    """The same products, by reverse mode through reverse mode."""

    def transformed(floats, cotangents, tangents):
        def slope(floats):
            gradient = gradients(function)(floats, cotangents, tangents)["gradients"]
            return sum(jnp.vdot(gradient[k], tangents[k]).real for k in gradient)

        return jax.grad(slope)(floats)

    return transformed


def pushed_forward(function: Function) -> Function:
    def transformed(floats, _, tangents):
        return jax.jvp(function, (floats,), (tangents,), has_aux=True)

    return transformed


def assert_agree(transform: Function, case: Case, dtype: str, **options: Any) -> None:
    plain = {k: v for k, v in options.items() if k not in OURS_ALONE}
    ours, floats = of_floats(case.run(jaxrnn.scan, **options), *case.args)
    theirs, _ = of_floats(case.run(lax.scan, **plain), *case.args)
    draw = Draws(dtype, seed=1)
    cotangents = draw.like(jax.eval_shape(theirs, floats)[0])

    @quickly
    def both(*args):
        return transform(ours)(*args), transform(theirs)(*args)

    assert_close(*both(floats, cotangents, draw.like(floats)), TOLERANCE[dtype])


@pytest.mark.parametrize("name", OTHERS)
def test_cells_of_other_libraries(name, x64):
    assert_agree(gradients, OTHERS[name].case(Draws("float64")), "float64")


@pytest.mark.parametrize("name", STEPS)
def test_steps_of_users_to_second_order(name, x64):
    assert_agree(tangents_of_gradients, STEPS[name](Draws("float64")), "float64")


@pytest.mark.parametrize("name", ["concatenated", "tied", "decoder", "fast_weights"])
def test_reverse_mode_twice(name, x64):
    assert_agree(gradients_of_gradients, STEPS[name](Draws("float64")), "float64")


@pytest.mark.parametrize("name", ["stacked", "unchanged_leaf", "checkpointed", "affine"])
def test_forward_mode_alone(name, x64):
    assert_agree(pushed_forward, STEPS[name](Draws("float64")), "float64")


@pytest.mark.parametrize("name", CASES)
def test_types_are_those_of_lax_scan(name):
    """Weak types too, which decide what a result is promoted to."""
    case = CASES[name](Draws("float32"))
    ours, theirs = (
        jax.make_jaxpr(case.run(scan))(*case.args).out_avals for scan in (jaxrnn.scan, lax.scan)
    )
    assert ours == theirs


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(
    "name",
    ["nnx.GRUCell", "counter_and_key", "decoder", "convolution"],
)
def test_options_change_no_result(name, options, x64):
    assert_agree(gradients, CASES[name](Draws("float64")), "float64", **options)


@pytest.mark.parametrize("options", [{}, {"chunk": 3, "reverse": True}, {"unroll": True}], ids=str)
@pytest.mark.parametrize("length", [0, 1, 2])
def test_short_sequences(length, options):
    case = STEPS["counter_and_key"](Draws("float32"))
    assert_agree(gradients, case._replace(xs=case.xs[:length]), "float32", **options)


@pytest.mark.parametrize("scan", [jaxrnn.scan, lax.scan], ids=["jaxrnn", "lax"])
def test_custom_vjp_has_no_tangents(scan):
    case = STEPS["custom_vjp"](Draws("float32"))
    function, floats = of_floats(case.run(scan), *case.args)
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(function, (floats,), (floats,), has_aux=True)


@pytest.mark.parametrize(
    "name",
    [
        "linen.OptimizedLSTMCell",
        "nnx.GRUCell",
        "eqx.LSTMCell, mapped",
        "hk.GRU",
        "matrix_first",
        "tokens",
        "convolution",
        "counter_and_key",
    ],
)
def test_ensembles(name, x64):
    """`vmap` over stacked parameters: every member's values and gradients."""
    case, draw = CASES[name](Draws("float64")), Draws("float64", seed=2)
    params = draw.like(case.params, 3)

    def members(scan):
        def member(params):
            function, floats = of_floats(lambda p: case.run(scan)(p, *case.args[1:]), params)
            out, pull, others = jax.vjp(function, floats, has_aux=True)
            return out, others, pull(out)

        return jax.vmap(member)(params)

    got, want = quickly(lambda: (members(jaxrnn.scan), members(lax.scan)))()
    assert_close(got, want, TOLERANCE["float64"])


# Without jit: programs are kept for each step function, so it matters what a step closes over.


def energy(scan: Function, W: Any, h: Any, xs: Any) -> Any:
    h, ys = scan(lambda h, x: (jnp.tanh(h @ W + x), h), h, xs)
    return jnp.sum(h**2) + jnp.sum(ys**3)


@pytest.mark.parametrize(
    "transform",
    [
        jax.grad,
        jax.jacfwd,
        jax.hessian,
        lambda f: lambda W: jax.vmap(f)(jnp.stack([W, 2 * W])),
        lambda f: lambda W: jax.linearize(f, W)[1](W),
        jax.jit,
        lambda f: jax.grad(jax.checkpoint(f)),
    ],
    ids=["grad", "jacfwd", "hessian", "vmap", "linearize", "jit", "checkpoint"],
)
def test_eager_steps_may_close_over_values_under_transformation(transform):
    draw = Draws("float32")
    W, h, xs = draw(3, 3), draw(2, 3), draw(4, 2, 3)

    def value(scan):
        return transform(lambda W: energy(scan, W, h, xs))(W)

    assert_close(value(jaxrnn.scan), value(lax.scan), 1e-5)


def test_eager_calls_of_one_step_are_told_apart():
    def step(h, x):
        return h + x, h * x

    draw = Draws("float32")
    calls = [
        (draw(3), draw(4, 3), {}),
        (draw(3), draw(4, 3), {"reverse": True}),
        (draw(3), draw(2, 3), {}),
        (draw(2, 3), draw(4, 2, 3), {}),
        (jnp.arange(3), jnp.ones((4, 3), int), {}),
        (draw(3), draw(4, 3), {}),
    ]
    for init, xs, options in calls:
        ours = jaxrnn.scan(step, init, xs, **options)
        assert_close(ours, lax.scan(step, init, xs, **options), 1e-6)


# Scans in scans, and under other loops.


def recurrence(scan: Function, W: Any, h: Any, xs: Any) -> Any:
    return scan(lambda h, x: (jnp.tanh(h @ W + x), h.sum(axis=-1)), h, xs)


def nested(scan: Function, W: Any, h: Any, xs: Any) -> Any:
    """For each outer step a whole inner scan, which closes over the outer carry."""

    def outer(h, x):
        last, ys = recurrence(scan, W + h.T @ h, h, x * xs)
        return last, ys

    return scan(outer, h, xs)


def under_lax_scan(scan: Function, W: Any, h: Any, xs: Any) -> Any:
    return lax.scan(lambda h, _: recurrence(scan, W, h, xs), h, length=2)


def under_remat(scan: Function, W: Any, h: Any, xs: Any) -> Any:
    return jax.checkpoint(partial(recurrence, scan))(W, h, xs)


def under_cond(scan: Function, W: Any, h: Any, xs: Any) -> Any:
    return lax.cond(W[0, 0] > 10, lambda: (h, xs.sum(-1)), lambda: recurrence(scan, W, h, xs))


def over_batch(scan: Function, W: Any, h: Any, xs: Any) -> Any:
    return jax.vmap(partial(recurrence, scan, W), in_axes=(0, 1), out_axes=(0, 1))(h, xs)


@pytest.mark.parametrize("program", [nested, under_lax_scan, under_remat, under_cond, over_batch])
def test_composes_with_other_loops(program, x64):
    draw = Draws("float64")
    case = (draw(3, 3), draw(2, 3), draw(4, 2, 3))

    def pulled_back(scan):
        out, pull = jax.vjp(partial(program, scan), *case)
        return out, pull(out)

    got, want = quickly(lambda: (pulled_back(jaxrnn.scan), pulled_back(lax.scan)))()
    assert_close(got, want, TOLERANCE["float64"])


def test_effects_happen_in_their_place():
    def order(scan):
        seen = []

        def step(h, x):
            jax.debug.callback(lambda n: seen.append(int(n)), h, ordered=True)
            return h + 1, x @ jnp.ones((2, 2))

        scan(step, jnp.int32(0), jnp.ones((4, 2)))
        jax.effects_barrier()
        return seen

    assert order(jaxrnn.scan) == order(lax.scan) == [0, 1, 2, 3]


@pytest.mark.parametrize("scan", [jaxrnn.scan, lax.scan], ids=["jaxrnn", "lax"])
@pytest.mark.parametrize(
    ("step", "init", "xs", "error", "says"),
    [
        (lambda h, x: (h.astype(int), x), 1.0, np.ones(3), TypeError, "carry"),
        (lambda h, x: ((h, h), x), 1.0, np.ones(3), TypeError, "carry"),
        (lambda h, x: (h, x), 1.0, (np.ones(3), np.ones(4)), ValueError, "leading axis sizes"),
        (lambda h, x: (h, x), 1.0, None, ValueError, "length"),
    ],
    ids=["dtype", "structure", "lengths", "no length"],
)
def test_errors_are_those_of_lax_scan(scan, step, init, xs, error, says):
    with pytest.raises(error, match=says):
        scan(step, jax.tree.map(jnp.asarray, init), jax.tree.map(jnp.asarray, xs))


# What is left in the loop.


def forward(case: Case, scan: Function) -> Any:
    return jaxpr_of(case.run(scan), *case.args)


def backward(case: Case, scan: Function) -> Any:
    """The gradient with respect to all there is."""
    function, floats = of_floats(case.run(scan), *case.args)

    def gradient(floats):
        out, pull, _ = jax.vjp(function, floats, has_aux=True)
        return pull(out)

    return jaxpr_of(gradient, floats)


def matrices_carried(jaxpr: Any, case: Case) -> set[tuple[int, ...]]:
    """What the loops of a gradient carry that is larger than a vector, and no state."""
    carried = {shape for loop in loops(jaxpr) for shape in loop.carries}
    states = {leaf.shape for leaf in jax.tree.leaves(case.carry)}
    return {shape for shape in carried - states if sum(n > 1 for n in shape) > 1}


@pytest.mark.parametrize("name", OTHERS)
def test_products_with_the_input_leave_the_loop(name):
    other = OTHERS[name]
    case = other.case(Draws("float32"))
    [theirs], [ours] = (loops(forward(case, scan)) for scan in (lax.scan, jaxrnn.scan))
    assert theirs.dots == other.products
    assert theirs.contracted != {H}, "lax.scan has nothing to improve"
    assert ours.dots == other.recurrent
    assert ours.contracted == {H}


@pytest.mark.parametrize("name", OTHERS)
def test_gradients_of_weights_leave_the_backward_loop(name):
    other = OTHERS[name]
    case = other.case(Draws("float32"))
    weights = {p.shape for p in jax.tree.leaves(case.params) if p.ndim == 2}
    assert matrices_carried(backward(case, lax.scan), case) >= weights
    assert matrices_carried(backward(case, jaxrnn.scan), case) == set()
    assert [loop.dots for loop in loops(backward(case, jaxrnn.scan))] == 2 * [other.recurrent]


PRODUCTS = {  # of a user's step: as written, and in the loop
    "concatenated": (1, 1),
    "matrix_first": (3, 1),
    "tied": (3, 1),
    "stacked": (4, 3),  # the second layer's input is the first layer's state
    "decoder": (3, 3),
    "tokens": (2, 1),
    "unchanged_leaf": (2, 0),
    "resets": (2, 1),
    "no_carry": (1, 0),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_the_loop_of_a_users_step_holds_what_needs_the_carry(name):
    case = STEPS[name](Draws("float32"))
    written, left = PRODUCTS[name]
    assert sum(loop.dots for loop in loops(forward(case, lax.scan))) == written
    assert sum(loop.dots for loop in loops(forward(case, jaxrnn.scan))) == left
    assert matrices_carried(backward(case, lax.scan), case)
    assert matrices_carried(backward(case, jaxrnn.scan), case) == set()


def test_a_convolution_leaves_the_loop_as_a_product_does():
    case = STEPS["convolution"](Draws("float32"))
    convolutions = {
        scan: [loop.primitives["conv_general_dilated"] for loop in loops(forward(case, scan))]
        for scan in (lax.scan, jaxrnn.scan)
    }
    assert convolutions == {lax.scan: [2], jaxrnn.scan: [1]}
    assert matrices_carried(backward(case, lax.scan), case)
    assert matrices_carried(backward(case, jaxrnn.scan), case) == set()


def test_parameters_in_the_carry_are_weights_all_the_same():
    case = STEPS["parameters_in_carry"](Draws("float32"))
    weights = {leaf.shape for leaf in jax.tree.leaves(case.carry[0])}
    loops_of = {scan: loops(backward(case, scan)) for scan in (lax.scan, jaxrnn.scan)}
    carried = {
        scan: {shape for loop in found for shape in loop.carries} & weights
        for scan, found in loops_of.items()
    }
    assert carried[lax.scan] == weights
    assert carried[jaxrnn.scan] == set()


@pytest.mark.parametrize(
    ("options", "dots", "carries_weights"),
    [
        ({}, [1, 1], False),
        ({"hoist": False}, [2, 2], False),
        ({"defer": False}, [1, 2], True),
        ({"hoist": False, "defer": False}, [2, 4], True),
    ],
    ids=str,
)
def test_options_say_what_leaves_the_loop(options, dots, carries_weights):
    case = OTHERS["linen.OptimizedLSTMCell"].case(Draws("float32"))
    jaxpr = backward(case, partial(jaxrnn.scan, **options))
    assert [loop.dots for loop in loops(jaxpr)] == dots
    assert bool(matrices_carried(jaxpr, case)) == carries_weights
