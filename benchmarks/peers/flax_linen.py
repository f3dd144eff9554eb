"""Flax linen: `nn.RNN` around the cell, the faster of the two where there are two."""

from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp

from benchmarks.cases import Case
from benchmarks.entrants import InJax
from benchmarks.peers import gates
from jaxrnn.cells import ElmanParams, GRUParams, LSTMParams

LACKS = {"gru_reset_before": "Flax's GRUCell resets after the product"}


def enter(case: Case, params: Any, xs: jax.Array) -> InJax:
    make, native, ours = gates.found(CELLS, case.cell, "Flax", LACKS)
    cell = make(
        case.features,
        param_dtype=jnp.dtype(case.dtype),
        # Asked for its shape only; the default one does not know bfloat16.
        recurrent_kernel_init=nn.initializers.zeros_init(),
    )
    rnn = nn.RNN(cell, time_major=True, return_carry=True)

    def apply(params: Any, xs: Any) -> Any:
        carry, ys = rnn.apply({"params": params}, xs)
        return (carry[::-1] if case.cell == "lstm" else carry), ys  # theirs is (c, h)

    return InJax(
        version=f"flax {flax.__version__}",
        params={"cell": native(params)},
        inputs=xs,
        apply=apply,
        ours=lambda params: ours(params["cell"]),
    )


def _lstm(p: LSTMParams) -> Any:
    w, r, b = (gates.split(leaf, gates.LSTM) for leaf in p)
    inputs = {f"i{gate}": {"kernel": w[gate]} for gate in w}
    return inputs | {f"h{gate}": {"kernel": r[gate], "bias": b[gate]} for gate in r}


def _our_lstm(p: Any) -> LSTMParams:
    return LSTMParams(
        _gates(p, "i", "kernel", gates.LSTM),
        _gates(p, "h", "kernel", gates.LSTM),
        _gates(p, "h", "bias", gates.LSTM),
    )


def _gru(p: GRUParams) -> Any:
    w, r, b = (gates.split(leaf, gates.GRU) for leaf in (p.input, p.recurrent, p.bias))
    inputs = {f"i{gate}": {"kernel": w[gate], "bias": b[gate]} for gate in w}
    hidden: dict[str, Any] = {f"h{gate}": {"kernel": r[gate]} for gate in r}
    hidden["hn"]["bias"] = p.recurrent_bias
    return inputs | hidden


def _our_gru(p: Any) -> GRUParams:
    return GRUParams(
        _gates(p, "i", "kernel", gates.GRU),
        _gates(p, "h", "kernel", gates.GRU),
        _gates(p, "i", "bias", gates.GRU),
        p["hn"]["bias"],
    )


def _elman(p: ElmanParams) -> Any:
    return {"i": {"kernel": p.input, "bias": p.bias}, "h": {"kernel": p.recurrent}}


def _our_elman(p: Any) -> ElmanParams:
    return ElmanParams(p["i"]["kernel"], p["h"]["kernel"], p["i"]["bias"])


def _gates(p: Any, side: str, leaf: str, order: str) -> jax.Array:
    return gates.joined({gate: p[f"{side}{gate}"][leaf] for gate in order}, order)


CELLS = {
    "lstm": (nn.OptimizedLSTMCell, _lstm, _our_lstm),
    "gru": (nn.GRUCell, _gru, _our_gru),
    "elman": (nn.SimpleCell, _elman, _our_elman),
}
