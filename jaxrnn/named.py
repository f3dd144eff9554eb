"""Leaves of a pytree by name, as checkpoints, sharding rules, masks of Optax and Flax address them."""

from collections.abc import Mapping
from typing import Any

import jax

BARE = "params"  # the name of parameters that are one array


def name_of(path: Any) -> str:
    """What a leaf is called: "layers/0/recurrent"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves by their names, in the order of the tree.

    Raises:
      ValueError: if two leaves have one name, as keys with a "/" in them may have.
    """
    pairs = [(name_of(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
    named = dict(pairs)
    if len(named) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two leaves are called {twice!r}; rename a key that has a / in it")
    return named


def nested(params: Any) -> dict[str, Any]:
    """The leaves under the names of the fields, keys and positions that lead to them.

    Examples:
      >>> from jaxrnn.cells import ElmanParams
      >>> nested((ElmanParams(input=1, recurrent=2, bias=3), {"kernel": 4}))
      {'0': {'input': 1, 'recurrent': 2, 'bias': 3}, '1': {'kernel': 4}}

    Raises:
      ValueError: if two leaves have one name.
    """
    made: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        *outer, last = _names(path)
        level = made
        for name in outer:
            level = level.setdefault(name, {})
        if last in level:
            raise ValueError(f"two parameters are called {'/'.join((*outer, last))}; rename one")
        level[last] = leaf
    return made


def restored(structure: Any, names: Any, owner: str) -> Any:
    """The parameters of this `jax.tree.structure` from their `nested` form.

    Raises:
      ValueError: if one is missing, naming it and the `owner`.
    """
    numbered = jax.tree.unflatten(structure, range(structure.num_leaves))
    leaves = []
    for path, _ in jax.tree_util.tree_leaves_with_path(numbered):
        found = names
        for name in _names(path):
            if not isinstance(found, Mapping) or name not in found:
                raise ValueError(
                    f"{owner} needs a parameter {'/'.join(_names(path))} and finds none; give it the"
                    " parameters that it was initialised with"
                )
            found = found[name]
        leaves.append(found)
    return jax.tree.unflatten(structure, leaves)


def _names(path: Any) -> tuple[str, ...]:
    return tuple(jax.tree_util.keystr((key,), simple=True) for key in path) or (BARE,)
