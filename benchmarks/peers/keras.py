"""Keras 3 on JAX: the layer through `stateless_call`, batch first."""

import os
from functools import partial
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"  # read once, at the import

import jax
import jax.numpy as jnp
import keras
from keras import layers

from benchmarks.cases import Case
from benchmarks.entrants import Absent, InJax
from benchmarks.peers import gates
from jaxrnn.cells import ElmanParams, GRUParams, GRUResetBeforeParams, LSTMParams

LSTM, GRU = "ifgo", "zrn"


def enter(case: Case, params: Any, xs: jax.Array) -> InJax:
    if keras.config.backend() != "jax":
        raise Absent(f"Keras was imported before, on {keras.config.backend()} and not on JAX")
    make, native, ours = gates.found(LAYERS, case.cell, "Keras", {})
    layer = make(
        case.features,
        return_sequences=True,
        return_state=True,
        dtype=case.dtype,
        recurrent_initializer="zeros",  # of no use here; the default one does not know bfloat16
    )
    inputs = jnp.swapaxes(xs, 0, 1)
    layer.build(inputs.shape)
    state = [variable.value for variable in layer.non_trainable_variables]

    def apply(params: Any, xs: Any) -> Any:
        (ys, *carry), _ = layer.stateless_call(params, state, xs)
        return carry, ys

    return InJax(
        version=f"keras {keras.__version__}",
        params=native(params),
        inputs=inputs,
        apply=apply,
        ours=ours,
        batch_major=True,
    )


def _lstm(p: LSTMParams) -> Any:
    return [gates.reordered(leaf, gates.LSTM, LSTM) for leaf in p]


def _our_lstm(p: Any) -> LSTMParams:
    return LSTMParams(*(gates.reordered(leaf, LSTM, gates.LSTM) for leaf in p))


def _gru(p: GRUParams) -> Any:
    """Two biases, of inputs and of the state; jaxrnn has their sum but in n."""
    hidden = jnp.pad(p.recurrent_bias, (2 * p.recurrent_bias.size, 0))
    leaves = p.input, p.recurrent, jnp.stack([p.bias, hidden])
    return [gates.reordered(leaf, gates.GRU, GRU) for leaf in leaves]


def _our_gru(p: Any) -> GRUParams:
    w, r, both = (gates.reordered(leaf, GRU, gates.GRU) for leaf in p)
    return gates.one_bias(w, r, *both)


def _gru_before(p: GRUResetBeforeParams) -> Any:
    return [gates.reordered(leaf, gates.GRU, GRU) for leaf in p]


def _our_gru_before(p: Any) -> GRUResetBeforeParams:
    return GRUResetBeforeParams(*(gates.reordered(leaf, GRU, gates.GRU) for leaf in p))


LAYERS = {
    "lstm": (layers.LSTM, _lstm, _our_lstm),
    "gru": (partial(layers.GRU, reset_after=True), _gru, _our_gru),
    "gru_reset_before": (partial(layers.GRU, reset_after=False), _gru_before, _our_gru_before),
    "elman": (layers.SimpleRNN, list, lambda p: ElmanParams(*p)),
}
