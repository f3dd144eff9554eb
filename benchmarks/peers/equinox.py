"""Equinox: its cell in `jax.lax.scan` as in its documentation, `jax.vmap` over the batch."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from benchmarks.cases import Case
from benchmarks.entrants import InJax
from benchmarks.peers import gates
from jaxrnn.cells import GRUParams, LSTMParams

LACKS = {
    "elman": "Equinox has cells of LSTM and GRU only",
    "gru_reset_before": "Equinox's GRUCell resets after the product",
}
ORDER = "ifgo"


def enter(case: Case, params: Any, xs: jax.Array) -> InJax:
    make, leaves, native, ours = gates.found(CELLS, case.cell, "Equinox", LACKS)
    dtype = jnp.dtype(case.dtype)
    made = make(xs.shape[-1], case.features, dtype=dtype, key=jax.random.key(0))

    def run(cell: Any, xs: Any) -> Any:
        """Of one sequence [T, D]."""
        zero = jnp.zeros(cell.hidden_size, xs.dtype)
        if case.cell == "lstm":

            def step(carry: Any, x: Any) -> Any:
                h, c = cell(x, carry)
                return (h, c), h

            return jax.lax.scan(step, (zero, zero), xs)

        def step(carry: Any, x: Any) -> Any:
            h = cell(x, carry)
            return h, h

        return jax.lax.scan(step, zero, xs)

    return InJax(
        version=f"equinox {eqx.__version__}",
        params=eqx.tree_at(leaves, made, native(params)),
        inputs=xs,
        apply=jax.vmap(run, in_axes=(None, 1), out_axes=(0, 1)),
        ours=lambda cell: ours(leaves(cell)),
    )


def _lstm(p: LSTMParams) -> Any:
    w, r, b = (gates.reordered(leaf, gates.LSTM, ORDER) for leaf in p)
    return w.T, r.T, b


def _our_lstm(p: Any) -> LSTMParams:
    w, r, b = p
    return LSTMParams(*(gates.reordered(leaf, ORDER, gates.LSTM) for leaf in (w.T, r.T, b)))


def _gru(p: GRUParams) -> Any:
    return p.input.T, p.recurrent.T, p.bias, p.recurrent_bias


def _our_gru(p: Any) -> GRUParams:
    w, r, b, n = p
    return GRUParams(w.T, r.T, b, n)


CELLS = {
    "lstm": (eqx.nn.LSTMCell, lambda c: (c.weight_ih, c.weight_hh, c.bias), _lstm, _our_lstm),
    "gru": (
        eqx.nn.GRUCell,
        lambda c: (c.weight_ih, c.weight_hh, c.bias, c.bias_n),
        _gru,
        _our_gru,
    ),
}
