"""Cells, layers, and `run`: what a recurrence is and how to ask for it. No mathematics."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn import methods
from jaxrnn.checks import as_carry, as_flags, check_arguments, check_carry, check_step, check_way
from jaxrnn.engine.eager import compiled
from jaxrnn.engine.meshes import is_explicit, over_time, resharded, split_alike, types
from jaxrnn.guard import Inputs, all_steps, guarded, template
from jaxrnn.methods.base import Method, Problem
from jaxrnn.origin import Remembered, one_of_equal


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Cell(Remembered):
    """A recurrence as pure functions.

        init(key, x) -> params                      x: one time step, an array or ShapeDtypeStruct
        carry(params, x) -> carry                   the carry before the first step
        step(params, carry, x, key=None) -> (carry, y)

    `x` is a pytree of arrays [*batch, ...] with any number of batch axes. `carry` may look at the
    shape and dtype of `x`, not at its values; it may depend on `params` (a learned carry). Make it
    by `jnp.zeros_like(x, shape=..., dtype=...)`: then it varies over the mesh axes that x varies
    over. Noise is drawn from `key`, one key for each time step; no key means no noise.

    Noise that is drawn once for a whole sequence (a dropout mask that stays) is put into the
    parameters before the first step, by

        noise(params, x, key) -> params             None where there is none

    and `carry` and `step` take such parameters as they take those of `init`.

    A cell that can take all T steps at once, by products of matrices over chunks of time, says how:

        parallel(params, carry, xs, *, valid, resets, chunk) -> (carry, ys)

    gives what `step` gives from the first x to the last, to rounding. `xs` has a leading time axis and
    is 0 at invalid steps; `valid` and `resets` are bool [T, *batch] or None, with no reset at an invalid
    step; what y is at an invalid step does not matter; `chunk` is a number of steps, None for a good
    one. The form is that of this very `carry` and `step`: who replaces one of them, replaces it too.
    """

    name: str
    init: Callable[..., Any]
    carry: Callable[..., Any]
    step: Callable[..., tuple[Any, Any]]
    noise: Callable[..., Any] | None = None
    parallel: Callable[..., tuple[Any, Any]] | None = None


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Layer(Remembered):
    """What needs a whole sequence, as pure functions.

    `init`, `carry`, `step` and `noise` are those of a `Cell`; `step` is None where there is no
    streaming form (a bidirectional layer). In addition

        run(params, xs, carry, *, valid, resets, keys, reverse, method) -> (carry, ys)

    with `valid` and `resets` bool [T, *batch] or None, and `keys` one for each time step or None. A
    layer that makes one y of several x says how many: `stride` s gives ys [⌈T/s⌉, *batch, ...]. A cell
    lifts to a layer by itself.
    """

    name: str
    init: Callable[..., Any]
    carry: Callable[..., Any]
    step: Callable[..., tuple[Any, Any]] | None
    run: Callable[..., tuple[Any, Any]]
    noise: Callable[..., Any] | None = None
    stride: int = 1


def run(
    layer: Cell | Layer,
    params: Any,
    xs: Any,
    carry: Any = None,
    *,
    lengths: Any = None,
    mask: Any = None,
    resets: Any = None,
    key: Any = None,
    reverse: bool = False,
    method: Method | None = None,
) -> tuple[Any, Any]:
    """Runs a cell or a layer through time: (carryₜ, yₜ) = step(params, carryₜ₋₁, xₜ).

    Args:
      layer: a `Cell` or a `Layer`.
      params: its parameters, as `layer.init` makes them.
      xs: the inputs, a pytree of arrays [T, *batch, ...].
      carry: the carry before the first step; `layer.carry(params, x)` if None.
      lengths: int [*batch], an array or a list; row b is valid at t < lengths[b].
      mask: bool [T, *batch]; where it is false no step is taken. Not together with `lengths`.
      resets: bool [T, *batch]; where true at t, the carry is put back to `layer.carry(params, x)`
        before step t: by selection, so that a NaN does not survive. With `done[t]` saying that the
        episode ended with step t, as environments report it, this is `done` one step later:
        resets[t] = done[t-1]. A reset at an invalid step does nothing, as nothing happens there.
      key: a key made by `jax.random.key`. One key per time step, and one for the whole sequence, are
        derived from it, the same ones under every method. None means no noise.
      reverse: runs from T-1 down to 0; ys[t] stays aligned with xs[t].
      method: how to run, one of `jaxrnn.methods`; None chooses by structure, size and device.

    Returns:
      The carry after the last valid step, and the outputs ys, a pytree of arrays [T, *batch, ...]. At
      an invalid step the carry is held and y is 0, whatever x is: NaN or Inf there reaches no output
      and no gradient. The dtype is the cell's; all cells of this library give
      `jnp.promote_types(params, xs)`.

    Raises:
      TypeError, ValueError: if the arguments do not fit, before anything runs.
      NotImplementedError: if `method` cannot serve, with the reason and a remedy.

    Examples:
      >>> import jax, jax.numpy as jnp, jaxrnn
      >>> cell = jaxrnn.cells.lstm(8)
      >>> xs = jnp.ones((5, 2, 3))                              # [T, B, D]
      >>> params = cell.init(jax.random.key(0), xs[0])
      >>> carry, ys = jaxrnn.run(cell, params, xs, lengths=jnp.array([5, 3]))
      >>> ys.shape, bool((ys[3:, 1] == 0).all())
      ((5, 2, 8), True)
    """
    lengths, mask = as_flags("lengths", lengths), as_flags("mask", mask)
    resets = as_flags("resets", resets)
    check_arguments(layer, xs, lengths, mask, resets, key)
    check_way(xs, reverse, method)
    carry = as_carry(layer, params, xs, carry)

    def recur(layer, params, xs, carry, lengths, mask, resets, key):
        check_carry(layer, params, xs, carry, lengths, mask, resets)
        flags = time_flags(xs, lengths, mask, resets, key)
        given = params
        try:
            if key is not None:
                params = draw(layer, params, template(xs), sequence_key(key))
            first = first_carry(layer, params, template(xs)) if carry is None else carry
            return lift(layer).run(params, xs, first, **flags, reverse=reverse, method=method)
        except (TypeError, ValueError, AttributeError):
            check_step(layer, given, xs, key)  # may know a better word for it
            raise

    def program(layer, *arrays):
        if method is None or method.axis is None:
            return recur(layer, *arrays)
        return over_time(partial(recur, layer), method.axis, *arrays)

    arrays = jax.tree.map(as_array, (params, xs, carry, lengths, mask, resets, key))
    return compiled(one_of_equal(layer), ("run", bool(reverse), method), program, *arrays)


def time_flags(xs: Any, lengths: Any, mask: Any, resets: Any, key: Any) -> dict[str, Any]:
    """What a layer is told of each time step: whether it is valid, whether to reset, its key."""
    length = jax.tree.leaves(xs)[0].shape[0]
    if lengths is not None:
        times = jnp.arange(length).reshape(length, *(1 for _ in lengths.shape))
        mask = times < lengths[None]
    if key is not None:
        key = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(length))
    return {"valid": mask, "resets": resets, "keys": key}


def sequence_key(key: Any) -> Any:
    """The key of what is drawn once: that of a time step that no sequence reaches."""
    return jax.random.fold_in(key, jnp.uint32(0xFFFFFFFF))


def draw(layer: Cell | Layer, params: Any, x: Any, key: Any) -> Any:
    """The parameters of one sequence: those of `init` with what is drawn once for it."""
    return params if layer.noise is None else layer.noise(params, x, key)


def first_carry(layer: Cell | Layer, params: Any, x: Any) -> Any:
    """The carry before the first step, split over mesh axes as the step gives it back."""
    first = layer.carry(params, x)
    if layer.step is None or not any(map(is_explicit, jax.tree.leaves(x))):
        return first
    for _ in jax.tree.leaves(first):  # what one leaf is split over another may be after it
        after, _ = types(layer.step, params, first, x)
        if jax.tree.structure(after) != jax.tree.structure(first):
            return first  # `check_step` says what is wrong
        if all(map(split_alike, jax.tree.leaves(first), jax.tree.leaves(after))):
            break
        first = jax.tree.map(resharded, first, after)
    return first


def as_array(value: Any) -> Any:
    return value if isinstance(value, jax.Array) else jnp.asarray(value)


def lift(layer: Cell | Layer) -> Layer:
    """The layer that runs a cell through time; a layer is itself."""
    if isinstance(layer, Layer):
        return layer

    def run_cell(params, xs, carry, *, valid, resets, keys, reverse, method):
        problem = problem_of(layer, params, xs, carry, valid, resets, keys, reverse)
        return (method or methods.auto())(problem)

    parts = {f: getattr(layer, f) for f in ("name", "init", "carry", "step", "noise")}
    return Layer(**parts, run=run_cell)


def problem_of(
    cell: Cell, params: Any, xs: Any, carry: Any, valid: Any, resets: Any, keys: Any, reverse: bool
) -> Problem:
    """What a method is given to run: the cell's step with masks, resets and noise in it."""
    initial = None if resets is None else first_carry(cell, params, template(xs))
    inputs = Inputs(xs, valid, resets, keys)

    def parallel(arguments: Any, chunk: int | None) -> tuple[Any, Any]:
        assert cell.parallel is not None
        params, carry, inputs = arguments
        return all_steps(cell.parallel, params, carry, inputs, reverse, chunk)

    return Problem(
        name=cell.name,
        step=guarded(cell.step, params, initial),
        carry=carry,
        xs=inputs,
        reverse=reverse,
        parallel=parallel if cell.parallel is not None else None,
        arguments=(params, carry, inputs),
    )
