"""What is special to each cell: layouts, initialisers, dtypes, repr."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import cells
from tests.tables import CELLS

x = jnp.ones((2, 7))
key = jax.random.key(0)

LAYOUTS = {
    "elman": {"input": (7, 5), "recurrent": (5, 5), "bias": (5,)},
    "lstm": {"input": (7, 20), "recurrent": (5, 20), "bias": (20,)},
    "peephole_lstm": {"input": (7, 20), "recurrent": (5, 20), "bias": (20,), "peephole": (15,)},
    "gru": {"input": (7, 15), "recurrent": (5, 15), "bias": (15,), "recurrent_bias": (5,)},
    "gru_reset_before": {"input": (7, 15), "recurrent": (5, 15), "bias": (15,)},
    "mgu": {"input": (7, 10), "recurrent": (5, 10), "bias": (10,)},
    "indrnn": {"input": (7, 5), "recurrent": (5,), "bias": (5,)},
    "layer_norm_lstm": {
        "input": (7, 20),
        "recurrent": (5, 20),
        "bias": (20,),
        "input_scale": (20,),
        "recurrent_scale": (20,),
        "carry_scale": (5,),
        "carry_bias": (5,),
    },
    "layer_norm_gru": {
        "input": (7, 15),
        "recurrent": (5, 15),
        "bias": (15,),
        "input_scale": (15,),
        "recurrent_scale": (15,),
    },
    "jordan": {
        "input": (7, 5),
        "recurrent": (2, 5),
        "bias": (5,),
        "output": (5, 2),
        "output_bias": (2,),
    },
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout(name):
    params = CELLS[name].init(key, x)
    assert {k: v.shape for k, v in params._asdict().items()} == LAYOUTS[name]
    assert repr(CELLS[name]).startswith(f"{name}(5")


@pytest.mark.parametrize("make", [cells.lstm, cells.gru, cells.mgu, cells.elman])
def test_each_gate_is_orthogonal(make):
    recurrent = make(6).init(key, x).recurrent
    for gate in jnp.split(recurrent, recurrent.shape[1] // 6, axis=1):
        np.testing.assert_allclose(gate @ gate.T, np.eye(6), atol=1e-5)


@pytest.mark.parametrize("make", [cells.lstm, cells.peephole_lstm, cells.layer_norm_lstm])
def test_the_forget_bias_lives_in_the_parameters(make):
    bias = make(3).init(key, x).bias
    np.testing.assert_array_equal(bias, [0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    traced = jax.vmap(lambda b: make(3, forget_bias=b).init(key, x).bias[3])(jnp.arange(3.0))
    np.testing.assert_array_equal(traced, [0, 1, 2])


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_parameters_have_the_dtype_of_x_or_the_one_asked_for(name, dtype):
    rows = jax.ShapeDtypeStruct(x.shape, dtype)
    params = jax.eval_shape(CELLS[name].init, key, rows)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    make = getattr(cells, name.split("-")[0])
    kept = jax.eval_shape(make(5, dtype=jnp.float32).init, key, rows)
    assert {leaf.dtype for leaf in jax.tree.leaves(kept)} == {jnp.dtype("float32")}


def test_an_irnn_is_an_elman_network_with_other_arguments():
    identity = lambda key, shape, dtype: jnp.eye(*shape, dtype=dtype)  # noqa: E731
    irnn = cells.elman(4, activation=jax.nn.relu, recurrent_init=identity)
    params = irnn.init(key, x)
    np.testing.assert_array_equal(params.recurrent, np.eye(4))
    h, _ = irnn.step(params, jnp.full((2, 4), 2.0), jnp.zeros((2, 7)))
    np.testing.assert_array_equal(h, np.full((2, 4), 2.0))


def test_extreme_inputs_stay_finite():
    for name, cell in CELLS.items():
        params = cell.init(key, x)
        first, step = cell.carry(params, x), jax.jit(cell.step)
        for scale in (1e4, -1e4):
            carry, y = step(params, first, x * scale)
            assert all(np.isfinite(v).all() for v in jax.tree.leaves((carry, y))), name


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["delta_net", "gated_delta_net", "linear_attention", "lstm"])
def test_a_step_of_zeros_has_a_gradient_in_half_precision(name, dtype):
    """Eagerly, where XLA fuses nothing and each operation rounds: ε and its slope are as they are."""
    cell = CELLS[name]
    xs = np.random.default_rng(0).standard_normal((4, 2, 4))
    xs[1:3] = 0
    xs = jnp.asarray(xs, dtype)
    params = cell.init(key, xs[0])

    def loss(params, xs):
        return jnp.sum(jaxrnn.run(cell, params, xs)[1].astype(jnp.float32))

    for leaf in jax.tree.leaves(jax.value_and_grad(loss, (0, 1))(params, xs)):
        assert np.isfinite(np.asarray(leaf, np.float32)).all()
