"""An update: its mathematics by hand, its noise, its memory, and what it does with a NaN."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrnn import train


def loss(params, batch, key):
    return jnp.mean((batch["x"] @ params["w"] + params["b"] - batch["y"]) ** 2)


def problem(dtype=jnp.float32, rows=12):
    draw = np.random.default_rng(0).normal
    batch = {"x": jnp.array(draw(size=(rows, 3)), dtype), "y": jnp.array(draw(size=rows), dtype)}
    return {"w": jnp.array(draw(size=3), dtype), "b": jnp.zeros((), dtype)}, batch


def close(a, b, rtol=1e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-7), a, b)


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def test_an_update_is_what_optax_does():
    params, batch = problem()
    optimizer = optax.adam(0.1)
    state = train.init(params, optimizer)
    state, metrics = train.step(loss, optimizer)(state, batch)

    value, gradient = jax.value_and_grad(loss)(params, batch, None)
    change, moments = optimizer.update(gradient, optimizer.init(params), params)
    close(state.params, optax.apply_updates(params, change))
    close(state.moments, moments)
    close(metrics["loss"], value)
    close(metrics["gradient_norm"], optax.tree.norm(gradient))
    assert (int(state.count), int(state.skipped), int(state.failing)) == (1, 0, 0)


def test_the_arguments_of_init_are_not_given_away():
    params, batch = problem()
    optimizer = optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau())
    shared = jnp.zeros(2)
    state = train.init(params, optimizer, key=(key := jax.random.key(3)), memory=(shared, shared))
    update = train.step(lambda p, b, k, m: (loss(p, b, k), {}, m), optimizer)
    state, _ = update(state, batch)
    jax.block_until_ready((params, key, shared))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((params, key, shared)))
    again, _ = update(state, batch)
    assert jax.tree.leaves(state.params)[0].is_deleted()  # that of a state is
    assert int(again.count) == 2


@pytest.mark.parametrize("clip", [0.01, 1e6])
def test_clipping_by_the_global_norm(clip):
    params, batch = problem()
    optimizer = optax.sgd(1.0)
    state, metrics = train.step(loss, optimizer, clip=clip)(train.init(params, optimizer), batch)
    change = jax.tree.map(jnp.subtract, state.params, params)
    norm = float(optax.tree.norm(change))
    assert norm == pytest.approx(min(clip, float(metrics["gradient_norm"])), rel=1e-3)
    assert metrics["gradient_norm"] > 0.1


def test_clipping_a_zero_gradient():
    optimizer = optax.sgd(1.0)
    update = train.step(lambda p, b, k: 0.0 * p, optimizer, clip=1.0)
    state, _ = update(train.init(jnp.ones(()), optimizer), None)
    assert float(state.params) == 1.0
    assert int(state.skipped) == 0


@pytest.mark.parametrize("k", [2, 3])
def test_micro_batches_make_the_gradient_of_the_whole(k):
    params, batch = problem()
    optimizer = optax.adam(0.1)
    parts = jax.tree.map(lambda a: a.reshape(k, -1, *a.shape[1:]), batch)
    one = train.step(loss, optimizer)(train.init(params, optimizer), batch)
    many = train.step(loss, optimizer, accumulate=k)(train.init(params, optimizer), parts)
    close(one[0].params, many[0].params, 1e-5)
    close(one[1], many[1], 1e-5)
    assert int(many[0].count) == 1


def noisy(params, batch, key):
    return jnp.sum(params * 0.0), {"noise": jax.random.normal(key)}


def test_noise_is_that_of_the_update():
    optimizer, key = optax.sgd(0.1), jax.random.key(7)
    state = train.init(jnp.ones(2), optimizer, key=key)
    update = train.step(noisy, optimizer)
    for n in range(3):
        state, metrics = update(state, None)
        expected = jax.random.normal(jax.random.fold_in(jax.random.key(7), n))
        assert float(metrics["noise"]) == float(expected)


def test_noise_differs_between_micro_batches():
    optimizer = optax.sgd(0.1)
    update = train.step(noisy, optimizer, accumulate=2)
    _, metrics = update(train.init(jnp.ones(2), optimizer, key=jax.random.key(7)), jnp.zeros(2))
    key = jax.random.fold_in(jax.random.key(7), 0)
    parts = [float(jax.random.normal(jax.random.fold_in(key, i))) for i in range(2)]
    assert float(metrics["noise"]) == pytest.approx(np.mean(parts), rel=1e-6)
    assert parts[0] != parts[1]


def remembering(params, batch, key, memory):
    memory = memory + batch * params
    return jnp.sum(memory), {"seen": memory}, memory


@pytest.mark.parametrize("accumulate", [1, 2])
def test_memory_goes_on_and_no_gradient_through_it(accumulate):
    optimizer = optax.sgd(1.0)
    update = train.step(remembering, optimizer, accumulate=accumulate)
    state = train.init(jnp.float32(2.0), optimizer, memory=jnp.float32(0.0))
    parts = jnp.array([1.0, 3.0]) if accumulate == 2 else jnp.float32(3.0)
    state, _ = update(state, parts)
    # ∂/∂p of memory + batch · p is the batch, whatever the memory was made of.
    assert float(state.memory) == (8.0 if accumulate == 2 else 6.0)
    assert float(state.params) == pytest.approx(2.0 - float(jnp.mean(parts)))
    second, _ = update(state, parts)
    assert float(second.params) == pytest.approx(2.0 - 2 * float(jnp.mean(parts)))


def test_a_skipped_update_hands_a_finite_memory_on():
    """A target that is NaN: the recurrence has gone on all the same, over the resets of its window."""

    def loss(p, batch, key, memory):
        xs, target = batch
        return jnp.sum(p * xs) - target, {}, memory + xs

    optimizer = optax.adam(0.1)
    update = train.step(loss, optimizer)
    state = train.init(jnp.ones(3), optimizer, memory=jnp.float32(0))
    before = jax.tree.map(jnp.copy, state)
    state, _ = update(state, (jnp.float32(2.0), jnp.float32(np.nan)))
    same(state[:2], before[:2])
    assert int(state.skipped) == 1
    assert float(state.memory) == 2.0


@pytest.mark.parametrize("size", [1e-36, 1e-30, 1.0, 1.8e19, 1e30])
@pytest.mark.parametrize("kind", [jnp.float32, jnp.complex64])
def test_a_gradient_whose_squares_overflow_is_clipped(size, kind):
    """‖(3, 4) · s‖ = 5 s, though (3 s)² is no number of float32; a step of the norm that was asked."""
    gradient = (size * np.array([3.0, 4.0])).astype(kind)
    optimizer = optax.sgd(1.0)
    update = train.step(lambda p, b, k: jnp.sum((jnp.conj(b) * p).real), optimizer, clip=size)
    state, metrics = update(train.init(jnp.zeros(2, kind), optimizer), jnp.asarray(gradient))
    assert int(state.skipped) == 0
    np.testing.assert_allclose(metrics["gradient_norm"], 5 * size, rtol=1e-6)
    np.testing.assert_allclose(np.abs(state.params), np.array([0.6, 0.8]) * size, rtol=1e-5)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_skipped_and_counted(bad, accumulate):
    optimizer = optax.adam(0.1)

    def remember(p, b, k, m):
        return jnp.sum(p * b), {}, m + b

    update = train.step(remember, optimizer, clip=1.0, accumulate=accumulate)
    good = jnp.full(accumulate, 2.0) if accumulate > 1 else jnp.float32(2.0)
    broken = good.at[-1].set(bad) if accumulate > 1 else jnp.float32(bad)
    state, _ = update(train.init(jnp.ones(3), optimizer, memory=jnp.float32(0)), good)
    before = jax.tree.map(jnp.copy, state)
    for n in (1, 2):
        state, metrics = update(state, broken)
        assert not np.isfinite(metrics["loss"])
        same(state[:3], before[:3])  # the memory too, which would not be finite
        assert (int(state.count), int(state.skipped), int(state.failing)) == (1 + n, n, n)
    state, _ = update(state, good)
    assert (int(state.count), int(state.skipped), int(state.failing)) == (4, 2, 0)
    assert not np.array_equal(state.params, before.params)


def test_a_gradient_that_is_not_finite_is_skipped_though_the_loss_is():
    optimizer = optax.sgd(1.0)
    update = train.step(lambda p, b, k: jnp.sum(jnp.sqrt(p)), optimizer)  # slope at 0 is infinite
    state, metrics = update(train.init(jnp.zeros(2), optimizer), None)
    assert float(metrics["loss"]) == 0
    assert int(state.skipped) == 1
    assert state.params.tolist() == [0.0, 0.0]


def test_half_precision_gradients_do_not_overflow_the_norm():
    optimizer = optax.sgd(1e-4)
    update = train.step(lambda p, b, k: 1000 * jnp.sum(p), optimizer)
    state, metrics = update(train.init(jnp.ones(4, jnp.float16), optimizer), None)
    assert float(metrics["gradient_norm"]) == 2000
    assert state.params.dtype == jnp.float16
    assert int(state.skipped) == 0


def test_complex_parameters_go_downhill():
    optimizer = optax.sgd(0.25)
    target = jnp.complex64(1 + 2j)
    update = train.step(lambda p, b, k: jnp.abs(p - target) ** 2, optimizer)
    state = train.init(jnp.complex64(3 - 1j), optimizer)
    for _ in range(20):
        state, _ = update(state, None)
    assert complex(state.params) == pytest.approx(complex(target), abs=1e-4)


def test_reduce_on_plateau_is_given_the_loss():
    optimizer = optax.chain(optax.sgd(0.0), optax.contrib.reduce_on_plateau(factor=0.5, patience=2))
    update = train.step(lambda p, b, k: jnp.sum(p), optimizer)
    state = train.init(jnp.ones(1), optimizer)
    for _ in range(6):
        state, _ = update(state, None)
    assert float(state.moments[1].scale) < 1.0


@pytest.mark.parametrize("where", ["eager", "jit", "scan", "vmap"])
def test_it_runs_inside_other_transformations(where):
    params, batch = problem()

    def trained(rate, clip):
        optimizer = optax.adam(rate)
        update = train.step(loss, optimizer, clip=clip)
        state = train.init(params, optimizer)
        if where == "scan":
            return jax.lax.scan(lambda s, _: update(s, batch), state, length=3)[0].params
        for _ in range(3):
            state, _ = update(state, batch)
        return state.params

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of donated buffers that were not usable
        expected = trained(0.1, 0.5)
        if where == "vmap":
            rows = jax.vmap(trained)(jnp.array([0.1, 0.2]), jnp.array([0.5, 0.1]))
            close(jax.tree.map(lambda a: a[0], rows), expected, 1e-5)
            close(jax.tree.map(lambda a: a[1], rows), trained(0.2, 0.1), 1e-5)
        elif where in ("jit", "scan"):
            close(jax.jit(trained)(0.1, 0.5), expected, 1e-5)


def test_it_compiles_once():
    params, batch = problem()
    optimizer = optax.inject_hyperparams(optax.adam)(0.1)
    traced = []

    def counted(p, b, k):
        traced.append(1)
        return loss(p, b, k)

    update = train.step(counted, optimizer, clip=1.0)
    state = train.init(params, optimizer)
    for _ in range(4):
        state, _ = update(state, batch)
    assert len(traced) == 1


REFUSED = {
    "an optimizer that is none": (
        lambda: train.step(loss, 0.1),
        TypeError,
        r"optimizer must be an optax.GradientTransformation, got float; make one",
    ),
    "clip of 0": (lambda: train.step(loss, optax.sgd(1), clip=0), ValueError, "greater than 0"),
    "clip that is no number": (
        lambda: train.step(loss, optax.sgd(1), clip=[1.0]),
        TypeError,
        "clip must be a number",
    ),
    "accumulate of 0": (
        lambda: train.step(loss, optax.sgd(1), accumulate=0),
        ValueError,
        "accumulate must be an integer of at least 1, got 0",
    ),
    "a key of old": (
        lambda: train.init(jnp.ones(1), optax.sgd(1), key=jax.random.PRNGKey(0)),
        TypeError,
        "wrap_key_data",
    ),
    "a loss that is no scalar": (
        lambda: once(lambda p, b, k: p),
        TypeError,
        r"floating-point scalar, got float32\[2\]; take its mean",
    ),
    "an integer loss": (lambda: once(lambda p, b, k: 1), TypeError, "floating-point scalar"),
    "metrics that are no dict": (
        lambda: once(lambda p, b, k: (jnp.sum(p), 1.0)),
        TypeError,
        r"a value, or \(value, metrics\) with metrics a dict",
    ),
    "a metric of a taken name": (
        lambda: once(lambda p, b, k: (jnp.sum(p), {"loss": 1.0})),
        ValueError,
        "may not be called {'loss'}",
    ),
    "no memory from a loss that is given one": (
        lambda: once(lambda p, b, k, m: (jnp.sum(p), {}), memory=jnp.ones(1)),
        TypeError,
        r"must return \(value, metrics, memory\), as there is a memory",
    ),
    "a memory of another type": (
        lambda: once(lambda p, b, k, m: (jnp.sum(p), {}, m + 1j), memory=jnp.ones(1)),
        TypeError,
        "memory that loss returns differs at memory: complex64",
    ),
    "no axis of micro-batches": (
        lambda: once(lambda p, b, k: jnp.sum(p), {"x": jnp.ones((3, 2))}, accumulate=2),
        ValueError,
        r"accumulate=2 needs a leading axis of 2 .* batch\['x'\] is \[3, 2\]",
    ),
}


def once(loss, batch=None, memory=None, **options):
    optimizer = optax.sgd(0.1)
    state = train.init(jnp.ones(2), optimizer, memory=memory)
    return train.step(loss, optimizer, **options)(state, batch)


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(case):
    call, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        call()
