"""Leaves of a pytree by name: "layers/0/recurrent"."""

from typing import Any

import jax


def name_of(path: Any) -> str:
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
