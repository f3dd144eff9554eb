"""Compiles what is called outside `jax.jit` once for each shape, not once for each call.

`jax.lax.scan` compiles anew for every new closure. The engine and `run` make closures at every call,
so outside a transformation they are traced once and kept, for as long as their owner (the user's step
function, the cell) lives.
"""

from collections.abc import Callable, Hashable
from typing import Any
from weakref import WeakKeyDictionary

import jax
from jax import core
from jax.extend import core as jex

# What changes the program a function traces to, besides its arguments.
_CONTEXT = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_numpy_dtype_promotion",
    "jax_numpy_rank_promotion",
    "jax_default_prng_impl",
)
# The values hold jaxprs and constants, never the owner, so that an owner can be forgotten.
_programs: WeakKeyDictionary[Any, dict[Hashable, tuple[Callable[..., Any], Any]]]
_programs = WeakKeyDictionary()


def compiled(owner: Any, settings: Hashable, function: Callable[..., Any], *args: Any) -> Any:
    """Calls `function(*args)`, compiled if it is called eagerly.

    `settings` and the types of `args` must tell apart all programs one owner can ask for.
    """
    leaves, tree = jax.tree.flatten(args)
    disabled, *context = (getattr(jax.config, name) for name in ("jax_disable_jit", *_CONTEXT))
    if disabled or any(isinstance(v, core.Tracer) for v in leaves):
        return function(*args)
    try:
        programs = _programs.setdefault(owner, {})
        key = (settings, tree, tuple(map(jax.typeof, leaves)), *context)
        hash(key)
    except TypeError:  # an owner or a setting that cannot be remembered
        return function(*args)
    if key not in programs:
        traced, out = jax.make_jaxpr(function, return_shape=True)(*args)
        if any(isinstance(c, core.Tracer) for c in traced.consts):
            return function(*args)  # the owner closes over a value under transformation
        programs[key] = jax.jit(jex.jaxpr_as_fun(traced)), jax.tree.structure(out)
    program, out_tree = programs[key]
    return jax.tree.unflatten(out_tree, program(*leaves))
