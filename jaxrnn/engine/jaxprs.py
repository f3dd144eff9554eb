"""Reading jaxprs: the few things the engine needs to know about an equation.

A part of a step is again a jaxpr: the same equations, fewer of them, with other
inputs and outputs. Only public JAX is used to build one (`Jaxpr.replace`) and
to run one (`jax.core.eval_jaxpr`), so equations keep their parameters, their
source lines and their name stacks.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, TypeAlias, TypeGuard

import jax
import jax.numpy as jnp
from jax import core
from jax.extend import core as jex
from jax.extend import source_info_util
from jax.interpreters import batching

Jaxpr: TypeAlias = jex.Jaxpr
Eqn: TypeAlias = jex.JaxprEqn
Var: TypeAlias = jex.Var
Atom: TypeAlias = Any  # a Var or a Literal

# Elementwise arithmetic and data movement: cheap enough to do twice, so never a
# reason to keep a T-long array. No transcendental, no reduction, no product of matrices.
LIGHT = frozenset(
    [
        "abs",
        "add",
        "and",
        "broadcast_in_dim",
        "complex",
        "concatenate",
        "conj",
        "convert_element_type",
        "copy",
        "copy_p",
        "eq",
        "expand_dims",
        "ge",
        "gt",
        "imag",
        "integer_pow",
        "iota",
        "is_finite",
        "le",
        "lt",
        "max",
        "min",
        "mul",
        "ne",
        "neg",
        "not",
        "one_minus_square",  # of JAX 0.11, in the derivative of tanh
        "or",
        "real",
        "reshape",
        "reshard",
        "rev",
        "select_n",
        "sign",
        "slice",
        "split",
        "square",
        "squeeze",
        "stop_gradient",
        "sub",
        "xor",
    ]
)

# Run under `vmap` over time these would cost more (a `cond` becomes both its
# branches), draw other random numbers, or may have no batching rule at all.
PINNED = frozenset(
    [
        "while",
        "cond",
        "pure_callback",
        "io_callback",
        "debug_callback",
        "call_hi_primitive",
        "ffi_call",
        "pallas_call",
        "custom_lin",
        "rng_bit_generator",
        "rng_uniform",
        "shard_map",
        "all_gather",
        "all_to_all",
        "axis_index",
        "pgather",
        "pmax",
        "pmin",
        "ppermute",
        "psum",
        "psum2",
        "psum_invariant",
        "psum_scatter",
        "reduce_scatter",
    ]
)


# What is reckoned with where a size is a symbol: a batch of 32.
ASSUMED = 32


def part(jaxpr: Jaxpr, invars: Iterable[Var], outvars: Iterable[Atom], eqns: Iterable[Eqn]):
    """The jaxpr of some equations of `jaxpr`, from `invars` to `outvars`."""
    return jaxpr.replace(constvars=[], invars=list(invars), outvars=list(outvars), eqns=list(eqns))


def evaluate(jaxpr: Jaxpr, *values: Any) -> list[Any]:
    """Runs a jaxpr that has no constants of its own."""
    return core.eval_jaxpr(jaxpr, (), *values)


def apply(jaxpr: Jaxpr, eqn: Eqn, env: Mapping[Var, Any]) -> list[Any]:
    """Runs one equation of `jaxpr` on the values its variables have in `env`."""
    inputs = dict.fromkeys(reads(eqn))
    return evaluate(part(jaxpr, inputs, eqn.outvars, [eqn]), *(env[v] for v in inputs))


def is_var(atom: Atom) -> TypeGuard[Var]:
    return not isinstance(atom, jex.Literal)


def value(env: Mapping[Var, Any], atom: Atom) -> Any:
    """What an atom stands for: the value of a variable, or the literal itself."""
    return env[atom] if is_var(atom) else atom.val


def reads(eqn: Eqn) -> list[Var]:
    """The variables an equation reads (its operands less the literals)."""
    return [v for v in eqn.invars if is_var(v)]


def producers(eqns: Iterable[Eqn]) -> dict[Var, Eqn]:
    return {v: eqn for eqn in eqns for v in eqn.outvars}


def needed(eqns: Sequence[Eqn], wanted: Iterable[Atom]) -> list[Eqn]:
    """Those of `eqns` that `wanted` depends on, in order."""
    live = {v for v in wanted if is_var(v)}
    kept = []
    for eqn in reversed(eqns):
        if eqn.effects or not live.isdisjoint(eqn.outvars):
            live.update(reads(eqn))
            kept.append(eqn)
    return kept[::-1]


def shape(atom: Atom) -> tuple[int, ...]:
    return atom.aval.shape


def dtype(atom: Atom) -> Any:
    return atom.aval.dtype


def assumed(dims: Iterable[Any]) -> tuple[int, ...]:
    """Sizes as numbers: one that is a symbol (`jax.export`) is taken to be 32.

    For what is worth doing, not for what is right: a program must be right for every size.
    """
    return tuple(n if isinstance(n, int) else ASSUMED for n in dims)


def count(atom: Atom) -> int:
    """How many elements a value has, to reckon with (`assumed`)."""
    return math.prod(assumed(shape(atom)))


def size(atom: Atom) -> int:
    """Bytes of a value, to reckon with; an element of an extended dtype (a PRNG key) counts as 16."""
    kind = dtype(atom)
    return count(atom) * (16 if jnp.issubdtype(kind, jax.dtypes.extended) else kind.itemsize)


def is_float(value: Any) -> bool:
    """Whether a value or an atom has a tangent: real or complex."""
    aval = getattr(value, "aval", value)
    return jnp.issubdtype(aval.dtype, jnp.inexact)


def subjaxprs(eqn: Eqn) -> list[Jaxpr]:
    """The jaxprs an equation calls, loops over or chooses from."""
    return list(jex.jaxprs_in_params(eqn.params))


def is_pinned(eqn: Eqn) -> bool:
    """Whether an equation has to run where the user wrote it, once per time step."""
    if eqn.effects or eqn.primitive.name in PINNED or not _can_be_batched(eqn.primitive):
        return True
    if any(_draws_differently_batched(v) for v in eqn.invars) or any(map(_is_partial, eqn.outvars)):
        return True
    return any(is_pinned(inner) for sub in subjaxprs(eqn) for inner in sub.eqns)


@cache
def _can_be_batched(primitive: jex.Primitive) -> bool:
    """Whether `vmap` knows what to do with a primitive: who makes one of their own need not say."""
    if primitive in batching.fancy_primitive_batchers:
        return True
    # Calls, and functions with derivatives of their own, are no matter of a rule.
    return primitive.name.startswith(("closed_call", "core_call", "custom_jvp", "custom_vjp"))


def _draws_differently_batched(key: Atom) -> bool:
    # Only threefry promises vmap(draw)(keys)[t] == draw(keys[t]).
    return jnp.issubdtype(dtype(key), jax.dtypes.prng_key) and "fry" not in str(dtype(key))


def _is_partial(v: Var) -> bool:
    """Whether each device has a summand only, or a copy that stands for one: `vmap` knows no such."""
    spec = getattr(getattr(v.aval, "sharding", None), "spec", None)
    return bool(getattr(spec, "unreduced", None) or getattr(spec, "reduced", None))


def source(eqn: Eqn) -> str:
    """Where the user wrote an equation: `cells/lstm.py:41`."""
    where = source_info_util.summarize(eqn.source_info).split(" (")[0]
    path, line, *_ = [*where.split(":"), ""]
    return f"{'/'.join(path.split('/')[-2:])}:{line}" if line else where


def written_at(eqn: Eqn) -> AbstractContextManager[Any]:
    """What is traced inside is noted as written where `eqn` is, in its name scopes."""
    scopes = source_info_util.current_name_stack() + eqn.source_info.name_stack
    return source_info_util.user_context(eqn.source_info.traceback, name_stack=scopes)
