"""cuDNN through JAX: `jax.experimental.rnn.lstm`, batch first, all weights in one vector."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import rnn

from benchmarks.cases import Case
from benchmarks.entrants import Absent, InJax
from benchmarks.peers import gates
from jaxrnn.cells import LSTMParams

ORDER = "ifgo"


def enter(case: Case, params: Any, xs: jax.Array) -> InJax:
    if case.cell != "lstm":
        raise Absent("jax.experimental.rnn has an LSTM only")
    if case.dtype != "float32":
        raise Absent("jax.experimental.rnn.lstm takes float32 only")
    if jax.default_backend() != "gpu":
        raise Absent("jax.experimental.rnn needs an NVIDIA GPU")
    return entrant(case, params, xs, rnn.lstm)


def entrant(case: Case, params: LSTMParams, xs: jax.Array, lstm: Callable[..., Any]) -> InJax:
    """With another `lstm` of the same arguments, all else can be tested without a GPU."""
    d, h = xs.shape[-1], case.features
    sizes = {"input_size": d, "hidden_size": h, "num_layers": 1, "bidirectional": False}

    def apply(weights: Any, xs: Any) -> Any:
        zero = jnp.zeros((1, xs.shape[0], h), xs.dtype)
        lengths = jnp.full(xs.shape[:1], xs.shape[1], jnp.int32)
        ys, hidden, cell = lstm(xs, zero, zero, weights, lengths, **sizes, dropout=0.0)
        return (hidden[0], cell[0]), ys

    def ours(weights: Any) -> LSTMParams:
        [w], [r], [b], [c] = (v.values() for v in rnn.unpack_lstm_weights(weights, **sizes))
        leaves = w.T, r.T, b + c
        return LSTMParams(*(gates.reordered(leaf, ORDER, gates.LSTM) for leaf in leaves))

    return InJax(
        version=f"jax {jax.__version__}",
        params=packed(params),
        inputs=jnp.swapaxes(xs, 0, 1),
        apply=apply,
        ours=ours,
        batch_major=True,
    )


def packed(params: LSTMParams) -> jax.Array:
    """W, R, the bias of inputs, and that of the state, which is 0: the sum is what is used."""
    w, r, b = (gates.reordered(leaf, gates.LSTM, ORDER) for leaf in params)
    return jnp.concatenate([w.T.ravel(), r.T.ravel(), b, jnp.zeros_like(b)])
