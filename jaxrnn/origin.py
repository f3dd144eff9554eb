"""Factories that are remembered: what is made alike is equal, and can be hashed, pickled, a static
argument.

A cell is a record of functions, and functions made by two calls of a factory are never equal. But a cell
is told by the factory that made it and what that was given, so a decorated factory notes both.
"""

import dataclasses
import functools
import inspect
import pickle
import sys
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple, ParamSpec, TypeVar

import jax  # noqa: F401 its modules are looked up by name

from jaxrnn.checks import plain
from jaxrnn.engine.closure import Seen, seen_by

Arguments = ParamSpec("Arguments")
Made = TypeVar("Made", bound="Remembered")


class Identity:
    """A value that equals itself alone, such as an array or a tracer."""

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


class Origin(NamedTuple):
    """The factory that made something, and what it was given."""

    factory: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    key: tuple[Hashable, ...]  # of all arguments, defaults too


class Remembered:
    """What a factory makes: equal, hashable and picklable by its `origin`; without one, itself alone."""

    # No field of the record: what replaces a function of it makes another, which has no origin.
    __slots__ = ("_origin",)
    name: str

    @property
    def origin(self) -> Origin | None:
        return getattr(self, "_origin", None)

    def remembering(self, origin: Origin) -> Any:
        """The same, made by this factory; one that another factory has made stays that one's."""
        made = dataclasses.replace(self) if self.origin else self  # type: ignore[type-var]
        object.__setattr__(made, "_origin", origin)
        return made

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(self) is not type(other) or self.origin is None:
            return False
        theirs = getattr(other, "origin", None)
        return theirs is not None and (
            (self.origin.factory, self.origin.key) == (theirs.factory, theirs.key)
        )

    def __hash__(self) -> int:
        if self.origin is None:
            return object.__hash__(self)
        return hash((self.origin.factory, self.origin.key))

    def __repr__(self) -> str:
        return self.name

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        return self

    def __reduce__(self) -> Any:
        if self.origin is None:
            raise pickle.PicklingError(
                f"{self} cannot be pickled: its functions have no names; make it by a function that is"
                " decorated with jaxrnn.factory"
            )
        self._check_name(self.origin.factory, "it was made by")
        args = tuple(map(self._named, self.origin.args))
        kwargs = {name: self._named(value) for name, value in self.origin.kwargs.items()}
        return _make_again, (self.origin.factory, args, kwargs)

    def _named(self, value: Any) -> Any:
        """An argument as it is pickled: functions of JAX by the names that users know them by."""
        if not callable(value):
            return value
        place = getattr(value, "__qualname__", "")
        for module in ("jax.numpy", "jax.nn", "jax.lax"):
            if getattr(sys.modules[module], place, None) is value:
                return Named(module, place)
        inner = value
        while isinstance(inner, functools.partial):
            inner = inner.func
        self._check_name(inner, "it was given")
        return value

    def _check_name(self, function: Any, what: str) -> None:
        place = getattr(function, "__qualname__", "")
        if "<lambda>" in place or "<locals>" in place:
            raise pickle.PicklingError(
                f"{self} cannot be pickled: {what} {place}, which has no name in a module;"
                " use a function that has one"
            )


class Named(NamedTuple):
    """A function, by the module that has it and its name there."""

    module: str
    name: str


def _make_again(factory: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    def found(value: Any) -> Any:
        return getattr(sys.modules[value.module], value.name) if type(value) is Named else value

    return factory(*map(found, args), **{name: found(value) for name, value in kwargs.items()})


_firsts: dict[Any, Any] = {}
_KEPT = 64  # of them; the oldest are forgotten


def one_of_equal(made: Made) -> Made:
    """Of all that are equal the one that was seen first, so that what is kept for it serves them all.

    One that holds arrays or tracers is itself: it would keep them alive. So is one that sees other
    values than the first does, though it is equal: its factory has read more than its arguments.
    """
    if made.origin is None:
        return made
    first = _firsts.get(made)
    if first is made:
        return made
    sees = seen_by(made)
    if any(isinstance(value, Seen) for value in sees):
        return made
    if first is None:
        if len(_firsts) >= _KEPT:
            _firsts.pop(next(iter(_firsts)), None)
        return _firsts.setdefault(made, made)
    return first if seen_by(first) == sees else made


def factory(function: Callable[Arguments, Made]) -> Callable[Arguments, Made]:
    """Makes a function that returns cells or layers remember what it was given.

    Cells that it makes of equal arguments are equal, have one hash, and can be pickled; so `jax.jit`
    takes them as static arguments and traces once for all that are equal. Arrays and tracers among the
    arguments are equal to themselves alone, functions too. NumPy integers are integers.

    What a factory makes must depend on its arguments alone, not on globals that change.

    Raises:
      TypeError: when called, if the function returns anything but a `Cell` or a `Layer`.
      pickle.PicklingError: when pickled, if the factory or a function it was given has no name in a
        module, as lambdas have none.

    Examples:
      >>> import jaxrnn
      >>> jaxrnn.cells.lstm(8) == jaxrnn.cells.lstm(features=8)
      True
      >>> @jaxrnn.factory
      ... def irnn(features):
      ...     return jaxrnn.cells.elman(features, activation=jax.nn.relu)
      >>> import jax
      >>> irnn(8) == irnn(8), irnn(8) == irnn(9)
      (True, False)
    """
    if not callable(function):
        raise TypeError(f"factory() decorates a function that returns a cell, got {function!r}")
    signature = inspect.signature(function)

    @functools.wraps(function)
    def make(*given: Arguments.args, **named: Arguments.kwargs) -> Made:
        args = tuple(map(plain, given))
        kwargs = {name: plain(value) for name, value in named.items()}
        made = function(*args, **kwargs)
        if not isinstance(made, Remembered):
            raise TypeError(
                f"{function.__name__}() is decorated with jaxrnn.factory and must return a Cell or a"
                f" Layer, got {type(made).__name__}"
            )
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        key = tuple((name, _key(value)) for name, value in bound.arguments.items())
        return made.remembering(Origin(make, args, kwargs, key))

    return make


def _key(value: Any) -> Hashable:
    """A hashable form of an argument; 1, 1.0 and True differ, and so do 0.0 and -0.0."""
    if isinstance(value, float):
        return type(value), value.hex()
    if isinstance(value, tuple | list):
        return type(value), tuple(map(_key, value))
    if isinstance(value, Mapping):
        return type(value), tuple((k, _key(v)) for k, v in value.items())
    try:
        hash(value)
    except TypeError:
        return Identity(value)
    return type(value), value
