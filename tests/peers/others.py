"""Cells of other libraries, unmodified, each as a step `params, carry, x -> carry, y`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import haiku as hk
import jax
from flax import linen, nnx

from tests.peers.agreement import Draws
from tests.peers.case import B, Case, D, H, T


def of_linen(make: type) -> Callable[[Draws], Case]:
    def case(draw: Draws) -> Case:
        cell = make(H, dtype=draw.dtype, param_dtype=draw.dtype)
        key, x = jax.random.key(0), draw(B, D)
        carry = cell.initialize_carry(key, x.shape)
        params = jax.eval_shape(cell.init, key, carry, x)
        return Case(cell.apply, draw.like(params), draw.like(carry), draw(T, B, D))

    return case


def of_nnx(make: type) -> Callable[[Draws], Case]:
    def case(draw: Draws) -> Case:
        def module() -> Any:
            return make(D, H, dtype=draw.dtype, param_dtype=draw.dtype, rngs=nnx.Rngs(0))

        cell = nnx.eval_shape(module)
        graph, params = nnx.split(cell, nnx.Param)
        carry = cell.initialize_carry((B, D), nnx.Rngs(0))

        def step(params: Any, carry: Any, x: Any) -> Any:
            return nnx.merge(graph, params)(carry, x)

        return Case(step, draw.like(params), draw.like(carry), draw(T, B, D))

    return case


def of_equinox(make: type, *batch: int) -> Callable[[Draws], Case]:
    """Equinox cells know no batch: a batched step maps them over it."""

    def case(draw: Draws) -> Case:
        cell = eqx.filter_eval_shape(make, D, H, dtype=draw.dtype, key=jax.random.key(0))
        is_lstm = make is eqx.nn.LSTMCell

        def step(cell: Any, carry: Any, x: Any) -> Any:
            carry = (jax.vmap(cell) if batch else cell)(x, carry)
            return carry, (carry[0] if is_lstm else carry)

        h = draw(*batch, H)
        carry = (h, draw(*batch, H)) if is_lstm else h
        return Case(step, draw.like(cell), carry, draw(T, *batch, D))

    return case


def of_haiku(make: type) -> Callable[[Draws], Case]:
    def case(draw: Draws) -> Case:
        core = hk.without_apply_rng(hk.transform(lambda carry, x: make(H)(x, carry)))
        start = hk.without_apply_rng(hk.transform(lambda: make(H).initial_state(B)))
        x, carry = draw(B, D), draw.like(jax.eval_shape(start.apply, {}))
        carry = jax.tree.map(lambda leaf: leaf.astype(draw.dtype), carry)
        params = jax.eval_shape(core.init, jax.random.key(0), carry, x)

        def step(params: Any, carry: Any, x: Any) -> Any:
            y, carry = core.apply(params, carry, x)
            return carry, y

        return Case(step, draw.like(params), carry, draw(T, B, D))

    return case


class Other(NamedTuple):
    case: Callable[[Draws], Case]
    products: int  # a step's products, as its library has written it
    recurrent: int  # those of them with the carry


OTHERS = {
    "linen.LSTMCell": Other(of_linen(linen.LSTMCell), 8, 4),
    "linen.OptimizedLSTMCell": Other(of_linen(linen.OptimizedLSTMCell), 2, 1),
    "linen.GRUCell": Other(of_linen(linen.GRUCell), 6, 3),
    "nnx.LSTMCell": Other(of_nnx(nnx.LSTMCell), 8, 4),
    "nnx.OptimizedLSTMCell": Other(of_nnx(nnx.OptimizedLSTMCell), 2, 1),
    "nnx.GRUCell": Other(of_nnx(nnx.GRUCell), 2, 1),
    "eqx.LSTMCell": Other(of_equinox(eqx.nn.LSTMCell), 2, 1),
    "eqx.LSTMCell, mapped": Other(of_equinox(eqx.nn.LSTMCell, B), 2, 1),
    "eqx.GRUCell": Other(of_equinox(eqx.nn.GRUCell), 2, 1),
    "eqx.GRUCell, mapped": Other(of_equinox(eqx.nn.GRUCell, B), 2, 1),
    "hk.LSTM": Other(of_haiku(hk.LSTM), 1, 1),  # one product, with [x, h]
    "hk.GRU": Other(of_haiku(hk.GRU), 3, 2),
    "hk.VanillaRNN": Other(of_haiku(hk.VanillaRNN), 2, 1),
}
