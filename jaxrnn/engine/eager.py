"""Compiles what is called outside `jax.jit` once for each shape, not once for each call.

`jax.lax.scan` compiles anew for every new closure. The engine and `run` make closures at every call,
so outside a transformation they are traced once and kept, for as long as their owner (the user's step
function, the cell) lives and sees what it saw (`engine.closure`).
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import jax
import jax.numpy as jnp
import numpy as np
from jax import core
from jax.extend import core as jex

from jaxrnn.engine.closure import renewed, seen_by

# All settings of JAX: nearly any may change the program a function traces to, besides its arguments.
_SETTINGS = tuple(name for name in jax.config.values if hasattr(jax.config, name))
_WATCHED = ("jax_disable_jit", "jax_debug_nans", "jax_debug_infs")
KEPT = 32  # programs of one owner; those used least recently are forgotten


class _Program(NamedTuple):
    run: Callable[..., Any]
    out_tree: Any
    seen: tuple[Hashable, ...]  # what its owner saw when it was traced


# The values hold jaxprs and constants, never the owner, so that an owner can be forgotten.
_programs: WeakKeyDictionary[Any, OrderedDict[Hashable, _Program]] = WeakKeyDictionary()


def _looks_closely() -> bool:
    """Whether JAX is told to run operations one by one, or to find the one that makes a NaN."""
    return any(getattr(jax.config, name) for name in _WATCHED)


def compiled(owner: Any, settings: Hashable, function: Callable[..., Any], *args: Any) -> Any:
    """Calls `function(owner, *args)`, compiled if it is called eagerly.

    `settings` and the types of `args` must tell apart all programs one owner can ask for.
    """
    leaves, tree = jax.tree.flatten(args)
    traced = any(isinstance(v, core.Tracer) for v in leaves)
    # Under a `vmap` with a named axis a step may ask for the axis, though it is given nothing mapped.
    named = jex.nonempty_axis_env_DO_NOT_USE()  # pyright: ignore[reportPrivateImportUsage]
    if traced or named or _looks_closely():
        return function(owner, *args)
    try:
        programs = _programs.setdefault(owner, OrderedDict())
        context = jax.sharding.get_abstract_mesh(), *(getattr(jax.config, n) for n in _SETTINGS)
        key = (settings, tree, tuple(map(jax.typeof, leaves)), context)
        hash(key)
    except TypeError:  # an owner or a setting that cannot be remembered
        return function(owner, *args)
    program = programs.get(key)
    if program is None or program.seen != seen_by(owner):
        # JAX too keeps what it traced of a function, and for as long: it is shown another one.
        jaxpr, out = jax.make_jaxpr(partial(function, renewed(owner)), return_shape=True)(*args)
        if any(isinstance(c, core.Tracer) for c in jaxpr.consts):
            return function(owner, *args)  # the owner closes over a value under transformation
        # While what JAX made of a NumPy array lives, it takes that for the array, whatever is in it now.
        consts = [jnp.array(c) if isinstance(c, np.ndarray) else c for c in jaxpr.consts]
        run = jex.jaxpr_as_fun(jex.ClosedJaxpr(jaxpr.jaxpr, consts))
        program = _Program(jax.jit(run), jax.tree.structure(out), seen_by(owner))
        programs[key] = program
    programs.move_to_end(key)
    if len(programs) > KEPT:
        programs.popitem(last=False)
    return jax.tree.unflatten(program.out_tree, program.run(*leaves))
