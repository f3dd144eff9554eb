"""Runs a part of a step for all time steps at once."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
from jax import lax

from jaxrnn.engine.jaxprs import Eqn, Jaxpr, Var, apply, is_var, reads, value, written_at
from jaxrnn.engine.meshes import is_explicit


def all_times(jaxpr: Jaxpr, values: Sequence[Any], streams: Iterable[Var]) -> list[Any]:
    """Evaluates `jaxpr` as `vmap` over a leading time axis of the inputs `streams` would.

    An output that depends on no stream comes back without a time axis; `timed` tells which do.
    """
    env = dict(zip(jaxpr.invars, values, strict=True))
    moving = timed(jaxpr, streams)
    for eqn in jaxpr.eqns:
        at_once = apply_all_times if not moving.isdisjoint(reads(eqn)) else _apply_once
        env |= zip(eqn.outvars, at_once(jaxpr, eqn, env, moving), strict=True)
    return [value(env, v) for v in jaxpr.outvars]


def timed(jaxpr: Jaxpr, streams: Iterable[Var]) -> set[Var]:
    """The values that depend on `streams`."""
    found = set(streams)
    for eqn in jaxpr.eqns:
        if not found.isdisjoint(reads(eqn)):
            found |= set(eqn.outvars)
    return found


def _apply_once(jaxpr: Jaxpr, eqn: Eqn, env: Mapping[Var, Any], _: set[Var]) -> list[Any]:
    return apply(jaxpr, eqn, env)


def apply_all_times(jaxpr: Jaxpr, eqn: Eqn, env: Mapping[Var, Any], moving: set[Var]) -> list[Any]:
    """Runs one equation for all time steps; variables in `moving` have a leading time axis."""
    if _flattens(eqn, moving):
        with written_at(eqn):
            return [_flat_product(eqn, env, moving)]
    inputs = list(dict.fromkeys(reads(eqn)))
    axes = [0 if v in moving else None for v in inputs]

    def step(*values: Any) -> list[Any]:
        return apply(jaxpr, eqn, dict(zip(inputs, values, strict=True)))

    return jax.vmap(step, in_axes=axes)(*(env[v] for v in inputs))


def _flattens(eqn: Eqn, moving: set[Var]) -> bool:
    """Whether to multiply by a weight with time and batch made one axis.

    The transpose of a product of [T, B, D] with [D, G] contracts two axes, and XLA:CPU copies the
    whole [T, B, G] cotangent into another order for that: 363 µs a step instead of 106 at B=64,
    D=256, G=1024. Where there are several devices the axes stay apart: a batch that is split over
    them would be gathered, to be put in one axis with time, and all the work done by each of them.
    A program does not tell while it is traced over how many it will be split.
    """
    if eqn.primitive.name != "dot_general" or jax.default_backend() != "cpu":
        return False
    if jax.device_count() > 1 or any(map(is_explicit, eqn.invars)):
        return False
    _, (lhs_batch, _) = eqn.params["dimension_numbers"]
    return (
        not lhs_batch
        and eqn.params.get("out_sharding") is None
        and all(map(is_var, eqn.invars))
        and sum(v in moving for v in eqn.invars) == 1
    )


def _flat_product(eqn: Eqn, env: Mapping[Var, Any], moving: set[Var]) -> Any:
    contracting, _ = eqn.params["dimension_numbers"]
    side = 0 if eqn.invars[0] in moving else 1
    rows, weight = value(env, eqn.invars[side]), value(env, eqn.invars[1 - side])
    over = [axis + 1 for axis in contracting[side]]
    kept = [axis for axis in range(rows.ndim) if axis not in over]
    rows = lax.transpose(rows, [*kept, *over])
    free, contracted = rows.shape[: len(kept)], rows.shape[len(kept) :]
    rows = rows.reshape(math.prod(free), *contracted)
    dims = (tuple(range(1, rows.ndim)), tuple(contracting[1 - side]))
    out = eqn.primitive.bind(rows, weight, **{**eqn.params, "dimension_numbers": (dims, ((), ()))})
    out = out.reshape(*free, *out.shape[1:])
    if side == 1:  # the weight's free axes come first, after time
        n = len(free)
        out = lax.transpose(out, [0, *range(n, out.ndim), *range(1, n)])
    return out
