"""`jaxrnn.scan`: a drop-in for `jax.lax.scan` that keeps out of the loop what need not be in it."""

from functools import partial
from typing import Any

import jax
from jax import core, lax

from jaxrnn.checks import plain
from jaxrnn.engine.eager import compiled
from jaxrnn.engine.loop import Options, Runner, execute
from jaxrnn.engine.trace import Step, Traced, trace


def scan(
    f: Step,
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
    _split_transpose: bool = False,
    *,
    chunk: int | None = None,
    remat: bool = False,
    hoist: bool = True,
    defer: bool = True,
    feature_major: bool = False,
) -> tuple[Any, Any]:
    """Scans `f` over the leading axis of `xs`, as `jax.lax.scan` does, and faster.

    `f` is any step function, `(carry, x) -> (carry, y)`: a lambda that closes over its parameters, a
    cell of Flax, Haiku or Equinox. It is traced and taken apart: what needs neither carry nor x runs
    once, what needs no carry before the loop, what no carry needs after it, each for all time steps
    at once; the gradients of weights are computed after the backward loop. Whatever cannot be taken
    out stays in the loop. The result is that of `jax.lax.scan` up to float reassociation, under
    every transformation.

    Args:
      f, init, xs, length, reverse, unroll: as for `jax.lax.scan`.
      _split_transpose: taken, as `jax.lax.scan` takes it, which does nothing with it in current JAX.
      chunk: runs `chunk` steps at a time (a scan of scans): fewer arrays of length T, better use of
        the cache. T need not be a multiple; one that is a symbol (`jax.export`) runs in one piece.
      remat: keeps only the carries between chunks for the backward pass and recomputes the rest:
        memory O(T/chunk + chunk) instead of O(T).
      hoist: whether to compute before and after the loop what can be.
      defer: whether to compute weight gradients after the backward loop.
      feature_major: whether to hold [F, B] in the loop where the step says [B, F], so that a product
        is W · v with W transposed before the loop: faster on CPUs where B is small and the weight
        large. A carry whose leaves do not share their first axis runs as it is written.

    Returns:
      The last carry and the stacked outputs.

    Raises:
      ValueError: if `chunk` is not a positive integer, or `remat` is set without it.
      TypeError: as `jax.lax.scan`, if the carry changes its type.

    Examples:
      >>> import jax.numpy as jnp, jaxrnn
      >>> decay = jnp.array([0.5, 0.25])
      >>> jaxrnn.scan(lambda h, x: (decay * h + x, h), jnp.zeros(2), jnp.ones((3, 2)))[0].tolist()
      [1.75, 1.3125]
    """
    options = Options(plain(unroll), plain(chunk), remat, hoist, defer, feature_major)
    check_options(options)
    if not callable(f) or not is_of_arrays(init) or not is_of_arrays(xs, axes=1):
        return lax.scan(f, init, xs, length, reverse, unroll)

    def run(f: Step, init: Any, xs: Any) -> tuple[Any, Any]:
        return run_traced(trace(f, init, xs, length, reverse, unroll), reverse, options)

    # As it is written: True, which unrolls everything, equals 1, which unrolls nothing.
    settings = repr((length, reverse, options))
    return compiled(f, ("scan", settings), run, init, xs)


def is_of_arrays(tree: Any, axes: int = 0) -> bool:
    """Whether all leaves are arrays of so many axes at least.

    JAX has other types, references to mutable arrays among them, and its own words for what is none.
    """
    try:
        types: list[Any] = [jax.typeof(leaf) for leaf in jax.tree.leaves(tree)]
    except TypeError:
        return False
    return all(isinstance(a, core.ShapedArray) and a.ndim >= axes for a in types)


def run_traced(
    traced: Traced, reverse: bool, options: Options, runner: Runner | None = None
) -> tuple[Any, Any]:
    """Runs a traced scan, or leaves it to JAX where there is nothing the engine may move."""
    loop = traced.loop
    if loop is None or loop.step.effects or (isinstance(loop.length, int) and loop.length == 0):
        return traced.run_as_traced()
    return traced.run(partial(execute, reverse=reverse, options=options, runner=runner))


def check_options(options: Options) -> None:
    chunk = options.chunk
    if chunk is not None and (isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1):
        raise ValueError(f"chunk must be a positive number of steps or None, got {chunk!r}")
    if options.remat and chunk is None:
        raise ValueError(
            "remat=True recomputes one chunk at a time and needs chunk=, got chunk=None;"
            " a chunk near the square root of T keeps the least memory"
        )
