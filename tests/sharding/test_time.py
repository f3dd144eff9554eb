"""Time over a mesh axis: any number of steps, also fewer than there are devices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

import jaxrnn
from jaxrnn import cells, methods

CELLS = {"lru": cells.lru(4, state=3), "min_gru": cells.min_gru(4)}


@pytest.mark.parametrize("length", [1, 3, 7, 8, 9, 17, 25, 33, 41, 49])
@pytest.mark.parametrize("name", CELLS)
def test_any_number_of_steps(name, length):
    cell = CELLS[name]
    kind = AxisType.Explicit if length % 2 else AxisType.Auto
    mesh = jax.make_mesh((8,), ("time",), (kind,))
    xs = np.random.default_rng(length).standard_normal((length, 2, 3)).astype("float32")
    params = cell.init(jax.random.key(0), xs[0])

    def loss(method, params, xs):
        carry, ys = jaxrnn.run(cell, params, xs, reverse=length == 9, method=method)
        return jnp.sum(ys**2) + jnp.sum(jnp.abs(carry) ** 2), ys

    def everything(method):
        return jax.jit(jax.value_and_grad(partial(loss, method), (0, 1), has_aux=True))(params, xs)

    got = everything(methods.associative(mesh=mesh, axis="time"))
    want = everything(methods.lax())
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    if length == 8:
        assert got[0][1].sharding.spec[0] == "time"
