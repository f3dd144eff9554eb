"""Where arrays lie: params on a mesh, by rules over their names."""

from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec


def on_mesh(tree: Any, sharding: Any) -> Any:
    """Every leaf on the mesh of the batches or of another leaf: replicated, if it is on none yet."""
    placed = [leaf.sharding for leaf in jax.tree.leaves(tree)] + jax.tree.leaves(sharding)
    meshes = [place.mesh for place in placed if isinstance(place, NamedSharding)]
    if not meshes:
        return tree
    everywhere = NamedSharding(meshes[0], PartitionSpec())

    def put(leaf: Any) -> Any:
        return (
            leaf if isinstance(leaf.sharding, NamedSharding) else jax.device_put(leaf, everywhere)
        )

    return jax.tree.map(put, tree)


def anyone(flag: bool) -> bool:
    """Whether it is true in any of the processes, which thus go on alike."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))
