"""The cell kit: makes a cell of the equations as textbooks print them. Library cells use it too."""

import functools
import inspect
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.checks import WrongInput, check_input
from jaxrnn.core import Cell
from jaxrnn.guard import zero_rows


class Features:
    """The axes that a carry leaf has after the batch, for `cell(carry=...)`.

    A number stands for one axis: 256 is `Features(256)`. The dtype is the promoted one of parameters
    and x; `dtype` is what it is promoted with besides: `jnp.float32` for a leaf that is never
    narrower, `jnp.complex64` for a complex one.
    """

    def __init__(self, *axes: int, dtype: Any = None):
        self.axes = axes
        self.dtype = dtype

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Features) and self._told_by == other._told_by

    def __hash__(self) -> int:
        return hash(self._told_by)

    def __repr__(self) -> str:
        given = [
            *map(str, self.axes),
            *([] if self.dtype is None else [f"dtype={self._told_by[1]}"]),
        ]
        return f"Features({', '.join(given)})"

    @property
    def _told_by(self) -> tuple[Any, ...]:
        return self.axes, None if self.dtype is None else jnp.dtype(self.dtype)


def cell(
    name: str,
    init: Callable[..., Any],
    step: Callable[..., Any],
    *,
    carry: Any,
    dtype: Any = None,
    noise: Callable[..., Any] | None = None,
    parallel: Callable[..., Any] | None = None,
) -> Cell:
    """Makes a cell of its functions, and takes care of dtypes, carries and checks.

        init(key, x) -> params
        step(params, carry, x) -> (carry, y)       or, for a cell with noise of its own,
        step(params, carry, x, key=None)           key by position or by keyword, None for no noise

    Inside of these functions NumPy's rules of promotion hold, however JAX is configured: a bias [H] may
    be added to rows [*batch, H], a bfloat16 multiplied by a float32.

    Args:
      name: what the cell is called in messages: "leaky(32)".
      init: makes the parameters; x is one time step, an array or `jax.ShapeDtypeStruct`, of which only
        shape and dtype matter.
      step: the equation.
      carry: the carry before the first step. A pytree of numbers of features, say `32` or
        `LSTMCarry(32, 32)`, makes zeros [*batch, 32] in the promoted dtype of parameters and x, the
        batch being all axes of x but the last; `Features(heads, K, V)` stands for more axes, or for
        another dtype. Or a function `(params, x) -> carry`, for a carry that is learned, or is not 0;
        if parameters and x differ in dtype, it is cast to what the step gives back.
      dtype: of the parameters: `init` is given an x of that dtype. None leaves x as it is.
      noise: as in `jaxrnn.Cell`.
      parallel: as in `jaxrnn.Cell`.

    Raises:
      TypeError: if `init` or `step` takes something else than these, or there is no such dtype.
      ValueError: if a number of features is not a positive integer.

    Examples:
      >>> import jax, jax.numpy as jnp, jaxrnn
      >>> def init(key, x):
      ...     return jax.random.normal(key, (x.shape[-1] + 8, 8), x.dtype) / 8
      >>> def step(W, h, x):
      ...     h = jnp.tanh(jnp.concatenate([x, h], axis=-1) @ W)
      ...     return h, h
      >>> mine = jaxrnn.cell("mine", init, step, carry=8)
      >>> xs = jnp.ones((5, 2, 3), jnp.bfloat16)
      >>> params = mine.init(jax.random.key(0), jnp.ones((2, 3)))
      >>> jaxrnn.run(mine, params, xs)[1].dtype
      dtype('float32')
    """
    _check_functions(name, init, step)
    kind = None if dtype is None else jnp.dtype(dtype)
    zeros = not callable(carry)
    of = functools.partial(_features, name)
    # None would be no leaf, and a cell of None features one without a carry.
    leaves = jax.tree.map(of, carry, is_leaf=lambda v: v is None) if zeros else None
    own_step = _keyed(name, promoting(step))

    @promoting
    def make(key: Any, x: Any) -> Any:
        if zeros:
            check_input(name, x)
        return init(key, x if kind is None else _of_dtype(x, kind))

    @promoting
    def first(params: Any, x: Any) -> Any:
        if not zeros:
            return _closed(own_step, params, carry(params, x), x)
        check_input(name, x)
        promoted = jnp.result_type(x.dtype, *map(jnp.result_type, _numbers(params)))
        return jax.tree.map(lambda f: _zeros(f, x, promoted), leaves)

    @functools.wraps(step)
    def textbook(params: Any, carry: Any, x: Any, key: Any = None) -> tuple[Any, Any]:
        try:
            return own_step(params, carry, x, key)
        except (TypeError, ValueError) as error:
            _check_params(name, make, params, x, error)
            raise

    return Cell(
        name=name,
        init=functools.wraps(init)(make),
        carry=first,
        step=textbook,
        noise=None if noise is None else promoting(noise),
        parallel=None if parallel is None else promoting(parallel),
    )


def check_count(name: str, what: str, count: Any) -> None:
    """Refuses what is no positive integer; NumPy's are integers, bools are not."""
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
        raise ValueError(f"{name} needs a positive number of {what}, got {count!r}")


def input_features(name: str, x: Any, dtype: Any = None) -> tuple[int, Any]:
    """D, and the dtype of the parameters: that of x unless one is given."""
    check_input(name, x)
    return x.shape[-1], x.dtype if dtype is None else jnp.dtype(dtype)


def promoting(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function under NumPy's rules of promotion, of ranks and of dtypes."""

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            return function(*args, **options)

    return call


def _features(name: str, leaf: Any) -> Features:
    """A leaf of `carry=`, checked."""
    found = leaf if isinstance(leaf, Features) else Features(leaf)
    for axis in found.axes:
        check_count(name, "features", axis)
    return Features(*map(operator.index, found.axes), dtype=found.dtype)


def _zeros(features: Features, x: Any, promoted: Any) -> jax.Array:
    kind = promoted if features.dtype is None else jnp.promote_types(promoted, features.dtype)
    return zero_rows(x, features.axes, kind)


def _check_functions(name: Any, init: Any, step: Any) -> None:
    if not isinstance(name, str):
        raise TypeError(
            f"name is what messages call the cell, a text such as 'mine(32)'; got {name!r}"
        )
    for what, function in (("init(key, x)", init), ("step(params, carry, x)", step)):
        if not callable(function):
            raise TypeError(f"{name} needs a function {what}, got {function!r}")
    try:
        given = list(inspect.signature(init).parameters)
        inspect.signature(init).bind(None, None)
    except ValueError:  # a function of C, which does not say
        return
    except TypeError:
        raise TypeError(
            f"{name} needs an init(key, x), got init{inspect.signature(init)}"
        ) from None
    if given[1:2] == ["shape"]:
        raise TypeError(
            f"{name} needs an init(key, x), got an initialiser, which takes a shape: wrap it, as in"
            " lambda key, x: initialiser(key, (x.shape[-1], features), x.dtype)"
        )


def _keyed(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
    """The step as a function of params, carry, x and key, however it takes the key, or does not."""
    signature = inspect.signature(step)
    given = signature.parameters
    by_position = [
        p for p in given.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    # A fourth one of another name that has a default is an option of the step, no place for a key.
    positional = any(p.kind is p.VAR_POSITIONAL for p in given.values()) or any(
        p.name == "key" or p.default is None or p.default is p.empty for p in by_position[3:4]
    )
    named = "key" in given and given["key"].kind is inspect.Parameter.KEYWORD_ONLY
    try:
        signature.bind(None, None, None, *[None] * positional, **{"key": None} if named else {})
    except TypeError:
        raise TypeError(
            f"{name} needs a step(params, carry, x) or step(params, carry, x, key=None), got"
            f" step{signature}"
        ) from None
    if named:
        return lambda params, carry, x, key=None: step(params, carry, x, key=key)
    if positional:
        return lambda params, carry, x, key=None: step(params, carry, x, key)
    return lambda params, carry, x, key=None: step(params, carry, x)  # noqa: ARG005


def _of_dtype(x: Any, dtype: Any) -> Any:
    def leaf(a: Any) -> Any:
        floating = jnp.issubdtype(a.dtype, jnp.floating)
        return jax.ShapeDtypeStruct(a.shape, dtype if floating else a.dtype)

    return jax.tree.map(leaf, x)


def _numbers(tree: Any) -> list[Any]:
    return [v for v in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(v), jnp.number)]


def _closed(step: Callable[..., Any], params: Any, carry: Any, x: Any) -> Any:
    """The carry in the dtype that the step gives it back in, where parameters and x are not of one."""

    def floating(tree: Any) -> set[Any]:
        found = map(jnp.result_type, _numbers(tree))
        return {kind for kind in found if jnp.issubdtype(kind, jnp.inexact)}

    def promoted(old: Any, new: Any) -> Any:
        if not jnp.issubdtype(old.dtype, jnp.inexact):
            return old
        return old.astype(jnp.promote_types(old.dtype, new.dtype))

    for _ in range(2):  # a leaf may be widened by another that has been
        if len(floating((params, carry, x))) < 2:
            return carry
        after, _ = jax.eval_shape(step, params, carry, x)
        if jax.tree.structure(after) != jax.tree.structure(carry):
            return carry  # `run` says what is wrong
        carry = jax.tree.map(promoted, carry, after)
    return carry


def _check_params(
    name: str, init: Callable[..., Any], params: Any, x: Any, error: Exception
) -> None:
    """Says so if a step has failed on parameters that were made for an x of another shape."""
    try:
        wanted = jax.eval_shape(init, jax.random.key(0), x)
    except (TypeError, ValueError):
        return
    if jax.tree.structure(wanted) != jax.tree.structure(params):
        return
    pairs = zip(jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(wanted), strict=True)
    for (path, leaf), want in pairs:
        if jnp.shape(leaf) != want.shape:
            raise WrongInput(
                f"{name} got {_described(x)}, but its params{jax.tree_util.keystr(path)} is"
                f" {list(jnp.shape(leaf))} and not {list(want.shape)}; initialise with an x of this size"
            ) from error


def _described(x: Any) -> str:
    shapes = [list(jnp.shape(leaf)) for leaf in jax.tree.leaves(x)]
    if len(shapes) == 1 and shapes[0]:
        return f"x with {shapes[0][-1]} features (shape {shapes[0]})"
    return f"x of shapes {', '.join(map(str, shapes))}"
