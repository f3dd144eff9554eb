"""Haiku: `hk.dynamic_unroll` of the core."""

from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp

from benchmarks.cases import Case
from benchmarks.entrants import InJax
from benchmarks.peers import gates
from jaxrnn.cells import GRUResetBeforeParams, LSTMParams

LACKS = {
    "gru": "Haiku's GRU resets before the product",
    "elman": "Haiku's VanillaRNN is one of ReLU, not of tanh",
}
LSTM, GRU = "igfo", "zrn"


def enter(case: Case, params: Any, xs: jax.Array) -> InJax:
    core, native, ours = gates.found(CORES, case.cell, "Haiku", LACKS)

    @hk.without_apply_rng
    @hk.transform
    def network(xs: Any) -> Any:
        cell = core(case.features)
        first = jax.tree.map(lambda a: a.astype(xs.dtype), cell.initial_state(xs.shape[1]))
        ys, state = hk.dynamic_unroll(cell, xs, first)
        return state, ys

    return InJax(
        version=f"dm-haiku {hk.__version__}",
        params=native(params),
        inputs=xs,
        apply=network.apply,
        ours=ours,
    )


def _lstm(p: LSTMParams) -> Any:
    w = gates.reordered(jnp.concatenate([p.input, p.recurrent]), gates.LSTM, LSTM)
    b = gates.split(p.bias, gates.LSTM)
    b["f"] = b["f"] - 1  # the core adds it
    return {"lstm/linear": {"w": w, "b": gates.joined(b, LSTM)}}


def _our_lstm(p: Any) -> LSTMParams:
    linear = p["lstm/linear"]
    w = gates.reordered(linear["w"], LSTM, gates.LSTM)
    b = gates.split(linear["b"], LSTM)
    b["f"] = b["f"] + 1
    inputs = w.shape[0] - w.shape[1] // 4
    return LSTMParams(w[:inputs], w[inputs:], gates.joined(b, gates.LSTM))


def _gru(p: GRUResetBeforeParams) -> Any:
    leaves = (_turned(leaf, gates.GRU, GRU) for leaf in p)
    return {"gru": dict(zip(("w_i", "w_h", "b"), leaves, strict=True))}


def _our_gru(p: Any) -> GRUResetBeforeParams:
    leaves = (p["gru"][name] for name in ("w_i", "w_h", "b"))
    return GRUResetBeforeParams(*(_turned(leaf, GRU, gates.GRU) for leaf in leaves))


def _turned(array: jax.Array, old: str, new: str) -> jax.Array:
    """The core's z is 1 − z: the sigmoid of what is negated."""
    blocks = gates.split(array, old)
    blocks["z"] = -blocks["z"]
    return gates.joined(blocks, new)


CORES = {"lstm": (hk.LSTM, _lstm, _our_lstm), "gru_reset_before": (hk.GRU, _gru, _our_gru)}
