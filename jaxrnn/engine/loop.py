"""Runs a split step through time: once, before, during, after, in one piece or in chunks."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxrnn.engine.defer import deferred
from jaxrnn.engine.jaxprs import dtype, evaluate, is_var, shape, value
from jaxrnn.engine.layout import feature_major
from jaxrnn.engine.recurrence import Recurrence, plain
from jaxrnn.engine.split import Parts
from jaxrnn.engine.timewise import all_times
from jaxrnn.engine.trace import Loop


class Options(NamedTuple):
    """How a loop meets time. None of these changes a result beyond float reassociation."""

    unroll: int | bool = 1
    chunk: int | None = None
    remat: bool = False
    hoist: bool = True
    defer: bool = True
    feature_major: bool = False


# Runs a recurrence: its step and length, the values of what never changes, of the first carry and of xs
# -> the last carry and the outputs.
Runner = Callable[[Recurrence, Sequence[Any], Sequence[Any], Sequence[Any]], tuple[list, list]]


def execute(
    loop: Loop,
    values: Sequence[Any],
    *,
    reverse: bool,
    options: Options,
    runner: Runner | None = None,
) -> list[Any]:
    """Runs a loop on the values of its consts, initial carry and xs; returns carry and ys.

    What is left of the step when all that needs no carry is gone is run by `runner`: if None, as a loop.
    """
    parts = loop.parts if options.hoist else loop.unhoisted
    at = dict(zip(loop.step.invars, values, strict=True))
    consts = [at[v] for v in parts.consts]
    known = [*consts, *evaluate(parts.once, *consts)]
    run = runner or looping(options)
    stretch = partial(_stretch, parts, known, reverse, options.unroll, run)
    init, xs = [at[v] for v in parts.carry], [at[v] for v in parts.xs]
    # Of T steps, T a symbol, chunks would leave a number over that JAX cannot reckon with.
    if options.chunk is None or not isinstance(loop.length, int):
        last, made = stretch(init, xs, loop.length)
    else:
        last, made = _in_chunks(stretch, init, xs, loop.length, reverse, options)

    at |= zip(parts.invariant, known, strict=True)
    final = {**at, **dict(zip(parts.carry, last, strict=True))}
    streams = dict(zip(parts.after.outvars, made, strict=True))

    def all_steps(v: Any) -> Any:
        if is_var(v) and v in streams:
            return streams[v]
        constant = jnp.asarray(value(at, v), dtype(v))
        return jnp.broadcast_to(constant, (loop.length, *shape(v)))

    carry = loop.step.invars[loop.num_consts : loop.num_consts + loop.num_carry]
    return [final[v] for v in carry] + [all_steps(v) for v in parts.ys]


def looping(options: Options) -> Runner:
    """Runs a recurrence step by step."""
    loop = deferred if options.defer else plain
    return partial(feature_major, loop) if options.feature_major else loop


def _stretch(
    parts: Parts,
    known: Sequence[Any],
    reverse: bool,
    unroll: int | bool,
    run: Runner,
    carry: Sequence[Any],
    xs: Sequence[Any],
    length: int,
) -> tuple[list[Any], list[Any]]:
    """Runs `length` steps: all that comes before the loop, the loop, all that comes after."""
    n, m = len(known), len(parts.carry)
    streams: dict[Any, Any] = dict(zip(parts.xs, xs, strict=True))
    before = all_times(parts.before, [*known, *xs], parts.xs)
    streams.update(zip(parts.before.outvars, before, strict=True))

    recurrence = Recurrence(parts.during, n, m, length, reverse, unroll)
    inside = [streams[v] for v in parts.during.invars[n + m :]]
    # A step without a carry may need no loop at all.
    last, outs = run(recurrence, known, carry, inside) if parts.during.outvars else ([], [])
    streams.update(zip(parts.during.outvars[m:], outs, strict=True))

    into_after = parts.after.invars[n:]
    after = all_times(parts.after, [*known, *(streams[v] for v in into_after)], into_after)
    return last, after


def _in_chunks(
    stretch: Callable[..., Any],
    init: Sequence[Any],
    xs: Sequence[Any],
    length: int,
    reverse: bool,
    options: Options,
) -> tuple[list[Any], list[Any]]:
    """A scan of stretches of `chunk` steps, and one shorter stretch for what is left over."""
    size = min(options.chunk or length, length)
    count, left = divmod(length, size)
    # In both directions the left-over steps are the last to run.
    whole = slice(left, None) if reverse else slice(None, count * size)
    rest = slice(None, left) if reverse else slice(count * size, None)

    def chunk(length: int) -> Callable[..., Any]:
        def run(carry: list[Any], xs: list[Any]) -> tuple[list[Any], list[Any]]:
            return stretch(carry, xs, length)

        return jax.checkpoint(run, prevent_cse=False) if options.remat else run

    chunked = [x[whole].reshape(count, size, *x.shape[1:]) for x in xs]
    carry, ys = lax.scan(chunk(size), list(init), chunked, count, reverse)
    ys = [y.reshape(count * size, *y.shape[2:]) for y in ys]
    if left:
        carry, last = chunk(left)(carry, [x[rest] for x in xs])
        pairs = zip(last, ys, strict=True) if reverse else zip(ys, last, strict=True)
        ys = [jnp.concatenate(pair) for pair in pairs]
    return carry, ys
