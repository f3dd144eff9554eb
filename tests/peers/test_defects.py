"""What was found broken in other libraries, asked of this one.

The numbers are the rows of the table of defects in the survey of peers; a row that is about an
interface this library has not got is left out.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import cells, methods
from tests.peers.agreement import Draws, assert_close, quickly
from tests.peers.loops import jaxpr_of, loops, primitives

T, B, D, H = 7, 3, 5, 4
CELLS = {
    "elman": cells.elman(H),
    "jordan": cells.jordan(H, outputs=2),
    "lstm": cells.lstm(H),
    "peephole_lstm": cells.peephole_lstm(H),
    "gru": cells.gru(H),
    "gru_reset_before": cells.gru_reset_before(H),
    "mgu": cells.mgu(H),
    "indrnn": cells.indrnn(H),
}
METHODS = [None, methods.lax(), methods.scan(), methods.scan(chunk=3)]
every_cell = pytest.mark.parametrize("cell", CELLS.values(), ids=repr)
every_method = pytest.mark.parametrize("method", METHODS, ids=repr)
both_ways = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])


def example(cell: Any, *batch: int, dtype: str = "float32", seed: int = 0) -> Any:
    """Random params, initial carry and xs."""
    draw = Draws(dtype, seed)
    xs = draw(T, *(batch or (B,)), D)
    params = draw.like(jax.eval_shape(cell.init, jax.random.key(0), xs[0]))
    return params, draw.like(cell.carry(params, xs[0])), xs


def run(cell: Any, params: Any, carry: Any, xs: Any, **options: Any) -> Any:
    return jaxrnn.run(cell, params, xs, carry, **options)


def gradients(function: Any, *args: Any) -> Any:
    """Values, and gradients of half the sum of their squares."""
    out, pull = jax.vjp(function, *args)
    return out, pull(out)


# 1, 2, 16: lengths.


@every_cell
def test_a_row_of_length_0_returns_the_initial_carry(cell):
    args = example(cell)
    runs = [partial(run, cell, lengths=jnp.array([0, 3, T]), method=m) for m in METHODS]
    for last, ys in quickly(lambda: [run(*args) for run in runs])():
        rows = jax.tree.map(lambda leaf: leaf[0], (last, args[1]))
        assert_close(*rows, tolerance=0)
        assert not ys[:, 0].any()
        assert ys[:3, 1].any()
        assert not ys[3:, 1].any()


@every_cell
def test_lengths_of_two_batch_axes(cell):
    params, carry, xs = example(cell, 2, 3)
    lengths = jnp.array([[0, 1, 7], [4, 7, 2]])

    def flat(tree, axis):
        return jax.tree.map(lambda a: a.reshape(*a.shape[:axis], 6, *a.shape[axis + 2 :]), tree)

    @quickly
    def both():
        last, ys = run(cell, params, carry, xs, lengths=lengths)
        rows = run(cell, params, flat(carry, 0), flat(xs, 1), lengths=flat(lengths, 0))
        return (flat(last, 0), flat(ys, 1)), rows

    assert_close(*both(), tolerance=1e-6)


# 3, 4: what stands in the padding reaches nothing.


def run_row_by_row(cell, lengths, reverse, params, carry, xs):
    """No padding at all: each row by itself, as long as it is."""
    lasts, outs = [], []
    for b, length in enumerate(lengths):
        first = jax.tree.map(lambda leaf: leaf[b], carry)  # noqa: B023
        x = xs[:length, b]
        last, ys = run(cell, params, first, x, reverse=reverse, method=methods.lax())
        lasts.append(last)
        outs.append(jnp.pad(ys, [(0, T - length), (0, 0)]))
    return jax.tree.map(lambda *rows: jnp.stack(rows), *lasts), jnp.stack(outs, axis=1)


@pytest.mark.parametrize(
    ("cell", "reverse"),
    [*((cell, False) for cell in CELLS.values()), (CELLS["lstm"], True), (CELLS["gru"], True)],
    ids=str,
)
def test_padding_reaches_no_output_and_no_gradient(cell, reverse):
    args = example(cell)
    lengths = [3, 0, T]
    padding = jnp.arange(T)[:, None, None] >= jnp.array(lengths)[:, None]

    def padded(method, filler):
        options = {"lengths": jnp.array(lengths), "reverse": reverse, "method": method}
        params, carry, xs = args
        filled = jnp.where(padding, filler, xs)
        return gradients(partial(run, cell, **options), params, carry, filled)

    want = quickly(partial(gradients, partial(run_row_by_row, cell, lengths, reverse)))(*args)
    of_methods = quickly(lambda filler: [padded(method, filler) for method in METHODS])
    for filler in (np.nan, np.inf, -np.inf, 1e30):
        for got in of_methods(filler):
            assert_close(got, want, 1e-5)


# 5 to 10: low precision.


@pytest.mark.parametrize(
    ("of_params", "of_xs"),
    [("bfloat16", "bfloat16"), ("bfloat16", "float32"), ("float32", "bfloat16")],
)
@every_cell
def test_low_precision_in_and_out(cell, of_params, of_xs):
    params, carry, xs = example(cell)
    dtype = jnp.promote_types(of_params, of_xs)

    def cast(tree, dtype):
        return jax.tree.map(lambda leaf: leaf.astype(dtype), tree)

    args = cast(params, of_params), cast(carry, dtype), cast(xs, of_xs)

    slopes = jax.eval_shape(partial(gradients, partial(run, cell)), *args)[1]
    out, want = quickly(lambda: [run(cell, *a) for a in (args, cast(args, "float32"))])()
    assert {leaf.dtype for leaf in jax.tree.leaves(out)} == {dtype}
    assert jax.tree.map(lambda leaf: leaf.dtype, slopes) == jax.tree.map(lambda a: a.dtype, args)
    assert_close(cast(out, "float32"), want, 0.03)


@every_cell
def test_the_first_carry_has_the_promoted_dtype(cell):
    x = jnp.ones((B, D), "bfloat16")
    of_x = cell.init(jax.random.key(0), x)
    assert {leaf.dtype for leaf in jax.tree.leaves((of_x, cell.carry(of_x, x)))} == {x.dtype}
    wider = cell.carry(of_x, x.astype("float32"))
    assert {leaf.dtype for leaf in jax.tree.leaves(wider)} == {jnp.dtype("float32")}
    out = jax.eval_shape(partial(jaxrnn.run, cell), of_x, jnp.ones((T, B, D), "float32"))
    assert {leaf.dtype for leaf in jax.tree.leaves(out)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("name", CELLS)
def test_parameters_of_a_dtype_that_is_asked_for(name):
    cell = getattr(cells, name)(H, dtype="bfloat16")
    params = cell.init(jax.random.key(0), jnp.ones((B, D)))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("bfloat16")}
    exact = getattr(cells, name)(H).init(jax.random.key(0), jnp.ones((B, D)))
    assert_close(jax.tree.map(lambda leaf: leaf.astype("float32"), params), exact, 0.01)


# 11: a GRU has a bias within the reset.


def test_gru_has_a_bias_within_the_reset():
    params, carry, xs = example(cells.gru(H))
    assert params.recurrent_bias.shape == (H,)
    _, (slopes, *_) = gradients(partial(run, cells.gru(H)), params, carry, xs)
    assert (slopes.recurrent_bias != 0).all()
    moved = params._replace(bias=params.bias.at[2 * H :].add(params.recurrent_bias))
    moved = moved._replace(recurrent_bias=jnp.zeros(H))
    same, other = (run(cells.gru(H), p, carry, xs)[1] for p in (params, moved))
    assert not np.allclose(same, other, atol=1e-3)


# 12, 13, 14: what a loop holds.

RECURRENT_PRODUCTS = {
    "elman": 1,
    "jordan": 2,  # its output feeds back: both matrices
    "lstm": 1,
    "peephole_lstm": 1,
    "gru": 1,
    "gru_reset_before": 2,  # the reset stands between them
    "mgu": 2,
    "indrnn": 0,
}


@both_ways
@pytest.mark.parametrize("name", CELLS)
def test_only_recurrent_products_are_in_the_loops(name, reverse):
    cell = CELLS[name]
    function = partial(run, cell, reverse=reverse, method=methods.scan())
    args = example(cell)
    [forward] = loops(jaxpr_of(function, *args))
    assert forward.dots == RECURRENT_PRODUCTS[name]
    assert forward.primitives["concatenate"] == (
        name == "peephole_lstm"
    )  # of the state, not weights
    both = loops(jaxpr_of(partial(gradients, function), *args))
    assert [loop.dots for loop in both] == 2 * [RECURRENT_PRODUCTS[name]]


@pytest.mark.parametrize("method", [None, methods.scan(), methods.scan(hoist=False)], ids=repr)
@every_cell
def test_no_backward_loop_carries_a_weight_gradient(cell, method):
    args = example(cell)

    def carried(method):
        found = loops(jaxpr_of(partial(gradients, partial(run, cell, method=method)), *args))
        return {shape for loop in found for shape in loop.carries}

    weights = {p.shape for p in args[0] if p.ndim == 2}
    assert carried(methods.lax()) >= weights
    assert not {s for s in carried(method) if s in weights or s[::-1] in weights}


@every_method
@every_cell
def test_a_reversed_run_reverses_no_array(cell, method):
    args = example(cell)
    reverse = partial(run, cell, method=method, reverse=True, lengths=jnp.array([3, 0, T]))
    found = primitives(jaxpr_of(partial(gradients, reverse), *args))
    assert found["scan"] >= 2
    assert found["rev"] == 0


# 15: ensembles.


@every_cell
def test_stacked_parameters_run_under_vmap(cell):
    examples = [example(cell, seed=seed) for seed in range(3)]
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(p for p, _, _ in examples))
    _, carry, xs = examples[0]
    function = partial(gradients, partial(run, cell))
    alone = quickly(function)
    want = [alone(p, carry, xs) for p, _, _ in examples]
    got = quickly(jax.vmap(function, in_axes=(0, None, None)))(params, carry, xs)
    assert_close(got, jax.tree.map(lambda *leaves: jnp.stack(leaves), *want), 1e-5)


# No steps, and no rows.


@every_method
@every_cell
def test_no_steps_give_back_the_carry(cell, method):
    params, carry, xs = example(cell)

    @quickly
    def both_directions():
        return [
            gradients(partial(run, cell, reverse=reverse, method=method), params, carry, xs[:0])
            for reverse in (False, True)
        ]

    for (last, ys), (of_params, of_carry, of_xs) in both_directions():
        assert_close((last, of_carry), (carry, carry), 0)
        assert ys.shape == (0, *jax.tree.leaves(carry)[0].shape)
        assert ys.dtype == xs.dtype
        assert of_xs.shape == (0, B, D)
        assert not any(leaf.any() for leaf in of_params)


@every_method
@every_cell
def test_no_rows_give_no_rows(cell, method):
    params, _, _ = example(cell)
    xs = jnp.zeros((T, 0, D))
    carry = cell.carry(params, xs[0])

    function = partial(run, cell, lengths=jnp.zeros(0, int), method=method)
    (last, ys), (of_params, *_) = quickly(partial(gradients, function))(params, carry, xs)
    assert jax.tree.map(jnp.shape, last) == jax.tree.map(jnp.shape, carry)
    assert ys.shape == (T, 0, *jax.tree.leaves(carry)[0].shape[1:])
    assert not any(leaf.any() for leaf in of_params)
