"""Noise on recurrent connections, in whatever way a cell writes them: its step is read to find them."""

from typing import Any

import jax

from jaxrnn.core import Cell, draw
from jaxrnn.engine.products import recurrent_operands, recurrent_weights, with_operands
from jaxrnn.inside import parts
from jaxrnn.origin import factory


@factory
def recurrent_dropout(cell: Cell, rate: Any, per: str = "sequence") -> Cell:
    """Drops units of the carry where they are multiplied by a recurrent weight, and nowhere else.

        h · R   becomes   (m ∘ h) · R        m ~ Bernoulli(1 − rate) / (1 − rate), [*batch, H]

    The step is read to find these products, so the paths by which a cell remembers (z ∘ h of a GRU, c
    of an LSTM) are untouched. Products with the same value share their mask. Without a key nothing is
    dropped.

    Args:
      cell: the cell inside; its carry must be multiplied by a weight matrix.
      rate: of dropping a unit, 0 <= rate < 1. May be traced.
      per: "sequence", one mask for all time steps (Gal & Ghahramani), or "step", a mask for each
        (Semeniuta et al.).

    Raises:
      ValueError: if the rate is not in [0, 1), or `per` is neither; when run, if the cell has no
        product of its carry with a weight.

    References: Gal & Ghahramani, A theoretically grounded application of dropout in recurrent neural
    networks, 2016, arXiv:1512.05287; Semeniuta, Severyn & Barth, Recurrent dropout without memory
    loss, 2016, arXiv:1603.05118.
    """
    parts.check_rate("recurrent_dropout", rate)
    if per not in _DROPOUT:
        raise ValueError(f"recurrent_dropout() drops per 'sequence' or per 'step', got per={per!r}")
    name = f"recurrent_dropout({cell}, {parts.shown(rate)}, per={per!r})"
    return _DROPOUT[per](cell, rate, name)


def _per_sequence(cell: Cell, rate: Any, name: str) -> Cell:
    def noise(params, x, key):
        own, inner = jax.random.split(key)
        params = draw(cell, params, x, inner)
        masks = [
            parts.dropping(jax.random.fold_in(own, i), rate, like)
            for i, like in enumerate(_operands(cell, name, params, x))
        ]
        return parts.Drawn(params, masks)

    def carry(params, x):
        return cell.carry(_plain(params), x)

    def step(params, carry, x, *key):
        if not isinstance(params, parts.Drawn):
            return cell.step(params, carry, x, *key)
        params, masks = params
        masked = with_operands(lambda p, c, x: cell.step(p, c, x, *key), lambda i, v: masks[i] * v)
        return masked(params, carry, x)

    return parts.derived(cell, name=name, carry=carry, step=step, noise=noise)


def _per_step(cell: Cell, rate: Any, name: str) -> Cell:
    def step(params, carry, x, key=None):
        if key is None:
            return cell.step(params, carry, x)
        own, inner = jax.random.split(key)
        _operands(cell, name, params, x)

        def drop(i, value):
            return parts.dropping(jax.random.fold_in(own, i), rate, value) * value

        return with_operands(lambda p, c, x: cell.step(p, c, x, inner), drop)(params, carry, x)

    return parts.derived(cell, name=name, step=step)


_DROPOUT = {"sequence": _per_sequence, "step": _per_step}


@factory
def drop_connect(cell: Cell, rate: Any) -> Cell:
    """Drops single connections of the recurrent weights, the same for all rows and time steps.

        h · R   becomes   h · (M ∘ R)        M ~ Bernoulli(1 − rate) / (1 − rate), of the shape of R

    The step is read to find which parameters these are. Without a key nothing is dropped.

    Args:
      cell: the cell inside; its carry must be multiplied by a weight matrix.
      rate: of dropping a connection, 0 <= rate < 1. May be traced.

    Raises:
      ValueError: if the rate is not in [0, 1); when run, if the cell has no product of its carry with
        a weight.

    References: Wan et al., Regularization of neural networks using DropConnect, 2013; on recurrent
    weights Merity, Keskar & Socher, Regularizing and optimizing LSTM language models, 2017,
    arXiv:1708.02182.
    """
    parts.check_rate("drop_connect", rate)
    name = f"drop_connect({cell}, {parts.shown(rate)})"

    def noise(params, x, key):
        own, inner = jax.random.split(key)
        carry = jax.eval_shape(cell.carry, params, x)
        found = recurrent_weights(cell.step, params, carry, x)
        if not any(found):
            raise ValueError(_no_products(name))
        leaves, tree = jax.tree.flatten(params)
        dropped = [
            parts.dropping(jax.random.fold_in(own, i), rate, v) * v if is_recurrent else v
            for i, (v, is_recurrent) in enumerate(zip(leaves, found, strict=True))
        ]
        return draw(cell, tree.unflatten(dropped), x, inner)

    return parts.derived(cell, name=name, noise=noise)


def _operands(cell: Cell, name: str, params: Any, x: Any) -> list[jax.ShapeDtypeStruct]:
    carry = jax.eval_shape(cell.carry, params, x)
    found = recurrent_operands(cell.step, params, carry, x)
    if not found:
        raise ValueError(_no_products(name))
    return found


def _no_products(name: str) -> str:
    return (
        f"{name} finds no product of the carry with a weight matrix in the step, so there is no"
        " recurrent connection to drop; use zoneout(), which acts on the carry itself"
    )


def _plain(params: Any) -> Any:
    return params.params if isinstance(params, parts.Drawn) else params
