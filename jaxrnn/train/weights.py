"""Params alone, in and out of safetensors: numbers and names, and nothing that could be run."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from jaxrnn.named import named_leaves

# The names safetensors has for dtypes; its own NumPy reader knows no bfloat16.
DTYPES = {"BOOL": "bool", "BF16": "bfloat16", "C64": "complex64"}
DTYPES |= {f"F{bits}": f"float{bits}" for bits in (16, 32, 64)}
DTYPES |= {f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)}
DTYPES |= {f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)}
DTYPES |= {"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}


class WeightsError(ValueError):
    """A file does not hold the params that are wanted, or not whole."""


def save_weights(path: str | os.PathLike[str], params: Any) -> None:
    """Writes params to a safetensors file, under names such as "0/recurrent".

    The file takes the place of a former one when it is whole; a crash leaves the former.

    Args:
      path: of the file; its folder must exist.
      params: a pytree of arrays.

    Raises:
      OSError: if it cannot be written.
      TypeError: if a leaf is no array of numbers.
    """
    arrays = {name: _numbers(name, leaf) for name, leaf in named_leaves(params).items()}
    content = safetensors.numpy.save(arrays, {"sha256": _sha256(arrays)})
    path = Path(path)
    part = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def load_weights(path: str | os.PathLike[str], template: Any) -> Any:
    """Reads params from a safetensors file.

    Args:
      path: of the file. One that something else wrote will do, if names, shapes and dtypes agree; of
        one that `save_weights` wrote the checksum must be right too.
      template: params of the same shapes and dtypes, arrays or `jax.ShapeDtypeStruct`. Arrays are
        placed as its are.

    Returns:
      The params, a pytree like the template.

    Raises:
      OSError: if it cannot be read.
      WeightsError: if it is damaged, or a leaf is missing, superfluous, of another shape or dtype.
    """
    content = Path(path).read_bytes()
    try:
        arrays = {name: _array(entry) for name, entry in safetensors.deserialize(content)}
        size = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + size]).get("__metadata__", {})
    except (safetensors.SafetensorError, ValueError, KeyError, AttributeError) as error:
        raise WeightsError(f"{path} is damaged, or no safetensors file: {error}") from error
    if metadata.get("sha256", _sha256(arrays)) != _sha256(arrays):
        raise WeightsError(f"{path} is damaged: its checksum is wrong")
    wanted = named_leaves(template)
    for name, like in wanted.items():
        if name not in arrays:
            raise WeightsError(f"{path} has no {name!r}; it has {', '.join(arrays)}")
        came, want = arrays[name], f"{like.dtype}{list(like.shape)}"
        if (there := f"{came.dtype}{list(came.shape)}") != want:
            raise WeightsError(f"{path} has {name} as {there}, wanted is {want}")
    if more := [name for name in arrays if name not in wanted]:
        raise WeightsError(f"{path} has {', '.join(more)}, which the template has not")
    leaves = [_placed(arrays[name], like) for name, like in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def _numbers(name: str, leaf: Any) -> np.ndarray:
    if not hasattr(leaf, "dtype") or jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
        kind = leaf.dtype if hasattr(leaf, "dtype") else type(leaf).__name__
        raise TypeError(f"{name} must be an array of numbers, got {kind}")
    return np.ascontiguousarray(leaf).reshape(leaf.shape)


def _array(entry: dict[str, Any]) -> np.ndarray:
    dtype = jnp.dtype(DTYPES[entry["dtype"]])
    return np.frombuffer(entry["data"], dtype).reshape(entry["shape"])


def _placed(array: np.ndarray, like: Any) -> jax.Array:
    place = getattr(like, "sharding", None)
    return jnp.asarray(array) if place is None else jax.device_put(array, place)


def _sha256(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
