"""A sweep is many trainings: each row is what training alone gives, in whichever way it is run."""

import os
import signal

import jax
import jax.monitoring
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import optax
import pytest

import jaxrnn
from jaxrnn import cells, inside, train
from jaxrnn.train.sweep import plan, sizes

T, B, D, W, UPDATES = 5, 3, 2, 6, 7
XS = jax.random.normal(jax.random.key(0), (4, T, B, D))  # four batches


def batch(n):
    return XS[n % 4]


def make(learning_rate, seed, rate, scale, time_constant, features):
    """Everything at once: optimizer, noise, initial values, the cell's own constants, its width."""
    cell = inside.leaky(inside.zoneout(cells.elman(W), rate), time_constant)
    cell = inside.narrow(cell, features)
    optimizer = optax.adam(learning_rate)
    key, noise = jax.random.split(jax.random.key(seed))
    params = (cell.init(key, XS[0, 0]), scale * jnp.ones(W) / W)

    def loss(params, xs, key):
        _, ys = jaxrnn.run(cell, params[0], xs, key=key)
        return jnp.mean((ys @ params[1] - xs.sum(-1)) ** 2)

    return train.Trial(
        train.init(params, optimizer, key=noise),
        train.step(loss, optimizer, clip=1.0),
        lambda params: {"loss": loss(params, XS[3], None), "norm": optax.tree.norm(params)},
    )


NAMES = ["learning_rate", "seed", "rate", "scale", "time_constant", "features"]
GRID = [
    dict(zip(NAMES, row, strict=True))
    for row in [
        (0.01, 0, 0.0, 1.0, 1.0, 6),
        (0.1, 0, 0.5, 0.1, 2.0, 3),
        (0.1, 1, 0.5, 0.1, 2.0, 3),
        (0.03, 2, 0.2, 2.0, 4.0, 1),
    ]
]


@pytest.fixture(scope="module")
def alone():
    """Every setting trained by itself, in the plainest way."""
    rows = []
    for setting in GRID:
        state, update, validate = make(**setting)
        losses, numbers = [], []
        for n in range(UPDATES):
            state, metrics = update(state, batch(n))
            losses.append(float(metrics["loss"]))
            if n + 1 in (3, 6, 7):
                numbers.append(jax.tree.map(float, validate(state.params)))
        rows.append((losses, numbers, jax.tree.map(np.asarray, state.params)))
    return rows


def agrees(table, alone):
    for row, params, (losses, numbers, theirs) in zip(
        range(len(GRID)), map(table.params_of, range(len(GRID))), alone, strict=True
    ):
        np.testing.assert_allclose(table.losses[row], losses, rtol=1e-4)
        for name, column in table.validations.items():
            np.testing.assert_allclose(column[row], [n[name] for n in numbers], rtol=1e-4)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), params, theirs
        )


WAYS = [
    {"at_once": 1, "devices": 1},
    {"at_once": 4, "devices": 1},
    {"at_once": 2, "devices": jax.local_devices()[3:5]},
    {"devices": 8},
]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_each_row_is_what_training_alone_gives(way, alone):
    table = train.sweep(make, GRID, batch, updates=UPDATES, every=3, **way)
    agrees(table, alone)
    assert table.counts.tolist() == [3, 6, 7]
    assert table.stopped == "finished"
    assert "qr" not in table.because  # of the orthogonal matrices that `make` begins with
    assert set(table.validations) == {"loss", "norm"}


def test_in_several_calls(alone, monkeypatch):
    monkeypatch.setattr(plan, "CPU", plan.Rules(at_once=(), measured=True, resident=1))
    done = []
    table = train.sweep(
        make, GRID, batch, updates=UPDATES, every=3, devices=2, report=lambda n, m: done.append(n)
    )
    assert table.plan.calls == 2
    agrees(table, alone)
    assert done == [6, 12, 14, 20, 26, 28]


# ---- a problem that compiles in no time ----------------------------------------------------------


def line(learning_rate, seed=0, **rest):
    """Fits a number; a rate beyond 1 overshoots, one of 1e30 overflows."""
    optimizer = optax.sgd(learning_rate)

    def loss(params, target, key):
        return (params - target) ** 2 / 2

    start = 2 + jax.random.uniform(jax.random.key(seed))
    return train.Trial(train.init(start, optimizer), train.step(loss, optimizer))


def compilations(function):
    """The names of the programs that were compiled, and the result."""
    names = []

    def listen(event, seconds, **about):
        if "backend_compile" in event:
            names.append(about.get("fun_name"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        return names, function()
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize(
    ("settings", "way"),
    [(3, {}), (40, {}), (40, {"at_once": 3, "devices": 2}), (9, {"at_once": 1, "devices": 4})],
    ids=str,
)
def test_a_sweep_compiles_once(settings, way):
    traced = []

    def make(learning_rate):
        def loss(params, target, key):
            traced.append(learning_rate)
            return (params - target) ** 2 / 2

        optimizer = optax.sgd(learning_rate)
        return train.Trial(
            train.init(np.float32(3), optimizer), train.step(loss, optimizer), lambda p: abs(p)
        )

    grid = {"learning_rate": np.linspace(0.1, 0.9, settings)}
    data = [np.float32(0)]
    train.sweep(make, {"learning_rate": [0.5]}, data, updates=2)  # what JAX compiles for itself
    traced.clear()
    names, table = compilations(lambda: train.sweep(make, grid, data, updates=7, every=2, **way))
    assert len(names) == 1, names
    assert len(traced) == 1
    decay = (1 - grid["learning_rate"][:, None]) ** np.arange(7)
    np.testing.assert_allclose(table.losses, (3 * decay) ** 2 / 2, rtol=1e-4)


def test_the_last_name_of_a_grid_varies_fastest():
    grid = {"learning_rate": [0.1, 0.2], "seed": range(3)}
    table = train.sweep(line, grid, [0.0], updates=1)
    pairs = [(row["learning_rate"], row["seed"]) for row in table.rows]
    assert pairs == [(r, s) for r in (0.1, 0.2) for s in range(3)]
    assert len({*table.losses[:3, 0]}) == 3
    np.testing.assert_array_equal(table.losses[:3, 0], table.losses[3:, 0])


def test_a_setting_that_diverges_is_counted_and_harms_no_other():
    rates = [0.5, 1e30, 0.25]
    table = train.sweep(line, {"learning_rate": rates}, [0.0], updates=6, at_once=3)
    assert table.skipped.tolist() == [0, 5, 0]
    assert not np.isfinite(table.losses[1, 1:]).any()
    without = train.sweep(line, {"learning_rate": [0.5, 0.25]}, [0.0], updates=6)
    np.testing.assert_allclose(table.losses[[0, 2]], without.losses, rtol=1e-6)
    assert table.order() == [0, 2, 1]
    assert table.best()["learning_rate"] == 0.5


def test_batches_of_an_iterable_come_in_order_and_begin_anew():
    targets = [0.0, 1.0, 5.0]
    table = train.sweep(line, {"learning_rate": [0.5]}, targets, updates=5)
    [state, update, _] = line(0.5)
    alone = []
    for n in range(5):
        state, metrics = update(state, targets[n % 3])
        alone.append(metrics["loss"])
    np.testing.assert_allclose(table.losses[0], alone, rtol=1e-6)
    again = train.sweep(line, {"learning_rate": [0.5]}, iter([*targets, *targets]), updates=5)
    np.testing.assert_array_equal(again.losses, table.losses)


def test_numbers_have_the_types_that_they_have_outside():
    seen = {}

    def make(learning_rate, seed, early):
        seen.update(rate=learning_rate * jnp.ones((), jnp.bfloat16), seed=seed, early=early)
        optimizer = optax.sgd(learning_rate)
        update = train.step(lambda p, b, k: jnp.sum(p * b), optimizer)
        return train.Trial(train.init(jnp.ones(2, jnp.bfloat16), optimizer), update)

    grid = {"learning_rate": [1, 0.5], "seed": [3, 2**31 - 1], "early": [True, False]}
    table = train.sweep(make, grid, [jnp.ones(2, jnp.bfloat16)], updates=2)
    assert seen["rate"].dtype == jnp.bfloat16
    assert jnp.issubdtype(seen["seed"].dtype, jnp.integer)
    assert seen["early"].dtype == bool
    assert table.params.dtype == jnp.bfloat16
    assert table.params.shape == (8, 2)


def test_memory_goes_from_update_to_update():
    def make(learning_rate):
        def loss(params, batch, key, memory):
            return params * memory, {}, memory + batch

        optimizer = optax.sgd(learning_rate)
        state = train.init(jnp.ones(()), optimizer, memory=jnp.ones(()))
        return train.Trial(state, train.step(loss, optimizer))

    table = train.sweep(make, {"learning_rate": [0.0, 0.1]}, [1.0], updates=3)
    np.testing.assert_allclose(table.losses, [[1, 2, 3], [1, 1.8, 2.1]], rtol=1e-6)


def test_ctrl_c_keeps_what_was_trained():
    def report(done, metrics):
        if done == 8:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    table = train.sweep(
        line, {"learning_rate": [0.1, 0.2]}, [0.0], updates=9, every=2, report=report
    )
    assert signal.getsignal(signal.SIGINT) is before
    assert table.stopped == "interrupted"
    assert np.isfinite(table.losses[:, :4]).all()
    assert np.isnan(table.losses[:, 4:]).all()


# ---- the table -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table():
    def make(**setting):
        return line(**setting)._replace(validate=lambda p: (p - 1) ** 2)

    grid = {"learning_rate": [0.01, 0.2, 1e30], "seed": range(3)}
    return train.sweep(make, grid, [0.0], updates=12, every=4)


def test_the_rows(table):
    assert len(table.rows) == 9
    row = table.rows[3]
    assert list(row) == [
        *("learning_rate", "seed", "loss", "validation", "best", "best_at", "skipped", "curve")
    ]
    assert row["loss"] == table.losses[3, -1]
    assert row["curve"].shape == (12,)
    # It goes from beyond 2 to nearly 0, and passes 1: the middle validation is the best one.
    assert row["best_at"] == 4
    assert row["best"] == table.validations["loss"][3].min() < row["validation"]
    assert table.best()["best"] == min(r["best"] for r in table.rows)
    assert [r["skipped"] for r in table.rows] == [0] * 6 + [11] * 3


def test_the_text(table):
    head, *rows, told = str(table).splitlines()
    assert head.split() == [
        *("learning_rate", "seed", "loss", "validation", "best", "best_at", "skipped")
    ]
    assert len(rows) == 9
    assert rows[0].split()[0] == "0.2"
    assert "9 settings" in told
    assert table.how in told
    assert table.because in told


def test_the_plot(table, tmp_path):
    table.plot(tmp_path / "sweep.png")
    picture = matplotlib.image.imread(tmp_path / "sweep.png")
    assert picture.shape[0] > 300
    assert picture.shape[1] > 1200  # curves, learning_rate, seed
    assert len(np.unique(picture.reshape(-1, picture.shape[-1]), axis=0)) > 100


def test_a_plot_of_losses_alone(tmp_path):
    made = train.sweep(line, [{"learning_rate": 1e30}], [0.0], updates=3)
    made.plot(tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").stat().st_size > 5000
    assert "validation" not in str(made)


def test_params_that_were_not_kept():
    made = train.sweep(line, {"learning_rate": [0.1]}, [0.0], updates=1, keep_params=False)
    with pytest.raises(ValueError, match="keep_params=True"):
        made.params_of(0)


# ---- how it is run -------------------------------------------------------------------------------


def update_of(rows, features):
    def step(h, x):
        gates = (h @ jnp.zeros((features, 4 * features))).reshape(rows, 4, features)
        return jnp.tanh(x + gates.sum(1)), None

    xs = jnp.zeros((10, rows, features))
    return jax.make_jaxpr(lambda h: jax.lax.scan(step, h, xs)[0])(jnp.zeros((rows, features))).jaxpr


@pytest.mark.parametrize(
    ("rows", "features", "at_once"),
    [(1, 32, 16), (1, 64, 4), (1, 128, 4), (8, 32, 4), (8, 64, 1), (32, 32, 1)],
)
def test_small_steps_run_together_on_a_cpu(rows, features, at_once):
    made = plan.choose(64, update_of(rows, features), 10, devices=1)
    assert made.at_once == at_once
    assert f"[{rows}, {features}]·[{features}, {4 * features}]" in made.because
    assert made.slots * made.calls >= 64


def test_devices_are_as_many_as_cores(monkeypatch):
    for cores, settings, used in ((2, 64, 2), (16, 64, 8), (4, 3, 3)):
        monkeypatch.setattr(plan, "_cores", lambda cores=cores: cores)
        made = plan.choose(settings, update_of(8, 64), 10)
        assert len(made.devices) == used
        assert ("jax_num_cpu_devices" in made.because) == (cores == 16)


class Accelerator:
    platform = "gpu"

    def memory_stats(self):
        return {"bytes_limit": 2**30, "bytes_in_use": 0}


def test_an_accelerator_runs_as_many_as_fit():
    small, large = update_of(1, 64), update_of(1024, 512)
    assert plan.choose(64, small, 10, devices=[Accelerator()]).at_once == 64
    few = plan.choose(64, large, 10, devices=[Accelerator()])
    each = sizes.peak_bytes(large) + 10
    assert 1 < few.at_once <= 2**29 // each
    assert few.rounds * few.calls * few.at_once >= 64
    assert "unmeasured" in few.because
    assert f"about {each / 2**20:.3g} MiB" in few.because


def test_what_may_wait_for_ever_is_not_batched_on_a_cpu():
    qr = jax.make_jaxpr(lambda a: jax.lax.map(lambda b: jnp.linalg.qr(b)[0], a))(
        jnp.ones((2, 3, 3))
    )
    made = plan.choose(8, qr.jaxpr, 10, devices=1)
    assert made.at_once == 1
    assert "qr" in made.because
    assert plan.choose(8, qr.jaxpr, 10, devices=[Accelerator()]).at_once == 8


def test_rounds_are_as_even_as_can_be():
    made = plan.choose(10, update_of(8, 64), 10, at_once=4, devices=1)
    assert (made.at_once, made.rounds, made.calls) == (4, 3, 1)
    made = plan.choose(9, update_of(8, 64), 10, at_once=8, devices=1)
    assert (made.at_once, made.rounds) == (5, 2)
    assert made.how == "5 at once (vmap)"


def test_the_peak_of_memory():
    def chain(x):
        for _ in range(5):
            x = jnp.sin(x)
        return x

    x = jnp.zeros(100)
    assert sizes.peak_bytes(jax.make_jaxpr(chain)(x).jaxpr) == 800  # one is read, one is written
    kept = jax.make_jaxpr(lambda x: jax.lax.scan(lambda c, _: (c, jnp.sin(c)), x, length=50))(x)
    assert 50 * 400 <= sizes.peak_bytes(kept.jaxpr) < 53 * 400


# ---- refusals ------------------------------------------------------------------------------------


def same(**changes):
    def make(learning_rate):
        return line(learning_rate)._replace(**changes)

    return make


def returning(value):
    return same(update=lambda state, batch: value(state))


RATES = {"learning_rate": [0.1]}


@pytest.mark.parametrize(
    ("make", "grid", "data", "options", "says"),
    [
        (line, {}, [0.0], {}, "grid holds no setting"),
        (line, [], [0.0], {}, "grid holds no setting"),
        (line, 0.1, [0.0], {}, "grid must be a dict of names and values"),
        (line, {"learning_rate": 0.1}, [0.0], {}, "must be a list of values, got 0.1; wrap it"),
        (line, {"learning_rate": []}, [0.0], {}, "grid['learning_rate'] is empty"),
        (line, {"learning_rate": ["high"]}, [0.0], {}, "must be one number"),
        (line, {"learning_rate": [[1, 2]]}, [0.0], {}, "must be one number"),
        (line, {"learning_rate": [0.1], "seed": [2**40]}, [0.0], {}, "too large for int32"),
        (line, [{"learning_rate": 0.1}, {"seed": 1}], [0.0], {}, "setting 1 of grid has ['seed']"),
        (line, {**RATES, "loss": [1]}, [0.0], {}, "grid may not have the names ['loss']"),
        (same(), {"rate": [0.1]}, [0.0], {}, "make(learning_rate) cannot be called with"),
        (lambda learning_rate: 3, RATES, [0.0], {}, "must return a train.Trial"),
        (same(state=3), RATES, [0.0], {}, "must be a train.State"),
        (same(update=3), RATES, [0.0], {}, "the update of a Trial must be a function, got 3"),
        (same(validate=3), RATES, [0.0], {}, "the validate of a Trial must be a function"),
        (same(validate=lambda p: {"x": p}), RATES, [0.0], {}, "a dict with a 'loss'"),
        (same(validate=lambda p: jnp.ones(2)), RATES, [0.0], {}, "must return scalars"),
        (returning(lambda s: s), RATES, [0.0], {}, "(state, metrics) with a metric 'loss'"),
        (
            returning(lambda s: (s._replace(params=jnp.ones(2)), {"loss": 0.0})),
            *(RATES, [0.0], {}, "differs at state.params: shape [2]"),
        ),
        (line, RATES, [], {}, "data holds no batch"),
        (line, RATES, 3, {}, "data must be a function of the update number, or an iterable"),
        (line, RATES, iter([0.0]), {}, "ended after 1 of 5 batches"),
        (line, RATES, [0.0, [1.0]], {}, "batch 1 of data"),
        (line, RATES, [0.0], {"updates": 0}, "updates must be an integer of at least 1"),
        (line, RATES, [0.0], {"every": 0}, "every must be"),
        (line, RATES, [0.0], {"at_once": -1}, "at_once must be"),
        (line, RATES, [0.0], {"devices": 9}, "devices=9, but there are 8 here"),
        (line, RATES, [0.0], {"devices": ["cpu"]}, "some of jax.local_devices()"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_what_cannot_be_swept_is_said(make, grid, data, options, says):
    with pytest.raises((TypeError, ValueError)) as raised:
        train.sweep(make, grid, data, **{"updates": 5, **options})
    assert says in str(raised.value)


def test_a_make_that_cannot_be_traced_is_explained():
    def make(learning_rate):
        return line(learning_rate if learning_rate < 1 else 1)

    with pytest.raises(jax.errors.TracerBoolConversionError) as raised:
        train.sweep(make, RATES, [0.0], updates=1)
    [note] = (n for n in raised.value.__notes__ if "make(learning_rate) is traced" in n)
    assert "jaxrnn.inside.narrow(cell, features)" in note
