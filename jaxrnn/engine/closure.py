"""What a function closes over at this moment, to tell whether a program made of it is still its own.

A program holds the values that a function closed over when it was traced. They may be others by now: a
NumPy array written to in place, a name bound anew, an attribute set. So what a function can see is
compared with what it could see then: arrays of NumPy by their contents, numbers and text by value, all
else by identity.
"""

import functools
import types
import zlib
from collections.abc import Hashable, Iterator
from typing import Any

import jax
import numpy as np

_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_LIBRARIES = ("jax", "jaxlib", "numpy", "jaxrnn", "builtins")
_MOST = 2000  # values looked at; a function that sees more is not followed to the end


class Seen:
    """A value compared by identity, and kept, so that its place in memory is no other's."""

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Seen) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


def seen_by(owner: Any) -> tuple[Hashable, ...]:
    """What a function, or a record of functions, sees: equal tuples mean equal programs."""
    found: list[Hashable] = []
    visited: set[int] = set()
    pending = [owner]
    while pending and len(visited) < _MOST:
        value = pending.pop()
        if isinstance(value, _PLAIN):
            found.append((type(value), value))
        elif isinstance(value, np.ndarray):
            found.append((value.shape, value.dtype, _digest(value)))
        elif isinstance(value, jax.Array | np.generic):
            found.append(Seen(value))
        elif id(value) not in visited:
            visited.add(id(value))
            pending.extend(_within(value))
    return tuple(found)


def _digest(array: np.ndarray) -> Hashable:
    if array.dtype.hasobject:
        return Seen(array)
    return zlib.crc32(np.ascontiguousarray(array).view(np.uint8).data)


def _within(value: Any) -> Iterator[Any]:
    """What a function, a container or an object holds."""
    if isinstance(value, types.FunctionType):
        yield from _cells(value)
        yield from value.__defaults__ or ()
        yield from (value.__kwdefaults__ or {}).values()
        if not _is_of_library(value):
            yield from _globals(value)
    elif isinstance(value, types.MethodType):
        yield value.__func__
        yield value.__self__
    elif isinstance(value, functools.partial):
        yield value.func
        yield from value.args
        yield from value.keywords.values()
    elif isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list | tuple | set | frozenset):
        yield from value
    elif not isinstance(value, type | types.ModuleType) and not _is_of_library(type(value)):
        yield from getattr(value, "__dict__", {}).values()
        if callable(value) and isinstance(call := type(value).__call__, types.FunctionType):
            yield call
    elif hasattr(value, "__wrapped__"):  # jax.jit and its like
        yield value.__wrapped__
    elif _is_record(value):
        yield from (getattr(value, name) for name in value.__dataclass_fields__)


def _cells(function: types.FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not bound yet
            continue


def _globals(function: types.FunctionType) -> Iterator[Any]:
    for name in _names(function.__code__):
        if name in function.__globals__:
            yield function.__globals__[name]


@functools.lru_cache(maxsize=1024)
def _names(code: types.CodeType) -> tuple[str, ...]:
    """The names a function's code, and that of functions in it, may look up."""
    inner = (c for c in code.co_consts if isinstance(c, types.CodeType))
    return tuple(dict.fromkeys([*code.co_names, *(n for c in inner for n in _names(c))]))


def _is_of_library(value: Any) -> bool:
    return (getattr(value, "__module__", None) or "").split(".")[0] in _LIBRARIES


def _is_record(value: Any) -> bool:
    return hasattr(value, "__dataclass_fields__") and not isinstance(value, type)


def renewed(function: Any) -> Any:
    """The same function as an object of its own, which no cache of traces knows; a record as it is."""
    if not callable(function):
        return function
    if not isinstance(function, types.FunctionType):
        return functools.partial(function)
    again = types.FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    again.__kwdefaults__ = function.__kwdefaults__
    return functools.update_wrapper(again, function)
