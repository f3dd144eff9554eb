"""Axes of a mesh over which types say how arrays are split, and how to leave that to the compiler.

Under `AxisType.Explicit` the type of an array has its split in it, and `jax.lax.scan` refuses what is
split over time. Under `AxisType.Auto` types know nothing of it, and the compiler splits the work.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax import core
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P


def is_explicit(value: Any) -> bool:
    """Whether the type of an array says how it is split over a mesh (`AxisType.Explicit`)."""
    mesh = _mesh_of(value)
    return mesh is not None and AxisType.Explicit in mesh.axis_types


def is_set() -> bool:
    """Whether this is called within a mesh (`jax.set_mesh`)."""
    return not jax.sharding.get_abstract_mesh().empty


def types(function: Callable[..., Any], *args: Any) -> Any:
    """The types of what a function gives back, their splits among them.

    `jax.eval_shape` tells no splits where some axes of a mesh are explicit and others are not.
    """
    jaxpr, out = jax.make_jaxpr(function, return_shape=True)(*args)
    return jax.tree.unflatten(jax.tree.structure(out), jaxpr.out_avals)


def resharded(value: Any, like: Any) -> Any:
    """A value, split as the type of another says; as it is, if that says nothing."""
    if not is_explicit(like):
        return value
    return jax.sharding.reshard(value, _type_of(like).sharding)


def axes_of(value: Any, dimension: int) -> tuple[str, ...]:
    """The mesh axes that the type of an array says one of its dimensions is split over."""
    if not is_explicit(value):
        return ()
    names = _spec(value)[dimension]
    return names if isinstance(names, tuple) else () if names is None else (names,)


def whole_features(value: Any) -> Any:
    """A value with its last axis on every device, for what JAX cannot split there."""
    if not is_explicit(value):
        return value
    return jax.sharding.reshard(value, NamedSharding(_mesh_of(value), P(*_spec(value)[:-1], None)))


def split_alike(value: Any, other: Any) -> bool:
    """Whether two types agree on how their arrays are split."""
    return is_explicit(value) == is_explicit(other) and _spec(value) == _spec(other)


def over_time(run: Callable[..., tuple[Any, Any]], axis: str, *args: Any) -> tuple[Any, Any]:
    """Calls `run(*args) -> (carry, ys)` with no type that speaks of this mesh axis.

    What comes back is split over it in time, as far as equal parts allow, if types spoke of it before.
    """
    mesh = next(_explicit_meshes(axis, args), None)
    if mesh is None:
        return run(*args)
    with jax.sharding.use_abstract_mesh(mesh.update_axis_types({axis: AxisType.Auto})):
        here = jax.tree.map(lambda a: jax.sharding.reshard(a, _spec(a, without=axis)), args)
        carry, ys = run(*here)

    def outside(value: Any, *leading: Any) -> Any:
        spec = P(*leading, *_spec(value)[len(leading) :])
        return jax.sharding.reshard(value, NamedSharding(mesh, spec))

    def stacked(y: Any) -> Any:
        divides = y.shape[0] % mesh.shape[axis] == 0
        return outside(y, axis) if divides and axis in mesh.explicit_axes else outside(y)

    return jax.tree.map(outside, carry), jax.tree.map(stacked, ys)


def _type_of(value: Any) -> Any:
    """The type of an array, of a variable, or a type itself."""
    if isinstance(value, core.ShapedArray):
        return value
    return getattr(value, "aval", None) or jax.typeof(value)


def _mesh_of(value: Any) -> Any:
    mesh = getattr(getattr(_type_of(value), "sharding", None), "mesh", None)
    return None if mesh is None or mesh.empty else mesh


def _explicit_meshes(axis: str, args: Any) -> Iterator[Any]:
    """The meshes with this axis that types speak of: of what is around, and of the arguments."""
    around = [jax.sharding.get_abstract_mesh()] if is_set() else []
    for mesh in (*around, *map(_mesh_of, jax.tree.leaves(args))):
        if mesh is not None and mesh.explicit_axes and axis in mesh.axis_names:
            yield mesh


def _spec(value: Any, without: str | None = None) -> P:
    """The partition spec of a value, less one mesh axis."""
    spec = _type_of(value).sharding.spec

    def kept(names: Any) -> Any:
        if isinstance(names, tuple):
            rest = tuple(name for name in names if name != without)
            return rest or None
        return None if names == without else names

    return P(*map(kept, spec))
