"""Where arrays lie: params on a mesh, by rules over their names; training follows.

Data parallel is `fit(..., sharding=NamedSharding(mesh, P(None, "data")))`, for batches [T, B, ...];
params are then replicated. What `shard` places otherwise stays so, and moments lie as their params.
XLA puts in the communication. With several processes (`jax.distributed`) the same program runs in each.
"""

import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxrnn.named import name_of, named_leaves


def shard(tree: Any, mesh: Mesh, rules: Sequence[tuple[str, PartitionSpec]] = ()) -> Any:
    """Places the leaves of a tree on a mesh.

    Args:
      tree: params, or any pytree of arrays.
      mesh: the devices and the names of their axes.
      rules: pairs of a regular expression, searched for in names such as "layers/0/recurrent", and a
        `PartitionSpec`. The first that matches a leaf counts; a leaf that none does is replicated.

    Returns:
      The tree, its leaves placed. Each process must have been given the same values.

    Raises:
      ValueError: if a rule is of no use, names an axis the mesh has not, or does not divide a leaf.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> from jaxrnn import cells, train
      >>> mesh = jax.make_mesh((1,), ("model",))
      >>> params = cells.gru(4).init(jax.random.key(0), jnp.ones(3))
      >>> placed = train.shard(params, mesh, [("input|recurrent$", jax.P(None, "model"))])
      >>> tuple(placed.input.sharding.spec), placed.bias.sharding.is_fully_replicated
      ((None, 'model'), True)
    """
    used = set()

    def place(path: Any, leaf: Any) -> Any:
        name = name_of(path)
        found = (i for i, (pattern, _) in enumerate(rules) if re.search(pattern, name))
        if (i := next(found, None)) is None:
            return put(leaf, NamedSharding(mesh, PartitionSpec()))
        used.add(i)
        _check_spec(name, jnp.shape(leaf), mesh, rules[i][1])
        return put(leaf, NamedSharding(mesh, rules[i][1]))

    placed = jax.tree_util.tree_map_with_path(place, tree)
    if idle := [pattern for i, (pattern, _) in enumerate(rules) if i not in used]:
        raise ValueError(
            f"no leaf is placed by the rule {idle[0]!r}: it matches none, or another comes before it;"
            f" the leaves are {', '.join(named_leaves(tree))}"
        )
    return placed


def on_mesh(tree: Any, sharding: Any) -> Any:
    """Every leaf on the mesh of the batches or of another leaf: replicated, if it is on none yet."""
    placed = [leaf.sharding for leaf in jax.tree.leaves(tree)] + jax.tree.leaves(sharding)
    mesh = next((place.mesh for place in placed if isinstance(place, NamedSharding)), None)
    if mesh is None:
        return tree

    def everywhere(leaf: Any) -> Any:
        on_one = isinstance(leaf.sharding, NamedSharding) and leaf.sharding.mesh == mesh
        return leaf if on_one else put(leaf, NamedSharding(mesh, PartitionSpec()))

    return jax.tree.map(everywhere, tree)


def put(leaf: Any, sharding: NamedSharding) -> jax.Array:
    """A leaf that every process has, on devices that may be those of several."""
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = put(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    values = np.asarray(leaf)
    return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])


def anyone(flag: bool) -> bool:
    """Whether it is true in any of the processes, which thus go on alike."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


def _check_spec(name: str, shape: tuple[int, ...], mesh: Mesh, spec: PartitionSpec) -> None:
    if len(spec) > len(shape):
        raise ValueError(f"{spec} has more axes than {name}, which is {list(shape)}")
    for axis, part in enumerate(spec):
        names = () if part is None else part if isinstance(part, tuple) else (part,)
        if unknown := [n for n in names if n not in mesh.shape]:
            raise ValueError(
                f"{spec} for {name} names the axis {unknown[0]!r}; the mesh has {dict(mesh.shape)}"
            )
        count = int(np.prod([mesh.shape[n] for n in names]))
        if shape[axis] % count:
            raise ValueError(
                f"{spec} cuts axis {axis} of {name} into {count} parts, but {list(shape)} does not"
                " divide by that; choose other sizes, another axis, or replicate it"
            )
