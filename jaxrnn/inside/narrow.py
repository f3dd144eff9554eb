"""Fewer units than the arrays have: a hidden size that may be traced, so that a sweep is a vmap."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import core

from jaxrnn.cells import parts as cells
from jaxrnn.core import Cell
from jaxrnn.engine.jaxprs import Eqn, Jaxpr, shape, source, subjaxprs
from jaxrnn.inside import parts
from jaxrnn.origin import factory

# What these primitives call the axes that they make one number of, or along which each number
# depends on its neighbours.
_AXES = {
    "argmax": "axes",
    "argmin": "axes",
    "cumlogsumexp": "axis",
    "cummax": "axis",
    "cummin": "axis",
    "cumprod": "axis",
    "cumsum": "axis",
    "reduce_max": "axes",
    "reduce_min": "axes",
    "reduce_prod": "axes",
    "reduce_sum": "axes",
    "sort": "dimension",
}


@factory
def narrow(cell: Cell, features: Any) -> Cell:
    """Holds the units from `features` on at 0: a cell of width W that is one of width H ≤ W.

        cₜ = [j < H] c̃ₜ        yₜ = [j < H] ỹₜ          j = 0 … W−1, the last axis

    where c̃ₜ is every float leaf of the carry that `cell` makes, and ỹₜ every output leaf, that is W
    wide; the carry before the first step too. What is 0 reaches nothing: the cell gives what a cell
    of H units gives whose parameters are the first H rows and columns of each gate's block. The
    other rows and columns, and those of a readout after it, have gradients of exactly 0, so that
    Adam leaves them as they were drawn, global norms do not see them, and noise is drawn for W units
    of which H are seen. Weight decay and penalties on all parameters do see them: they change no
    output, but the value of such a penalty.

    Initial values are those of `cell`, scaled for W: a Glorot bound is smaller by √((D+H)/(D+W)), and
    the first H rows and columns of an orthogonal matrix have singular values below 1. To begin as a
    cell of H units does, give the cell `input_init=glorot_of(features)` and
    `recurrent_init=orthogonal_of(features)` of this module.

    Not for a cell that normalises over its units, or otherwise takes a maximum, mean or sum of them
    (`cells.layer_norm_lstm`): it would see those held at 0, and is refused. A hidden layer that is not
    in the carry (`cells.jordan`) is as wide as it was; the fed-back output is narrowed. Time and
    memory are those of W.

    Args:
      cell: the cell inside; all float leaves of its carry are equally wide.
      features: H, 1 ≤ H ≤ W. May be a traced integer: then nothing is checked, and H > W is W.

    Raises:
      TypeError: if `features` is no integer.
      ValueError: if it is not in 1 … W, or the carry has leaves of different widths.
      NotImplementedError: if the cell takes statistics over its units.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> from jaxrnn import cells, inside
      >>> cell = inside.narrow(cells.gru(8), 3)
      >>> params = cell.init(jax.random.key(0), jnp.ones(2))
      >>> h, y = cell.step(params, jnp.ones(8), jnp.ones(2))
      >>> (h != 0).tolist()
      [True, True, True, False, False, False, False, False]
    """
    _check_features(features)

    def seen(leaf: Any, wide: int) -> Any:
        if not parts.is_float(leaf) or jnp.shape(leaf)[-1:] != (wide,):
            return leaf
        unit = jnp.broadcast_to(jnp.arange(wide) < features, jnp.shape(leaf))
        return jnp.where(unit, leaf, jnp.zeros_like(leaf))

    def init(key, x):
        params = cell.init(key, x)
        first = jax.eval_shape(cell.carry, params, x)
        _check_width(cell, first, features)
        _check_no_statistics(cell, params, first, x)
        return params

    def carry(params, x):
        first = cell.carry(params, x)
        wide = _check_width(cell, first, features)
        return jax.tree.map(lambda leaf: seen(leaf, wide), first)

    def step(params, carry, x, *key):
        wide = _check_width(cell, carry, features)
        # Outputs that are leaves of the carry stay the same arrays: they are masked once.
        masked = {}

        def once(leaf):
            if id(leaf) not in masked:
                masked[id(leaf)] = (leaf, seen(leaf, wide))
            return masked[id(leaf)][1]

        return jax.tree.map(once, cell.step(params, carry, x, *key))

    name = f"narrow({cell}, {parts.shown(features)})"
    return parts.derived(cell, name=name, init=init, carry=carry, step=step)


def glorot_of(features: Any) -> cells.Initialiser:
    """Glorot's uniform initialiser of W [D, W] as if it were [D, H]: for the input of a narrow cell.

        W ~ U(−b, b)    b = √(6 / (D + H))

    Args:
      features: H. May be traced.

    Reference: Glorot & Bengio, Understanding the difficulty of training deep feedforward neural
    networks, 2010.
    """
    _check_features(features)

    def init(key: Any, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        bound = jnp.sqrt(6 / (shape[0] + jnp.minimum(features, shape[1]))).astype(dtype)
        return bound * jax.random.uniform(key, shape, dtype, -1)

    return init


def orthogonal_of(features: Any) -> cells.Initialiser:
    """An orthogonal matrix of H rows and columns in the corner of one of W: for narrow recurrences.

        R = [Q  0]    Q = H × H orthogonal, uniformly drawn
            [0  ±1]

    Args:
      features: H. May be traced.

    Reference: Saxe et al., Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks, 2014, arXiv:1312.6120.
    """
    _check_features(features)

    def init(key: Any, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        if len(shape) != 2 or shape[0] != shape[1]:
            raise ValueError(f"orthogonal_of() draws a square matrix, got shape {list(shape)}")
        unit = jnp.arange(shape[0]) < features
        corner = unit[:, None] & unit[None, :]
        drawn = jnp.where(
            corner, jax.random.normal(key, shape, dtype), jnp.eye(*shape, dtype=dtype)
        )
        q, r = jnp.linalg.qr(drawn)
        # The sign of the diagonal makes the distribution uniform (Mezzadri 2007).
        return q * jnp.broadcast_to(jnp.sign(jnp.diagonal(r)), shape)

    return init


def _check_features(features: Any) -> None:
    kind = getattr(features, "dtype", None)
    integer = (
        isinstance(features, int) and not isinstance(features, bool)
        if kind is None
        else features.shape == () and jnp.issubdtype(kind, jnp.integer)
    )
    if not integer:
        raise TypeError(
            f"narrow() needs an integer number of features, or a traced one, got {features!r}"
        )


def _check_width(cell: Cell, carry: Any, features: Any) -> int:
    """The width of the carry."""
    leaves = [leaf for leaf in jax.tree.leaves(carry) if parts.is_float(leaf)]
    widths = sorted({leaf.shape[-1] for leaf in leaves if leaf.shape})
    if len(widths) != 1:
        raise ValueError(
            f"narrow() needs a carry whose float leaves are equally wide, but those of {cell} are"
            f" {widths or 'none'}; narrow the cells inside it, one by one"
        )
    [wide] = widths
    if not isinstance(features, core.Tracer) and not 1 <= int(features) <= wide:
        raise ValueError(
            f"narrow() needs 1 <= features <= {wide}, the width of {cell}, got {features};"
            " build the cell for the most features that are wanted"
        )
    return wide


def _check_no_statistics(cell: Cell, params: Any, carry: Any, x: Any) -> None:
    [wide] = {leaf.shape[-1] for leaf in jax.tree.leaves(carry) if parts.is_float(leaf)}
    traced = jax.make_jaxpr(lambda *args: cell.step(*args))(params, carry, x).jaxpr
    if (found := _statistic(traced, wide)) is not None:
        raise NotImplementedError(
            f"narrow() cannot hold units of {cell} at 0: it takes a statistic over them"
            f" ({found.primitive.name} at {source(found)}), which would see those; sweep the width"
            " of such a cell one by one"
        )


def _statistic(jaxpr: Jaxpr, wide: int) -> Eqn | None:
    """The first equation that reduces over an axis of units, or of several gates' units."""
    for eqn in jaxpr.eqns:
        for sub in subjaxprs(eqn):
            if (found := _statistic(sub, wide)) is not None:
                return found
        if eqn.primitive.name in _AXES:
            axes = np.atleast_1d(eqn.params[_AXES[eqn.primitive.name]])
            over = math.prod(shape(eqn.invars[0])[axis] for axis in axes)
            if over >= wide > 1 and over % wide == 0:
                return eqn
    return None
