"""Time over a mesh axis: any number of steps, also fewer than there are devices."""

import contextlib
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxrnn
from jaxrnn import around, cells, methods

LAYERS = {
    "lru": cells.lru(4, state=3),
    "min_gru": cells.min_gru(4),
    "stack": around.stack(cells.lru(4, state=3), around.dense(5), cells.min_gru(4)),
    "bidirectional": around.bidirectional(cells.min_gru(4)),
}
AUTO, EXPLICIT = AxisType.Auto, AxisType.Explicit


def inputs(length):
    return np.random.default_rng(length).standard_normal((length, 4, 3)).astype("float32")


def everything(layer, method, *, reverse=False):
    """Outputs, their loss, and its gradients in params and xs."""

    def loss(params, xs, lengths):
        carry, ys = jaxrnn.run(layer, params, xs, lengths=lengths, reverse=reverse, method=method)
        last = sum(jnp.sum(jnp.abs(leaf) ** 2) for leaf in jax.tree.leaves(carry))
        return jnp.sum(ys**2) + last, ys

    return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))


def close(got, want):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("length", [1, 3, 7, 8, 9, 17, 25, 33, 41, 49])
@pytest.mark.parametrize("name", ["lru", "min_gru"])
def test_any_number_of_steps(name, length):
    layer, xs = LAYERS[name], inputs(length)
    kind = EXPLICIT if length % 2 else AUTO
    mesh = jax.make_mesh((8,), ("time",), (kind,))
    params = layer.init(jax.random.key(0), xs[0])
    method = methods.associative(mesh=mesh, axis="time")
    got = everything(layer, method, reverse=length == 9)(params, xs, None)
    close(got, everything(layer, methods.lax(), reverse=length == 9)(params, xs, None))
    if length == 8:
        assert got[0][1].sharding.spec[0] == "time"


PLACES = {
    "nowhere": None,
    "everywhere": P(),
    "batch": P(None, "data"),
    "time": P("time"),
    "both": P("time", "data"),
}
CASES = {  # the kinds of the axes "time" and "data", the number of steps, whether the mesh is set
    "lru": ("lru", (EXPLICIT, EXPLICIT), 16, False),
    "lru in a mesh": ("lru", (EXPLICIT, EXPLICIT), 16, True),
    "lru of 7": ("lru", (EXPLICIT, EXPLICIT), 7, True),
    "lru, explicit batch": ("lru", (AUTO, EXPLICIT), 7, False),
    "lru, explicit time": ("lru", (EXPLICIT, AUTO), 16, True),
    "stack": ("stack", (EXPLICIT, EXPLICIT), 16, False),
    "stack, auto": ("stack", (AUTO, AUTO), 16, True),
    "bidirectional": ("bidirectional", (EXPLICIT, EXPLICIT), 16, True),
}


@cache
def wanted(name, length):
    layer, xs = LAYERS[name], inputs(length)
    params = layer.init(jax.random.key(0), xs[0])
    lengths = np.array([length, 3, 6, 2])
    return (params, xs, lengths), everything(layer, methods.lax())(params, xs, lengths)


@pytest.mark.parametrize(
    ("case", "place"),
    [(c, p) for c in CASES for p in PLACES if CASES[c][2] == 16 or p not in ("time", "both")],
)
def test_arrays_that_lie_on_the_mesh(case, place):
    name, kinds, length, set_it = CASES[case]
    layer, mesh = LAYERS[name], jax.make_mesh((4, 2), ("time", "data"), kinds)
    given, want = wanted(name, length)
    params, xs, lengths = given
    if (spec := PLACES[place]) is not None:
        rows = P(*spec[1:2])
        given = (
            jax.device_put(params, NamedSharding(mesh, P())),
            jax.device_put(xs, NamedSharding(mesh, spec)),
            jax.device_put(lengths, NamedSharding(mesh, rows)),
        )
    method = methods.associative(mesh=mesh, axis="time")
    with jax.set_mesh(mesh) if set_it else contextlib.nullcontext():
        got = everything(layer, method)(*given)
    close(got, want)
    ys = got[0][1]
    if length == 16 and kinds[0] is EXPLICIT and place != "nowhere":
        assert ys.sharding.spec[0] == "time"
    if kinds[1] is EXPLICIT and place in ("batch", "both"):
        assert ys.sharding.spec[1] == "data"


def test_eagerly_and_as_one_of_several_methods():
    layer, xs = LAYERS["lru"], inputs(16)
    mesh = jax.make_mesh((8,), ("time",))
    params = layer.init(jax.random.key(0), xs[0])
    want = jaxrnn.run(layer, params, xs, method=methods.lax())
    split = jax.device_put(xs, NamedSharding(mesh, P("time")))
    parallel = methods.associative(mesh=mesh, axis="time")
    for method in (parallel, methods.first(parallel, methods.scan())):
        got = jaxrnn.run(layer, params, split, method=method)
        close(got, want)
        assert got[1].sharding.spec[0] == "time"
    apart = methods.either(forward=parallel, gradient=parallel)
    gradient = jax.jit(
        jax.grad(lambda xs, m: jnp.sum(jaxrnn.run(layer, params, xs, method=m)[1] ** 2), 0),
        static_argnums=1,
    )
    close(gradient(split, apart), gradient(jnp.asarray(xs), methods.lax()))


def test_a_loop_over_time_that_is_split_says_so():
    layer, xs = LAYERS["lru"], inputs(16)
    params = layer.init(jax.random.key(0), xs[0])
    split = jax.device_put(xs, NamedSharding(jax.make_mesh((8,), ("time",)), P("time")))
    remedy = r"xs is split over the mesh axis 'time' in time.*associative\(mesh=mesh, axis='time'\)"
    for method in (None, methods.scan(), methods.lax()):
        with pytest.raises(ValueError, match=remedy):
            jax.jit(partial(jaxrnn.run, layer, method=method))(params, split)
