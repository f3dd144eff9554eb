"""`check_cell` names the law that a broken cell breaks."""

import itertools

import jax
import jax.numpy as jnp
import pytest

import jaxrnn
from jaxrnn import Cell, cells
from jaxrnn.testing import LAWS, LawBroken, check_cell

good = cells.elman(5)


def broken(**fields):
    parts = {"init": good.init, "carry": good.carry, "step": good.step} | fields
    return Cell(name="broken", **parts)


def counting():
    """A step that remembers how often it was called: not a function of its arguments."""
    calls = itertools.count()

    def step(p, h, x):
        return good.step(p, h * (1 + 0.01 * next(calls)), x)

    return step


def mixes_rows(p, h, x):
    h, y = good.step(p, h, x)
    return h - h.mean(0, keepdims=True), y


def always_noisy(p, h, x, key=None):
    key = jax.random.key(0) if key is None else key
    h, y = good.step(p, h, x)
    return h, y + jax.random.normal(key, y.shape)


def draws_again(p, h, x, key=None):
    """Noise that is not a function of the key alone."""
    h, y = good.step(p, h, x)
    if key is not None:
        y = y + next(draws) * jax.random.normal(key, y.shape)
    return h, y


draws = itertools.count(1)


def nan_at_zero(p, h, x):
    """x/|x|: fine for data, NaN where padding has been replaced by zeros."""
    return good.step(p, h, x / jnp.linalg.norm(x, axis=-1, keepdims=True))


def grows_precision(p, h, x):
    h, y = good.step(p, h, x)
    return h.astype(jnp.float64), y


def unseeded_init(key, x):
    del key
    return good.init(jax.random.key(next(draws)), x)


@jax.custom_jvp
def wrong_slope(h):
    return 0.5 * h


wrong_slope.defjvp(lambda p, t: (0.5 * p[0], jnp.flip(t[0], -1)))


def wrongly_linear(p, h, x):
    return wrong_slope(h) + x @ p.input, h


def ranks(p, h, x):
    h, y = good.step(p, h, x)
    return h, y + jnp.ones(5)


def needs_rows(p, h, x):
    assert x.shape[0] > 0
    h, y = good.step(p, h, x)
    return h / x.shape[0] * x.shape[0] + h[:1] * 0, y


def unclosed(p, h, x):
    """Reads the values of its inputs, so it cannot be traced."""
    return good.step(p, h if bool(jnp.all(x == x)) else -h, x)


def position(p, h, x):
    """Depends on where in the batch a row stands."""
    h, y = good.step(p, h, x)
    return h, y + jnp.arange(y.shape[0])[(...,) + (None,) * (y.ndim - 1)]


def overflows_in_bfloat16(p, h, x):
    """1 − 10⁻⁴ is 1 in bfloat16, and what is divided by the difference to 1 is infinite."""
    h, y = good.step(p, h, x)
    return h, y * (1e-4 / (1 - jnp.asarray(0.9999, x.dtype))).astype(y.dtype)


BROKEN = {
    "a number that bfloat16 has not": (
        broken(step=overflows_in_bfloat16),
        "narrow numbers are taken",
    ),
    "a carry of one dtype whatever comes": (
        broken(carry=lambda p, x: jnp.zeros((*x.shape[:-1], 5), jnp.float32)),
        "the carry keeps its type",
    ),
    "a step with a memory of its own": (broken(step=counting()), "streaming is running"),
    "rows that see each other": (broken(step=mixes_rows), "rows are independent"),
    "rows that know their place": (broken(step=position), "rows are independent"),
    "noise without a key": (broken(step=always_noisy), "rows are independent"),
    "noise that is no function of the key": (broken(step=draws_again), "no key, no noise"),
    "NaN where x is 0": (broken(step=nan_at_zero), "padding is inert"),
    "a carry that changes its type": (broken(step=grows_precision), "the carry keeps its type"),
    "init that ignores its key": (
        broken(init=unseeded_init),
        "init is a function of key and shape",
    ),
    "a derivative that is not diagonal": (broken(step=wrongly_linear), "structure found is there"),
    "implicit rank promotion": (broken(step=ranks), "clean in JAX's strict modes"),
    "no empty batch": (broken(step=needs_rows), "nothing and one are sizes too"),
    "a step that cannot be traced": (broken(step=unclosed), None),
    "a carry that is not the init's": (
        broken(carry=lambda p, x: jnp.zeros((*x.shape[:-1], 4), x.dtype)),
        None,
    ),
    "a reset to elsewhere": (
        broken(carry=lambda p, x: jnp.full_like(x, next(draws), shape=(*x.shape[:-1], 5))),
        "a reset is a fresh start",
    ),
}


linear = cells.mlstm(4, heads=2)


def with_form(form):
    """A cell whose form for all steps at once is this; its step is right."""
    parallel = lambda p, c, xs, *, valid, resets, chunk: form(p, c, xs, valid, resets, chunk)  # noqa: E731
    return Cell(
        name="broken", init=linear.init, carry=linear.carry, step=linear.step, parallel=parallel
    )


def right(p, c, xs, valid, resets, chunk):
    return linear.parallel(p, c, xs, valid=valid, resets=resets, chunk=chunk)


@jax.custom_jvp
def unsloped(x):
    return x


unsloped.defjvp(lambda p, t: (p[0], 1.01 * t[0]))


def odd(p, c, xs, valid, resets, chunk):
    """Forgets the carry where chunks leave some steps over."""
    carry, ys = right(p, c, xs, valid, resets, chunk)
    over = chunk is not None and ys.shape[0] % chunk
    return jax.tree.map(lambda a: a * 0.5, carry) if over else carry, ys


FORMS = {
    "ignores valid": lambda p, c, xs, valid, resets, chunk: right(p, c, xs, None, resets, chunk),
    "ignores resets": lambda p, c, xs, valid, resets, chunk: right(p, c, xs, valid, None, chunk),
    "is wrong where chunks leave steps over": odd,
    "has a wrong gradient": lambda p, c, xs, *rest: right(jax.tree.map(unsloped, p), c, xs, *rest),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_wrong_form_for_all_steps_at_once_is_found_by_default(name):
    with pytest.raises(LawBroken) as caught:
        check_cell(with_form(FORMS[name]))
    assert caught.value.law == "every method agrees with lax"


def test_what_is_skipped_and_what_is_checked_is_said(monkeypatch):
    from jaxrnn import testing

    def missing(case):
        raise ImportError("no module of that name")

    law = "export round trip"
    monkeypatch.setitem(testing.LAWS, law, missing)
    lines = []
    kept = check_cell(good, laws=["traced once", law], report=lines.append)
    assert kept == ["traced once"]
    assert kept.skipped == {law: "no module of that name"}
    assert lines[:2] == [
        "elman(5): law 1 of 2, traced once",
        "elman(5): law 2 of 2, export round trip",
    ]


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_cell_is_found(name):
    cell, law = BROKEN[name]
    with pytest.raises(LawBroken) as caught:
        check_cell(cell, laws=None if law is None else [law])
    assert law is None or caught.value.law == law
    assert str(caught.value).startswith(f"broken breaks the law '{caught.value.law}': ")


def test_the_laws_broken_are_many():
    assert len({law for _, law in BROKEN.values() if law}) >= 8


def test_a_batchless_reversal_is_found():
    """A method's law is broken only by a method: here one that forgets `reverse`."""

    def forgets(problem, options):
        return jax.lax.scan(problem.step, problem.carry, problem.xs)

    method = jaxrnn.methods.Method(name="forgets()", run=forgets)
    xs = jnp.arange(12.0).reshape(3, 1, 4)
    params = good.init(jax.random.key(0), xs[0])
    wrong = jaxrnn.run(good, params, xs, reverse=True, method=method)[1]
    right = jaxrnn.run(good, params, xs, reverse=True)[1]
    assert not jnp.allclose(wrong, right)


def test_unknown_laws_are_refused():
    with pytest.raises(ValueError, match=r"unknown laws \['gravity'\]"):
        check_cell(good, laws=["gravity"])


def test_a_good_cell_passes_the_quick_laws():
    quick = [law for law in LAWS if law != "every method agrees with lax"][:2]
    assert check_cell(good, laws=quick) == quick
