"""Flax nnx: `nnx.RNN` around the cell, the faster of the two where there are two."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.cases import Case
from benchmarks.entrants import Absent, InJax
from benchmarks.peers import gates
from jaxrnn.cells import ElmanParams, GRUParams, LSTMParams

LACKS = {"gru_reset_before": "Flax's GRUCell resets after the product"}
ORDER = "ifgo"


def enter(case: Case, params: Any, xs: jax.Array) -> InJax:
    make, native, ours = gates.found(CELLS, case.cell, "Flax", LACKS)
    dtype = jnp.dtype(case.dtype)
    cell = make(
        xs.shape[-1],
        case.features,
        dtype=dtype,
        param_dtype=dtype,
        # For a moment only; the default one does not know bfloat16.
        recurrent_kernel_init=nnx.initializers.zeros_init(),
        rngs=nnx.Rngs(0),
    )
    rnn = nnx.RNN(cell, time_major=True, return_carry=True)
    graph, state, rest = nnx.split(rnn, nnx.Param, ...)
    nnx.replace_by_pure_dict(state, {"cell": native(params)})

    def apply(state: Any, xs: Any) -> Any:
        carry, ys = nnx.merge(graph, state, rest, copy=True)(xs)
        return (carry[::-1] if case.cell == "lstm" else carry), ys  # theirs is (c, h)

    return InJax(
        version=f"flax {flax.__version__}",
        params=state,
        inputs=xs,
        apply=apply,
        ours=lambda state: ours(nnx.to_pure_dict(state)["cell"]),
    )


def _lstm(p: LSTMParams) -> Any:
    w, r, b = (gates.reordered(leaf, gates.LSTM, ORDER) for leaf in p)
    return {"dense_i": {"kernel": w}, "dense_h": {"kernel": r, "bias": b}}


def _our_lstm(p: Any) -> LSTMParams:
    i, h = p["dense_i"], p["dense_h"]
    leaves = i["kernel"], h["kernel"], h["bias"]
    return LSTMParams(*(gates.reordered(leaf, ORDER, gates.LSTM) for leaf in leaves))


def _gru(p: GRUParams) -> Any:
    if jnp.any(p.recurrent_bias):
        raise Absent("nnx.GRUCell has no bias inside the reset, and these parameters have one")
    return {"dense_i": {"kernel": p.input, "bias": p.bias}, "dense_h": {"kernel": p.recurrent}}


def _our_gru(p: Any) -> GRUParams:
    w, b = p["dense_i"]["kernel"], p["dense_i"]["bias"]
    return GRUParams(w, p["dense_h"]["kernel"], b, jnp.zeros(b.shape[0] // 3, b.dtype))


def _elman(p: ElmanParams) -> Any:
    return {"dense_i": {"kernel": p.input, "bias": p.bias}, "dense_h": {"kernel": p.recurrent}}


def _our_elman(p: Any) -> ElmanParams:
    return ElmanParams(p["dense_i"]["kernel"], p["dense_h"]["kernel"], p["dense_i"]["bias"])


CELLS = {
    "lstm": (nnx.OptimizedLSTMCell, _lstm, _our_lstm),
    "gru": (nnx.GRUCell, _gru, _our_gru),
    "elman": (nnx.SimpleCell, _elman, _our_elman),
}
