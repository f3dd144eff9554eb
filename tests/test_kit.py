"""The cell kit: carries, dtypes, promotion, words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import Features, around, cells, inside, methods
from tests.tables import CELLS

B, D, H = 2, 4, 5


def init(key, x):
    k, r = jax.random.split(key)
    return {
        "W": jax.random.normal(k, (x.shape[-1], H), x.dtype) / 2,
        "R": jax.random.normal(r, (H, H), x.dtype) / 3,
        "b": jnp.ones(H, x.dtype) / 8,
    }


def step(p, h, x):
    h = jnp.tanh(x @ p["W"] + h @ p["R"] + p["b"])
    return h, h


COUNTED = jaxrnn.cell("counted", init, step, carry=H)
GIVEN = jaxrnn.cell(
    "given", init, step, carry=lambda p, x: jnp.zeros_like(x, shape=(*x.shape[:-1], H))
)


def in_float64(params, xs):
    """The same recurrence in NumPy."""
    p = {name: np.asarray(leaf).astype("float64") for name, leaf in params.items()}
    h, ys = np.zeros((B, H)), []
    for x in np.asarray(xs).astype("float64"):
        h = np.tanh(x @ p["W"] + h @ p["R"] + p["b"])
        ys.append(h)
    return np.stack(ys)


DTYPES = [
    ("float32", "bfloat16", "float32"),
    ("bfloat16", "float32", "float32"),
    ("bfloat16", "bfloat16", "bfloat16"),
    ("float16", "float32", "float32"),
]


@pytest.mark.parametrize("cell", [COUNTED, GIVEN], ids=repr)
@pytest.mark.parametrize(("of_params", "of_xs", "of_ys"), DTYPES)
def test_parameters_and_inputs_of_two_dtypes(cell, of_params, of_xs, of_ys):
    xs = np.random.default_rng(0).standard_normal((6, B, D))
    xs = jnp.asarray(xs, of_xs)
    params = cell.init(jax.random.key(0), jnp.zeros((B, D), of_params))
    carry, ys = jaxrnn.run(cell, params, xs, lengths=[6, 6])
    assert carry.dtype == ys.dtype == of_ys
    np.testing.assert_allclose(ys.astype("float32"), in_float64(params, xs), atol=0.03)


def test_the_carry_is_as_it_is_asked_for():
    cell = jaxrnn.cell(
        "shapes",
        lambda key, x: jnp.zeros((D, H), x.dtype),
        lambda p, carry, x: (carry, x),
        carry={
            "h": np.int64(H),
            "m": Features(2, 3, dtype=jnp.float32),
            "z": Features(H, dtype=jnp.complex64),
        },
    )
    params = cell.init(None, jnp.zeros(D, jnp.bfloat16))
    carry = cell.carry(params, jnp.zeros((7, B, D), jnp.bfloat16))
    assert jax.tree.map(lambda a: (a.shape, str(a.dtype)), carry) == {
        "h": ((7, B, H), "bfloat16"),
        "m": ((7, B, 2, 3), "float32"),
        "z": ((7, B, H), "complex64"),
    }


def test_init_sees_the_dtype_of_the_parameters():
    seen = []

    def make(key, x):
        seen.append((x.shape, x.dtype))
        return jnp.zeros(x.shape[-1], x.dtype)

    cell = jaxrnn.cell("mine", make, lambda p, h, x: (h, x), carry=H, dtype=jnp.float16)
    cell.init(None, jnp.ones((B, D)))
    assert seen == [((B, D), jnp.float16)]


@pytest.mark.parametrize("name", CELLS)
def test_the_leaves_of_a_first_carry_are_buffers_of_their_own(name):
    cell = CELLS[name]
    x = jnp.ones((B, 6 if name == "rg_lru" else D))
    carry = cell.carry(cell.init(jax.random.key(0), x), x)

    def donated(carry):
        return jax.tree.map(lambda a: a + 1, carry)

    after = jax.jit(donated, donate_argnums=0)(carry)
    assert all(bool((leaf == 1).all()) for leaf in jax.tree.leaves(after))


LAYERS = {
    **CELLS,
    "zoneout": inside.zoneout(cells.lstm(4), 0.1),
    "recurrent_dropout": inside.recurrent_dropout(cells.gru(4), 0.1),
    "drop_connect": inside.drop_connect(cells.gru(4), 0.1),
    "leaky": inside.leaky(cells.gru(4), 2.0),
    "project": inside.project(cells.lstm(6), 4),
    "learned_carry": inside.learned_carry(cells.lstm(4)),
    "residual": inside.residual(cells.gru(4)),
    "narrow": inside.narrow(cells.gru(4), 3),
    "stack": around.stack(around.layer_norm(), cells.gru(4), around.dropout(0.1), around.dense(3)),
    "bidirectional": around.bidirectional(cells.gru(4), merge="sum"),
    "residual layer": around.residual(cells.gru(4)),
    "causal_conv": around.causal_conv(3, 2),
    "frames": around.stack(around.concat_frames(2), around.downsample(2), cells.gru(3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_strict_promotion_changes_nothing(name):
    """Forwards and backwards, in types alone: nothing is compiled."""
    layer = LAYERS[name]
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        for of_params, of_xs in (("float32", "float32"), ("float32", "bfloat16")):
            x = jax.ShapeDtypeStruct((B, D), of_params)
            xs = jax.ShapeDtypeStruct((5, B, D), of_xs)
            params = jax.eval_shape(layer.init, jax.random.key(0), x)

            def loss(params, xs, key, layer=layer):
                resets = jnp.zeros((5, B), bool)
                _, ys = jaxrnn.run(layer, params, xs, lengths=[5, 3], resets=resets, key=key)
                return jnp.sum(jnp.abs(ys).astype(jnp.float32))

            jax.eval_shape(jax.grad(loss), params, xs, jax.random.key(1))


@pytest.mark.parametrize("method", [methods.associative(), methods.newton(), methods.scan(chunk=2)])
def test_strict_promotion_under_every_method(method):
    cell = CELLS["gru" if method == methods.newton() else "lru"]
    params = cell.init(jax.random.key(0), jnp.zeros((B, D)))
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        jax.eval_shape(
            jax.grad(lambda p, xs: jnp.sum(jaxrnn.run(cell, p, xs, method=method)[1])),
            params,
            jax.ShapeDtypeStruct((5, B, D), jnp.float32),
        )


def test_a_step_with_a_key_and_one_without():
    def drawing(p, h, x, key=None):
        h, y = step(p, h, x)
        return h, y if key is None else y + jax.random.normal(key, y.shape)

    noisy = jaxrnn.cell("noisy", init, drawing, carry=H)
    xs = jnp.ones((3, B, D))
    params = noisy.init(jax.random.key(0), xs[0])
    quiet = jaxrnn.run(noisy, params, xs)[1]
    np.testing.assert_array_equal(quiet, jaxrnn.run(COUNTED, params, xs)[1])
    np.testing.assert_array_equal(quiet, jaxrnn.run(COUNTED, params, xs, key=jax.random.key(1))[1])
    assert (jaxrnn.run(noisy, params, xs, key=jax.random.key(1))[1] != quiet).any()


STEPS = {
    "key": lambda p, h, x, key: (h, x if key is None else x + 1),
    "key=None": lambda p, h, x, key=None: (h, x if key is None else x + 1),
    "rng=None": lambda p, h, x, rng=None: (h, x if rng is None else x + 1),
    "*, key=None": lambda p, h, x, *, key=None: (h, x if key is None else x + 1),
    "*key": lambda p, h, x, *key: (h, x if key == (None,) else x + 1),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_key_is_given_however_it_is_taken(name):
    cell = jaxrnn.cell("mine", lambda key, x: (), STEPS[name], carry=H)
    x = jnp.ones((B, D))
    assert (cell.step((), None, x)[1] == 1).all()
    assert (cell.step((), None, x, jax.random.key(0))[1] == 2).all()


def test_an_option_of_a_step_is_no_key():
    cell = jaxrnn.cell("mine", lambda key, x: (), lambda p, h, x, by=3.0: (h, by * x), carry=H)
    assert (cell.step((), None, jnp.ones((B, D)), jax.random.key(0))[1] == 3).all()


def test_noise_is_promoted_as_the_step_is():
    cell = jaxrnn.cell(
        "mine",
        lambda key, x: jnp.ones(D, x.dtype),
        lambda p, h, x: (h + p * x, h),
        carry=D,
        noise=lambda p, x, key: p * jnp.ones(D, jnp.bfloat16),
    )
    xs = jax.ShapeDtypeStruct((3, B, D), jnp.float32)
    with jax.numpy_dtype_promotion("strict"):
        _, ys = jax.eval_shape(
            lambda xs, key: jaxrnn.run(cell, jnp.ones(D), xs, key=key), xs, jax.random.key(0)
        )
    assert ys.dtype == jnp.float32


def test_parameters_may_hold_numbers_and_keys():
    cell = jaxrnn.cell(
        "mine",
        lambda key, x: {"w": 2.0, "key": key},
        lambda p, h, x: (h * p["w"], x),
        carry=D,
    )
    params = cell.init(jax.random.key(0), jnp.ones((B, D)))
    assert cell.carry(params, jnp.ones((B, D), jnp.bfloat16)).dtype == jnp.float32


def test_features_are_told_by_what_they_say():
    assert Features(2, 3) == Features(2, 3) != Features(3, 2)
    assert hash(Features(2, dtype="float32")) == hash(Features(2, dtype=jnp.float32))
    assert repr(Features(2, 3, dtype=jnp.float32)) == "Features(2, 3, dtype=float32)"


wrong = COUNTED.init(jax.random.key(0), jnp.zeros((B, D + 2)))
MESSAGES = {
    "parameters of another x": (
        lambda: jaxrnn.run(COUNTED, wrong, jnp.ones((3, B, D))),
        r"counted got x with 4 features \(shape \[2, 4\]\), but its params\['W'\] is \[6, 5\] and not"
        r" \[4, 5\]; initialise with an x of this size",
    ),
    "the same, step by step": (
        lambda: COUNTED.step(wrong, jnp.zeros((B, H)), jnp.ones((B, D))),
        r"counted got x with 4 features",
    ),
    "integers": (
        lambda: COUNTED.init(jax.random.key(0), jnp.ones((B, D), int)),
        "counted multiplies x by a weight and needs floating-point x, got int32",
    ),
    "a scalar": (
        lambda: COUNTED.init(jax.random.key(0), jnp.ones(())),
        "is the time axis missing",
    ),
    "one feature of parameters, which would be broadcast": (
        lambda: jaxrnn.run(
            cells.causal_conv(3),
            cells.causal_conv(3).init(jax.random.key(0), jnp.ones((B, 1))),
            jnp.ones((3, B, D)),
        ),
        r"causal_conv\(3\) got x with 4 features .* params.input is \[1, 3\] and not \[4, 3\]",
    ),
    "a step of two": (
        lambda: jaxrnn.cell("mine", init, lambda h, x: (h, x), carry=H),
        r"mine needs a step\(params, carry, x\) or .*, got step\(h, x\)",
    ),
    "no init": (
        lambda: jaxrnn.cell("mine", 0, step, carry=H),
        r"needs a function init\(key, x\), got 0",
    ),
    "an initialiser": (
        lambda: jaxrnn.cell("mine", jax.nn.initializers.normal(), step, carry=H),
        r"mine needs an init\(key, x\), got an initialiser, which takes a shape: wrap it",
    ),
    "an init of one": (
        lambda: jaxrnn.cell("mine", lambda x: x, step, carry=H),
        r"mine needs an init\(key, x\), got init\(x\)",
    ),
    "no step": (
        lambda: jaxrnn.cell("mine", init, None, carry=H),
        "needs a function step.*, got None",
    ),
    "a name that is none": (lambda: jaxrnn.cell(3, init, step, carry=H), "name is what .* got 3"),
    "no such dtype": (
        lambda: jaxrnn.cell("mine", init, step, carry=H, dtype="float99"),
        "float99",
    ),
    "an array for a carry": (
        lambda: jaxrnn.cell("mine", init, step, carry=np.zeros((2, 3))),
        "mine needs a positive number of features, got array",
    ),
    "nothing to decorate": (
        lambda: jaxrnn.factory(5),
        r"factory\(\) decorates a function .*, got 5",
    ),
    "None for a number": (lambda: cells.lstm(None), "positive number of features, got None"),
    "an array for a number": (lambda: cells.gru(np.array([8])), r"got array\(\[8\]\)"),
    "no features": (
        lambda: jaxrnn.cell("mine", init, step, carry=0),
        "mine needs a positive number of features, got 0",
    ),
    "a bool": (
        lambda: jaxrnn.cell("mine", init, step, carry=(H, True)),
        "mine needs a positive number of features, got True",
    ),
    "a float": (
        lambda: jaxrnn.cell("mine", init, step, carry=Features(H, 2.0)),
        "mine needs a positive number of features, got 2.0",
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_message(name):
    call, message = MESSAGES[name]
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_training_under_strict_promotion():
    optax = pytest.importorskip("optax")
    from jaxrnn import train

    layer = around.stack(CELLS["lru"], around.dense(1))
    xs = jnp.ones((5, B, D))

    def loss(params, batch, key):
        return train.mean_squared_error(jaxrnn.run(layer, params, batch)[1], batch[..., :1])

    with jax.numpy_dtype_promotion("strict"):
        params = layer.init(jax.random.key(0), xs[0])
        result = train.fit(loss, params, optax.adam(0.01), [xs] * 3, updates=3, clip=1.0)
    assert result.history.losses[-1] < result.history.losses[0]
