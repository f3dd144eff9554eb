"""Training from beginning to end: a loop on the device, and what the host does between its chunks."""

import logging
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxrnn.train import checks
from jaxrnn.train.checkpoints import CheckpointError, Checkpoints
from jaxrnn.train.data import Source, source
from jaxrnn.train.history import Diverged, History, Result
from jaxrnn.train.progress import interruptible, progress, sentence
from jaxrnn.train.sharding import anyone, on_mesh
from jaxrnn.train.state import State, copied, init
from jaxrnn.train.step import step

log = logging.getLogger("jaxrnn.train")


def fit(
    loss: Callable[..., Any],
    params: Any,
    optimizer: Any,
    data: Any,
    *,
    updates: int,
    key: Any = None,
    memory: Any = None,
    clip: Any = None,
    accumulate: int = 1,
    validate: Callable[[Any], Any] | None = None,
    every: int = 100,
    patience: int | None = None,
    chunk: int = 25,
    limit: int = 10,
    checkpoints: Checkpoints | None = None,
    resume: bool = False,
    sharding: Any = None,
    report: Callable[[int, dict[str, Any]], None] | None = None,
    bar: bool | None = None,
) -> Result:
    """Trains: updates in chunks on the device; between them validation, checkpoints, progress.

    A run is a function of its arguments, to the bit: neither the size of the chunks nor a stop in
    between changes a number of it, on the same devices with the same versions.

    Args:
      loss: as for `jaxrnn.train.step`, and so are `optimizer`, `clip` and `accumulate`.
      params: as for `jaxrnn.train.init`, and so are `key` and `memory`. What of them is on a mesh
        stays as it is placed.
      data: a pure function of the update number (int32, traced) that returns its batch, or an
        iterable of batches. What can be iterated again begins anew when it ends; an iterator that
        ends, ends the training. A resumed run skips the batches it has had.
      updates: how many updates there are in all, those before a resumption included.
      validate: params -> loss, or a dict of numbers with a "loss". Called by the host before the
        first update, after every `every` and after the last, also where data ends or Ctrl-C comes.
        The params of the least loss are kept.
      every: updates from one validation, and checkpoint, to the next.
      patience: stops after so many validations without a new best.
      chunk: at most so many updates run at once. Progress and Ctrl-C wait for them; the batches of
        an iterable are stacked and transferred by chunks.
      limit: raises `Diverged` after so many updates in a row were skipped, as loss or gradient was
        not finite.
      checkpoints: written to every `every` updates (or its own `every`), at the end, and when
        Ctrl-C is pressed, which ends the training after the running chunk.
      resume: goes on from the latest sound checkpoint, if there is one.
      sharding: a `NamedSharding` of the batches, or a tree of them that is a prefix of a batch. With
        several processes an iterable gives each its own part of the global batch.
      report: called as `report(count, metrics)` after each chunk, with means over the chunk, and
        "validation" if there has been one.
      bar: whether to show a progress bar; None if and only if there is a terminal.

    Returns:
      A `Result(state, best, history, stopped)`.

    Raises:
      TypeError, ValueError: if the arguments do not fit, before anything is trained.
      Diverged: see `limit`. Nothing is lost: the result so far is its `.result`.
      CheckpointError: if there is nothing sound to resume from, or a checkpoint cannot be written.

    Examples:
      >>> import jax, jax.numpy as jnp, optax
      >>> from jaxrnn import train
      >>> def data(n):
      ...     return jax.random.normal(jax.random.fold_in(jax.random.key(0), n), (8,))
      >>> def loss(params, batch, key):
      ...     return jnp.mean((batch * params - batch * 3) ** 2)
      >>> result = train.fit(loss, jnp.zeros(()), optax.sgd(0.1), data, updates=100)
      >>> result.stopped, round(float(result.state.params), 3), len(result.history.losses)
      ('finished', 3.0, 100)
    """
    checks.check_fit(updates, every, patience, chunk, limit, validate, checkpoints, resume)
    checks.check_sharding(sharding)
    update = step(loss, optimizer, clip=clip, accumulate=accumulate)
    state = on_mesh(init(params, optimizer, key=key, memory=memory), sharding)
    result = Result(state, None, History({}, []), "")
    if checkpoints is not None:
        result = checkpoints.begin(result, resume)
    batches = source(data, chunk, sharding, int(result.state.count))
    metrics = checks.check_update(update, result.state, batches.like())
    loop = device_loop(update, batches, metrics, result.state, chunk, limit)
    saves = every if checkpoints is None or checkpoints.every is None else checkpoints.every

    def cut(count: int) -> int:
        """The next boundary. The numbers do not depend on it, but what is saved and validated does."""
        return min(updates, *((count // k + 1) * k for k in (chunk, every, saves)))

    try:
        with interruptible() as pressed, progress(updates, int(result.state.count), bar) as show:
            if validate is not None and not result.history.validations:
                result = validated(result, validate)
            count = saved = int(result.state.count)
            taken, stop = batches.take(count, cut(count))
            while not (why := reason(result, count, updates, stop, patience, anyone(pressed()))):
                state, rows = loop(result.state, taken, stop)
                begun, (taken, stop) = count, batches.take(stop, cut(stop))  # while that is running
                count = int(state.count)
                rows = {name: np.asarray(row)[: count - begun] for name, row in rows.items()}
                history = result.history.extended(rows)
                result = result._replace(state=state, history=history)
                if int(state.failing) >= limit:
                    raise Diverged(finished(result, "diverged"))
                means = {name: float(row.mean()) for name, row in rows.items() if row.ndim == 1}
                if validate is not None and (count % every == 0 or count == updates):
                    result = validated(result, validate)
                    means["validation"] = result.history.validations[-1]["loss"]
                    log.info("update %d: %s", count, sentence(means))
                if checkpoints is not None and count % saves == 0:
                    checkpoints.save(result)
                    saved = count
                if report is not None and jax.process_index() == 0:
                    report(count, means)
                show(count, sentence(means))
            # The last params may be the best. A run that was interrupted goes on from a checkpoint as
            # if it had not been, so that this validation is for who waits for the result alone.
            complete = with_last_validation(result, validate) if why != "interrupted" else result
            if checkpoints is not None and (saved != count or count == 0):
                checkpoints.save(complete)
            result = with_last_validation(complete, validate)
    except CheckpointError as error:
        error.result = finished(result, "failed")
        raise
    finally:
        if checkpoints is not None:
            checkpoints.finish()
    log.info("%s after update %d", why, count)
    return finished(result, why)


def device_loop(
    update: Callable[..., Any],
    batches: Source,
    metrics: dict[str, Any],
    like: State,
    chunk: int,
    limit: int,
) -> Callable[[State, Any, int], tuple[State, dict[str, Any]]]:
    """The function state, taken, stop -> state, metrics of each update up to number `stop`.

    How many updates there are is no constant of the program. So there is one program for chunks of
    all sizes, and a run that is cut differently computes the same bits.
    """

    def advance(state: State, taken: Any, stop: Any) -> tuple[State, dict[str, Any]]:
        start = state.count

        def more(carry: Any) -> Any:
            state, _ = carry
            return (state.count < stop) & (state.failing < limit)

        def once(carry: Any) -> Any:
            state, rows = carry
            i = state.count - start
            state, row = update(state, batches.pick(taken, i, state.count))
            return state, {name: rows[name].at[i].set(row[name]) for name in rows}

        rows = {name: jnp.zeros((chunk, *m.shape), m.dtype) for name, m in metrics.items()}
        return jax.lax.while_loop(more, once, (state, rows))

    # What is on a mesh stays as it is placed there, whatever the compiler would find better.
    meshed = jax.tree.map(lambda leaf: isinstance(leaf.sharding, NamedSharding), like)
    places = jax.tree.map(lambda leaf, is_on: leaf.sharding if is_on else None, like, meshed)
    everywhere = places.count and NamedSharding(places.count.mesh, PartitionSpec())
    return jax.jit(advance, donate_argnums=0, out_shardings=(places, everywhere))


def validated(result: Result, validate: Callable[[Any], Any]) -> Result:
    """With one validation more, and the best params."""
    count, history = int(result.state.count), result.history
    entry = {"count": count, **checks.check_validation(validate(result.state.params))}
    history = history._replace(validations=[*history.validations, entry])
    best = result.best
    if best is None or history.best() == len(history.validations) - 1:
        best = jax.tree.map(copied, result.state.params)  # the next update takes these
    return result._replace(best=best, history=history)


def with_last_validation(result: Result, validate: Callable[[Any], Any] | None) -> Result:
    """With a validation of these params, if there is none yet."""
    seen = [entry["count"] for entry in result.history.validations[-1:]]
    if validate is None or seen == [int(result.state.count)]:
        return result
    return validated(result, validate)


def reason(
    result: Result, count: int, updates: int, stop: int, patience: int | None, pressed: bool
) -> str:
    """Why to stop, or nothing."""
    if count >= updates:
        return "finished"
    if patience is not None and result.history.stale() >= patience:
        return "patience"
    if pressed:
        return "interrupted"
    return "data" if stop == count else ""


def finished(result: Result, stopped: str) -> Result:
    best = result.best
    if best is None:
        best = jax.tree.map(copied, result.state.params)
    return result._replace(best=best, stopped=stopped)
