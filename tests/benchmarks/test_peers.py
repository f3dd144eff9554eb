"""The peers have the weights they are given, compute what jaxrnn does, and say what they lack."""

import subprocess
import sys
import time
from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import gate, peers
from benchmarks.cases import Case
from benchmarks.entrants import Absent
from benchmarks.programs import PASSES
from jaxrnn.cells import GRUParams

CELLS = ("lstm", "gru", "elman", "gru_reset_before")
HAS = {
    "flax.linen": ("lstm", "gru", "elman"),
    "flax.nnx": ("lstm", "gru", "elman"),
    "haiku": ("lstm", "gru_reset_before"),
    "equinox": ("lstm", "gru"),
    "keras": CELLS,
    "torch": ("lstm", "gru", "elman"),
    "jax.experimental.rnn": ("lstm",),
}
PAIRS = [(name, cell) for name, cells in HAS.items() for cell in cells]


def tiny(cell, dtype="float32"):
    return Case(cell, batch=2, length=5, features=4, inputs=3, dtype=dtype)


def arrays(case, name):
    """With biases that are not 0, or who mixes them up would not be seen."""
    params, xs = case.arrays()
    rng = np.random.default_rng(1)

    def drawn(leaf):
        return jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype) if leaf.ndim == 1 else leaf

    params = jax.tree.map(drawn, params)
    if name == "flax.nnx" and isinstance(params, GRUParams):
        params = params._replace(recurrent_bias=jnp.zeros_like(params.recurrent_bias))
    return params, xs


def entered(name, case, params, xs):
    if name == "torch":
        pytest.importorskip("torch")
    if name != "jax.experimental.rnn":
        return peers.enter(name, case, params, xs)
    from benchmarks.peers import cudnn

    return cudnn.entrant(case, params, xs, reference_lstm)


def reference_lstm(
    x, h, c, weights, lengths, input_size, hidden_size, num_layers, dropout, bidirectional
):
    """The arguments of `jax.experimental.rnn.lstm`, computed without a GPU."""
    from jax.experimental import rnn

    sizes = input_size, hidden_size, num_layers
    leaves = rnn.unpack_lstm_weights(weights, *sizes, bidirectional)
    return rnn.lstm_ref(x, h, c, *leaves, lengths, *sizes, dropout, bidirectional)


@cache
def oracle(case, name):
    return gate.Oracle(case, *arrays(case, name))


def error_of(entrant, name, reference):
    return gate.error_of(entrant, name, entrant.compiled(name).call, reference)


@pytest.mark.parametrize(("name", "cell"), PAIRS)
def test_a_peer_computes_what_jaxrnn_does(name, cell):
    case = tiny(cell)
    entrant = entered(name, case, *arrays(case, name))
    reference = oracle(case, name)
    assert {p: error_of(entrant, p, reference) < 1e-4 for p in PASSES} == dict.fromkeys(
        PASSES, True
    )


@pytest.mark.parametrize(("name", "cell"), PAIRS)
def test_a_peer_has_the_weights_it_is_given(name, cell):
    case = tiny(cell)
    params, xs = arrays(case, name)
    ours = entered(name, case, params, xs).ours
    native = entered(name, case, params, xs).params
    back = ours(native)
    assert type(back) is type(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), back, params)


@pytest.mark.parametrize("name", [n for n in HAS if n != "jax.experimental.rnn"])
def test_a_peer_computes_in_the_dtype_of_the_case(name):
    case = tiny("lstm", "bfloat16")
    entrant = entered(name, case, *arrays(case, name))
    call = entrant.compiled("forward").call
    if name == "torch":
        dtypes = {
            str(leaf.tensor.dtype) for leaf in jax.tree.leaves(call(*entrant.args("forward")))
        }
        assert dtypes == {"torch.bfloat16"}
    else:
        leaves = jax.tree.leaves((entrant.params, call(*entrant.args("forward"))))
        assert {leaf.dtype.name for leaf in leaves} == {"bfloat16"}
    found = error_of(entrant, "forward", oracle(case, name))
    assert gate.complaint(found, case.dtype) is None


def test_a_peer_with_gates_in_the_wrong_order_is_complained_of():
    case = tiny("lstm")
    params, xs = arrays(case, "flax.nnx")
    right = entered("flax.nnx", case, params, xs)
    wrong = replace(right, params=jax.tree.map(lambda a: jnp.roll(a, 4, axis=-1), right.params))
    for name in PASSES:
        found = error_of(wrong, name, oracle(case, "flax.nnx"))
        assert "1e-04 is allowed" in gate.complaint(found, case.dtype)


def test_a_peer_whose_gradient_is_wrong_is_complained_of():
    case = tiny("gru")
    right = entered("equinox", case, *arrays(case, "equinox"))

    @jax.custom_vjp
    def halved(xs):
        return xs

    halved.defvjp(lambda xs: (xs, None), lambda _, g: (0.5 * g,))
    wrong = replace(right, apply=lambda params, xs: right.apply(params, halved(xs)))
    reference = oracle(case, "equinox")
    assert gate.complaint(error_of(wrong, "forward", reference), case.dtype) is None
    assert gate.complaint(error_of(wrong, "gradient", reference), case.dtype) is not None


REFUSALS = [
    ("flax.linen", "gru_reset_before", "Flax's GRUCell resets after the product"),
    ("flax.nnx", "gru_reset_before", "Flax's GRUCell resets after the product"),
    ("haiku", "gru", "Haiku's GRU resets before the product"),
    ("haiku", "elman", "Haiku's VanillaRNN is one of ReLU, not of tanh"),
    ("equinox", "elman", "Equinox has cells of LSTM and GRU only"),
    ("equinox", "gru_reset_before", "Equinox's GRUCell resets after the product"),
    ("torch", "gru_reset_before", "PyTorch's GRU resets after the product"),
    ("jax.experimental.rnn", "gru", "jax.experimental.rnn has an LSTM only"),
    ("jax.experimental.rnn", "lstm", "jax.experimental.rnn needs an NVIDIA GPU"),
    ("keras", "mgu", "Keras has no cell that computes mgu"),
]


@pytest.mark.parametrize(("name", "cell", "why"), REFUSALS)
def test_a_refusal_is_named(name, cell, why):
    if name == "torch":
        pytest.importorskip("torch")
    case = tiny(cell)
    with pytest.raises(Absent) as refused:
        peers.enter(name, case, *case.arrays())
    assert str(refused.value) == why


def test_a_bias_that_a_peer_has_no_place_for_is_a_refusal():
    case = tiny("gru")
    with pytest.raises(Absent, match="no bias inside the reset"):
        peers.enter("flax.nnx", case, *arrays(case, "torch"))


def test_a_peer_that_is_not_installed_is_absent(monkeypatch):
    monkeypatch.delitem(sys.modules, "benchmarks.peers.haiku", raising=False)
    monkeypatch.setitem(sys.modules, "haiku", None)
    case = tiny("lstm")
    with pytest.raises(Absent) as absent:
        peers.enter("haiku", case, *case.arrays())
    assert str(absent.value) == "dm-haiku is not installed"


def test_a_peer_that_does_not_import_says_why(monkeypatch):
    def broken(case, params, xs):
        raise ImportError("cannot import name 'x' from 'jax'")

    monkeypatch.setitem(peers.PEERS, "haiku", broken)
    case = tiny("lstm")
    with pytest.raises(Absent, match="dm-haiku cannot be imported: cannot import name 'x'"):
        peers.enter("haiku", case, *case.arrays())


def test_peers_are_imported_when_they_are_asked_for():
    code = """
import sys
import benchmarks.peers
print(*{"flax", "haiku", "equinox", "keras", "torch", "jax.experimental.rnn"} & {*sys.modules})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_updates_of_torch_start_from_the_same_weights():
    pytest.importorskip("torch")
    case = tiny("lstm")
    entrant = entered("torch", case, *arrays(case, "torch"))
    call = entrant.compiled("update").call
    args = entrant.args("update")
    for _ in range(3):
        call(*args)
    assert error_of(entrant, "update", oracle(case, "torch")) < 1e-4


def test_threads_of_torch_do_not_spin_into_what_is_timed_next():
    pytest.importorskip("torch")
    case = Case("lstm", batch=8, length=64, features=128)
    entrant = peers.enter("torch", case, *case.arrays())
    watch = entrant.compiled("forward").stopwatch(*entrant.args("forward"))
    spun = []
    for _ in range(5):
        watch(1)
        start = time.process_time()
        time.sleep(0.02)
        spun.append(time.process_time() - start)
    assert min(spun) < 0.002  # threads that spin do so every time; other things happen now and then
