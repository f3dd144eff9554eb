"""A run from beginning to end: what it computes, when it validates and stops, what it says."""

import io
import logging
import os
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxrnn
from jaxrnn import cells, train
from jaxrnn.train import checks

OPTIMIZER = optax.adam(0.05)
PARAMS = jnp.zeros(3)


def data(n):
    key = jax.random.fold_in(jax.random.key(1), n)
    return jax.random.normal(key, (8, 3))


def loss(params, batch, key):
    target = jnp.array([1.0, -2.0, 0.5])
    noise = 0.1 * jax.random.normal(key, (8,))
    return jnp.mean((batch @ (params - target) + noise) ** 2), {"size": jnp.sum(jnp.abs(params))}


def on_host(count):
    return [np.asarray(data(n)) for n in range(count)]


def fit(*, updates=30, data=data, loss=loss, params=PARAMS, **options):
    return train.fit(loss, params, OPTIMIZER, data, **{"updates": updates, "chunk": 7} | options)


def same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def by_hand(updates, batches=data, **options):
    update = train.step(loss, OPTIMIZER, **options)
    state, rows = train.init(PARAMS, OPTIMIZER), []
    for n in range(updates):
        state, metrics = update(state, batches(n))
        rows.append(metrics)
    return state, {name: np.array([row[name] for row in rows]) for name in rows[0]}


@pytest.fixture(scope="module")
def whole():
    return fit()


def test_it_is_the_updates_one_after_the_other(whole):
    state, rows = by_hand(30)
    np.testing.assert_allclose(whole.state.params, state.params, rtol=1e-5)
    assert set(whole.history.metrics) == {"loss", "gradient_norm", "size"}
    for name, row in rows.items():
        np.testing.assert_allclose(whole.history.metrics[name], row, rtol=1e-4, atol=1e-6)
    assert whole.history.losses.shape == (30,)
    assert whole.stopped == "finished"
    assert int(whole.state.count) == 30
    same(whole.best, whole.state.params)  # as nothing was validated


@pytest.mark.parametrize("chunk", [1, 100])
def test_the_chunks_change_no_bit(whole, chunk):
    other = fit(chunk=chunk)
    same(other.state, whole.state)
    same(other.history, whole.history)


def test_batches_of_the_host_are_those_of_the_device(whole):
    other = fit(data=on_host(30))
    np.testing.assert_allclose(other.state.params, whole.state.params, rtol=1e-5)


def test_what_can_be_iterated_again_begins_anew():
    few = on_host(4)
    other = fit(data=few, updates=11)
    state, _ = by_hand(11, lambda n: few[n % 4])
    np.testing.assert_allclose(other.state.params, state.params, rtol=1e-5)


def test_an_iterator_that_ends_ends_the_training():
    result = fit(data=iter(on_host(10)), updates=30)
    assert result.stopped == "data"
    assert int(result.state.count) == 10
    assert result.history.losses.shape == (10,)
    same(result.state, fit(data=on_host(10), updates=10).state)


def test_arrays_the_data_closes_over_are_no_constants():
    rows = jnp.asarray(np.random.default_rng(0).normal(size=(100, 8, 3)), jnp.float32)
    other = fit(data=lambda n: rows[n % 100], updates=5)
    state, _ = by_hand(5, lambda n: rows[n])
    np.testing.assert_allclose(other.state.params, state.params, rtol=1e-5)


def test_it_compiles_once(caplog):
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        fit(updates=23, every=9)  # in chunks of different sizes
    compiled = [
        r for r in caplog.records if "Finished XLA compilation of jit(advance)" in r.message
    ]
    assert len(compiled) == 1


def test_clipping_and_accumulation_are_those_of_step():
    parts = [np.stack([b[:4], b[4:]]) for b in on_host(6)]

    def other(params, batch, key):
        return jnp.mean((batch @ (params - 1.0)) ** 2)

    result = fit(loss=other, data=parts, updates=6, clip=0.5, accumulate=2)
    update = train.step(other, OPTIMIZER, clip=0.5, accumulate=2)
    state = train.init(PARAMS, OPTIMIZER)
    for part in parts:
        state, _ = update(state, part)
    np.testing.assert_allclose(result.state.params, state.params, rtol=1e-5)


def test_a_recurrent_network_trains_and_its_carry_goes_on():
    cell = cells.gru(4)
    xs = jnp.sin(jnp.arange(400.0)).reshape(20, 20, 1, 1)
    params = (cell.init(jax.random.key(0), xs[0, 0]), jnp.zeros((4, 1)))
    carry = cell.carry(params[0], xs[0, 0])

    def loss(params, batch, key, carry):
        carry, ys = jaxrnn.run(cell, params[0], batch[:-1], carry)
        return train.mean_squared_error(ys @ params[1], batch[1:]), {}, carry

    result = fit(loss=loss, data=lambda n: xs[n % 20], params=params, memory=carry, updates=60)
    assert result.history.losses[-1] < 0.5 * result.history.losses[0]
    assert np.abs(result.state.memory).max() > 0.01


# ---- validation ----------------------------------------------------------------------------------


def scripted(losses):
    """A validation whose losses are these, whatever it is given; and what it was given."""
    seen, rest = [], iter(losses)

    def validate(params):
        seen.append(np.array(params))
        return {"loss": next(rest), "accuracy": 0.5}

    return validate, seen


def test_the_best_params_are_kept():
    validate, seen = scripted([5.0, 2.0, 1.0, 3.0])
    result = fit(validate=validate, every=10)
    assert [v["count"] for v in result.history.validations] == [0, 10, 20, 30]
    assert [v["loss"] for v in result.history.validations] == [5, 2, 1, 3]
    assert result.history.validations[1]["accuracy"] == 0.5
    np.testing.assert_array_equal(result.best, seen[2])
    np.testing.assert_array_equal(result.state.params, seen[3])
    assert result.history.best() == 2
    same(fit(updates=20).state.params, seen[2])  # validation changes nothing


def test_the_last_update_is_validated_too():
    result = fit(validate=lambda p: jnp.sum(p**2), every=20)
    assert [v["count"] for v in result.history.validations] == [0, 20, 30]


def test_it_stops_early_when_patience_ends():
    validate, seen = scripted([5.0, 2.0, 3.0, np.nan, 0.0])
    result = fit(validate=validate, every=5, patience=2)
    assert result.stopped == "patience"
    assert int(result.state.count) == 15
    np.testing.assert_array_equal(result.best, seen[1])


# ---- divergence ----------------------------------------------------------------------------------


def breaking(params, batch, key):
    return (
        jnp.mean((batch["x"] @ params) ** 2)
        + batch["n"] * 0
        + jnp.where(batch["n"] >= 12, jnp.nan, 0.0)
    )


def numbered(n):
    return {"x": data(n), "n": n}


def test_a_run_that_diverges_stops_and_loses_nothing():
    validate, seen = scripted([3.0, 1.0, 2.0])
    with pytest.raises(train.Diverged) as caught:
        fit(loss=breaking, data=numbered, params=PARAMS + 1, limit=5, validate=validate, every=10)
    result = caught.value.result
    assert isinstance(caught.value, FloatingPointError)
    message = str(caught.value)
    assert "5 updates in a row, from number 12 on" in message
    assert f"the last finite loss was {result.history.losses[11]:.6g}, of update 11" in message
    assert "learning rate smaller" in message
    assert int(result.state.count) == 17
    assert result.stopped == "diverged"
    np.testing.assert_array_equal(np.isfinite(result.history.losses), np.arange(17) < 12)
    np.testing.assert_array_equal(result.best, seen[1])
    good = fit(loss=breaking, data=numbered, params=PARAMS + 1, updates=12)
    same(result.state.params, good.state.params)
    same(result.state.moments, good.state.moments)


def test_a_single_bad_batch_is_skipped():
    batches = on_host(20)
    batches[7] = batches[7] * np.nan
    result = fit(data=batches, updates=20)
    assert result.stopped == "finished"
    assert (int(result.state.skipped), int(result.state.failing)) == (1, 0)
    assert np.flatnonzero(~np.isfinite(result.history.losses)).tolist() == [7]
    assert np.isfinite(result.state.params).all()


# ---- progress and interrupts ---------------------------------------------------------------------


def test_reports_are_means_over_chunks():
    said = []
    result = fit(report=lambda count, metrics: said.append((count, metrics)), updates=20, every=10,
                 validate=lambda p: jnp.float32(2.0))  # fmt: skip
    assert [count for count, _ in said] == [7, 10, 14, 20]
    assert said[0][1]["loss"] == pytest.approx(result.history.losses[:7].mean())
    assert said[2][1]["loss"] == pytest.approx(result.history.losses[10:14].mean())
    assert [("validation" in metrics) for _, metrics in said] == [False, True, False, True]


def test_it_is_quiet_where_there_is_no_terminal(capfd):
    fit(updates=5, validate=lambda p: 1.0, every=2)
    assert capfd.readouterr() == ("", "")


def test_a_bar_can_be_asked_for(capfd):
    fit(updates=5, bar=True)
    out, err = capfd.readouterr()
    assert "5/5" in err
    assert "loss" in err
    assert out == ""


def pressing(at, times=1):
    def validate(params):
        if len(calls) == at:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)
        calls.append(1)
        return 1.0 / len(calls)

    calls = []
    return validate


def test_ctrl_c_stops_after_the_chunk_and_keeps_the_best():
    usual = signal.getsignal(signal.SIGINT)
    result = fit(validate=pressing(2), every=5)
    assert result.stopped == "interrupted"
    assert int(result.state.count) == 10
    same(result.state, fit(updates=10).state)
    same(result.best, result.state.params)
    assert signal.getsignal(signal.SIGINT) is usual


def test_what_ends_between_two_validations_is_validated():
    """The last params are the best here, and would be lost."""

    def closer(params):
        return float(-jnp.sum(params))

    ended = fit(data=iter(on_host(10)), updates=30, every=7, validate=closer)
    assert [v["count"] for v in ended.history.validations] == [0, 7, 10]
    losses = [v["loss"] for v in ended.history.validations]
    assert losses == sorted(losses, reverse=True)
    same(ended.best, ended.state.params)


def test_an_interrupted_run_is_validated_and_resumed_as_if_it_had_not_been(tmp_path):
    def validate(params):
        return float(-jnp.sum(params))

    def pressed(count, metrics):
        if count == 5:
            os.kill(os.getpid(), signal.SIGINT)

    saved = train.Checkpoints(tmp_path / "run")
    options = {"every": 10, "chunk": 5, "updates": 20, "validate": validate}
    stopped = fit(report=pressed, checkpoints=saved, **options)
    assert stopped.stopped == "interrupted"
    assert [v["count"] for v in stopped.history.validations] == [0, 5]
    same(stopped.best, stopped.state.params)
    resumed = fit(checkpoints=train.Checkpoints(tmp_path / "run"), resume=True, **options)
    whole = fit(**options)
    assert resumed.history.validations == whole.history.validations
    same(resumed.best, whole.best)
    same(resumed.state, whole.state)


def test_a_history_is_shown_in_a_line(whole):
    assert repr(whole.history) == "History(30 updates of gradient_norm, loss, size)"
    validated = fit(updates=4, every=2, validate=lambda p: 1.5)
    assert repr(validated.history).endswith(", 3 validations, the last 1.5)")


def test_ctrl_c_twice_aborts():
    usual = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(validate=pressing(2, times=2), every=5)
    assert signal.getsignal(signal.SIGINT) is usual


def test_it_runs_in_another_thread():
    results = []
    thread = threading.Thread(target=lambda: results.append(fit(updates=5)))
    thread.start()
    thread.join()
    assert results[0].stopped == "finished"


# ---- what is refused, and that nothing was trained by then -----------------------------------------


def uneven():
    return [np.ones((8, 3), np.float32), np.ones((5, 3), np.float32)]


REFUSED = {
    "no updates": ({"updates": 0}, ValueError, "updates must be an integer of at least 1, got 0"),
    "a chunk of 0": ({"chunk": 0}, ValueError, "chunk must be"),
    "every of -1": ({"every": -1}, ValueError, "every must be"),
    "a limit of 0": ({"limit": 0}, ValueError, "limit must be"),
    "patience without validation": ({"patience": 3}, ValueError, "give validate= as well"),
    "validate that gives an array": (
        {"validate": lambda p: p},
        TypeError,
        r"must return a number, .* got float32\[3\]; take its mean",
    ),
    "validate without a loss": (
        {"validate": lambda p: {"accuracy": 1.0}},
        TypeError,
        r"a dict with a 'loss' .* got one with \['accuracy'\]",
    ),
    "resume from nothing": ({"resume": True}, ValueError, "needs checkpoints= to resume from"),
    "no batch": ({"data": []}, ValueError, "data holds no batch"),
    "data that is no data": ({"data": 3}, TypeError, "data must be a function .* got int"),
    "batches of different sizes": (
        {"data": uneven()},
        ValueError,
        r"number 1 of data is float32\[5, 3\], that of the first is float32\[8, 3\].*drop a last one",
    ),
    "a sharding that is none": ({"sharding": "data"}, TypeError, "NamedSharding .* got str"),
    "a loss of rows": (
        {"loss": lambda p, b, k: b @ p},
        TypeError,
        r"floating-point scalar, got float32\[8\]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_before_training(case):
    options, error, message = REFUSED[case]
    said = []
    with pytest.raises(error, match=message):
        fit(**{"report": lambda *_: said.append(1)} | options)
    assert not said


def test_types_are_checked_where_no_type_checker_is():
    good = {"updates": 3, "every": 1, "patience": None, "chunk": 1, "limit": 1}
    good |= {"validate": None, "checkpoints": None, "resume": False}
    checks.check_fit(**good)
    with pytest.raises(ValueError, match="updates must be an integer of at least 1, got 1000"):
        checks.check_fit(**good | {"updates": 1e3})
    with pytest.raises(TypeError, match="validate must be a function of params, got float"):
        checks.check_fit(**good | {"validate": 3.0})


def test_an_optimizer_that_changes_types_is_refused():
    optimizer = optax.GradientTransformation(
        lambda params: jnp.zeros((), jnp.float16), lambda g, m, p=None: (g, m + jnp.float32(1))
    )
    with pytest.raises(TypeError, match=r"moments, differs at moments: float32, .* float16"):
        train.fit(loss, PARAMS, optimizer, data, updates=3)


def test_the_bar_has_no_control_characters_in_a_file(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    fit(updates=3)
    assert stream.getvalue() == ""
