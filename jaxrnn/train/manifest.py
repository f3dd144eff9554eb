"""What a checkpoint should hold, written inside it: every leaf with shape, dtype and SHA-256.

No format of arrays notices a flipped bit by itself. So nothing is given out that does not agree with
the manifest, nor anything if the manifest does not agree with itself.
"""

import hashlib
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

import jaxrnn

FORMAT = 1


class Refused(Exception):
    """A checkpoint is not what it should be; the message says in what."""


def plain(leaf: Any) -> Any:
    """A leaf as an array of numbers: a key as its data."""
    is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def described(leaf: Any) -> dict[str, Any]:
    return {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}


def sha256(leaf: Any) -> str:
    """Of the bytes of a whole array, however it is spread over devices and processes."""
    leaf = plain(leaf)
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        leaf = multihost_utils.process_allgather(leaf, tiled=True)
    return hashlib.sha256(np.asarray(leaf).tobytes()).hexdigest()


def make(leaves: dict[str, Any], **rest: Any) -> dict[str, Any]:
    """A manifest of the leaves, and of `rest`, which is JSON."""
    body = {
        "format": FORMAT,
        "jaxrnn": jaxrnn.__version__,
        "jax": jax.__version__,
        "leaves": {n: {**described(leaf), "sha256": sha256(leaf)} for n, leaf in leaves.items()},
        **rest,
    }
    return {"body": body, "sha256": _seal(body)}


def read(manifest: Any) -> dict[str, Any]:
    """The body of a manifest.

    Raises:
      Refused: if it is damaged, or none of ours.
    """
    if not isinstance(manifest, dict) or set(manifest) != {"body", "sha256"}:
        raise Refused("it was not written by jaxrnn.train")
    if manifest["sha256"] != _seal(manifest["body"]):
        raise Refused("its manifest is damaged: the checksum is wrong")
    if manifest["body"]["format"] != FORMAT:
        raise Refused(
            f"its format is {manifest['body']['format']}, this version of jaxrnn reads {FORMAT};"
            f" jaxrnn {manifest['body']['jaxrnn']} wrote it"
        )
    return manifest["body"]


def check_fits(leaves: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Whether these leaves, as a manifest describes them, are those wanted.

    Raises:
      Refused: naming the first that is missing, superfluous, or of another shape or dtype.
    """
    for name, like in wanted.items():
        if name not in leaves:
            raise Refused(f"it is of another model: it has no {name}")
        if (here := _typed(described(like))) != (there := _typed(leaves[name])):
            raise Refused(f"it is of another model: {name} is {there}, not {here}")
    for name in leaves:
        if name not in wanted:
            raise Refused(f"it is of another model: it has {name}, which is not wanted")


def check_whole(arrays: dict[str, Any], leaves: dict[str, Any]) -> None:
    """Whether the arrays that were read are, bit for bit, those that were written.

    Raises:
      Refused: naming the first that is not.
    """
    for name, array in arrays.items():
        if sha256(array) != leaves[name]["sha256"]:
            raise Refused(f"it is damaged: the checksum of {name} is wrong")


def _typed(entry: dict[str, Any]) -> str:
    return f"{entry['dtype']}{entry['shape']}"


def _seal(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
