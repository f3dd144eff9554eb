"""The sweep: settings through one program, and what the host does between its calls."""

import itertools
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxrnn.train.data import OnDevice
from jaxrnn.train.progress import interruptible, progress, sentence
from jaxrnn.train.state import State
from jaxrnn.train.sweep import checks, settings
from jaxrnn.train.sweep.batches import source
from jaxrnn.train.sweep.plan import Plan, choose
from jaxrnn.train.sweep.program import AXIS, Single, Trial, many, read
from jaxrnn.train.sweep.table import Table

log = logging.getLogger("jaxrnn.train")


def sweep(
    make: Callable[..., Trial],
    grid: Any,
    data: Any,
    *,
    updates: int,
    every: int | None = None,
    at_once: int | None = None,
    devices: Sequence[Any] | int | None = None,
    keep_params: bool = True,
    report: Callable[[int, dict[str, Any]], None] | None = None,
    bar: bool | None = None,
) -> Table:
    """Trains once for each setting of a grid, all with one program, compiled once.

    Each row is what training with that setting alone gives, to rounding. What can be swept is whatever
    is a number: learning rates and all of Optax's hyperparameters, seeds, rates of dropout and zoneout,
    initial scales, time constants, and the number of units (`jaxrnn.inside.narrow`).

    Args:
      make: `make(**setting) -> train.Trial(state, update, validate)`, a pure function: it is traced, for
        numbers that stand for all settings. `state` is that of `train.init`, `update` that of
        `train.step`; `validate(params)` returns a loss or a dict of numbers with a "loss", or is None.
      grid: a dict of names and their values: every combination, the last name varying fastest. Or a
        list of dicts: these settings. Integers stay integers, so `jax.random.key(seed)` works.
      data: a pure function of the update number (int32, traced) that returns its batch, or an iterable
        of batches, which are put on the device as a whole and begin anew where they end.
      updates: how many updates each setting gets.
      every: updates from one validation to the next, and from one look at progress and Ctrl-C to the
        next; a tenth of `updates` if None. The last update is followed by a validation too.
      at_once: so many settings run as one by `vmap`; 1 is one after another. None chooses from measured
        rules by the sizes of an update and the kind of device; the table says why.
      devices: those to spread the settings over, or how many. None takes as many as there are cores or
        accelerators.
      keep_params: whether the table holds the params of every setting.
      report: called as `report(done, metrics)` after each call of the program, with the number of
        updates done, those of all settings counted, and the least loss so far.
      bar: whether to show a progress bar; None if and only if there is a terminal.

    Returns:
      A `Table`. Where Ctrl-C was pressed it holds what was trained so far, and NaN for the rest.

    Raises:
      TypeError, ValueError: if the arguments do not fit, before anything is trained.

    Examples:
      >>> import jax, jax.numpy as jnp, optax
      >>> from jaxrnn import train
      >>> def make(learning_rate, seed):
      ...     def loss(params, batch, key):
      ...         return jnp.mean((params - batch) ** 2)
      ...     optimizer = optax.sgd(learning_rate)
      ...     start = jax.random.normal(jax.random.key(seed))
      ...     return train.Trial(train.init(start, optimizer), train.step(loss, optimizer))
      >>> grid = {"learning_rate": [0.01, 0.3], "seed": range(3)}
      >>> table = train.sweep(make, grid, [jnp.ones(4)], updates=20)
      >>> len(table.rows), table.best()["learning_rate"]
      (6, 0.3)
    """
    checks.check_sweep(updates, every, at_once, devices)
    listed = settings.listed(grid)
    columns = settings.columns(listed)
    settings.check_make(make, listed[0])
    every = min(updates, every or math.ceil(updates / 10))
    batches = source(data, updates)

    began = time.monotonic()
    # Python numbers: in a sweep they have the types that they have outside.
    example = {name: column[0].item() for name, column in columns.items()}
    single = read(make, example, batches.like())
    plan = choose(
        len(listed), single.update.jaxpr, single.state_bytes, at_once=at_once, devices=devices
    )
    log.info("%d settings, %s: %s", len(listed), plan.how, plan.because)
    runner = Runner(single, batches, plan, every)
    found = Found(len(listed), updates, every, single.numbers)

    def table(stopped: str) -> Table:
        return found.table(listed, plan, time.monotonic() - began, stopped)

    with interruptible() as pressed, progress(updates * len(listed), 0, bar) as show:
        for first in range(0, len(listed), plan.slots):
            rows = slice(first, min(first + plan.slots, len(listed)))
            here = rows.stop - first
            state = runner.begin({name: column[rows] for name, column in columns.items()})
            for start, stop in itertools.pairwise(found.cuts):
                state, losses, numbers = runner.run(state, start, stop)
                found.losses[rows, start:stop] = losses[:here, : stop - start]
                for name, column in numbers.items():
                    found.validations[name][rows, found.cuts.index(stop) - 1] = column[:here]
                done, least = first * updates + here * stop, found.least()
                if report is not None:
                    report(done, least)
                show(done, sentence(least))
                if pressed():
                    break
            found.keep(rows, state, keep_params)
            if pressed():
                return table("interrupted")
    return table("finished")


class Runner:
    """The compiled program, and how rows become what it takes and come back."""

    def __init__(self, single: Single, batches: OnDevice, plan: Plan, every: int):
        self.single, self.plan = single, plan
        mesh = Mesh(np.asarray(plan.devices), (AXIS,))
        self.each, everywhere = NamedSharding(mesh, P(AXIS)), NamedSharding(mesh, P())
        self.program = many(single, batches, every, plan, mesh)
        taken, _ = batches.take(0, 0)
        self.consts, self.taken = jax.device_put((single.consts, taken), everywhere)

    def begin(self, columns: dict[str, np.ndarray]) -> State:
        """The states of some settings, to be made by the first updates."""
        lead = (len(self.plan.devices) * self.plan.rounds, self.plan.at_once)

        def filled(column: np.ndarray) -> np.ndarray:
            # What is too few is filled up with the last: one shape, one program.
            return np.pad(column, (0, self.plan.slots - len(column)), mode="edge").reshape(lead)

        self.settings = jax.device_put(jax.tree.map(filled, columns), self.each)
        like = self.single.begin.shape
        zeros = jax.tree.map(lambda leaf: np.zeros((*lead, *leaf.shape), leaf.dtype), like)
        return jax.device_put(zeros, self.each)

    def run(self, state: State, start: int, stop: int) -> tuple[State, Any, dict[str, Any]]:
        """The states after the updates, their losses [slots, every], and numbers [slots]."""
        cut = np.int32(start), np.int32(stop)
        state, losses, numbers = self.program(self.consts, self.settings, state, *cut, self.taken)
        return state, flat(losses), flat(numbers)


class Found:
    """What is known of the rows so far."""

    def __init__(self, rows: int, updates: int, every: int, numbers: list[str]):
        self.cuts = [*range(0, updates, every), updates]
        self.losses = np.full((rows, updates), np.nan)
        marks = len(self.cuts) - 1
        self.validations = {name: np.full((rows, marks), np.nan) for name in numbers}
        self.skipped = np.zeros(rows, int)
        self.params: list[Any] = []

    def keep(self, rows: slice, state: State, keep_params: bool) -> None:
        here = rows.stop - rows.start
        self.skipped[rows] = flat(state.skipped)[:here]
        if keep_params:
            self.params.append(jax.tree.map(lambda leaf: leaf[:here], flat(state.params)))

    def least(self) -> dict[str, float]:
        """The least loss so far of any row, validated if there is such a thing."""
        name, seen = "loss", self.losses
        if self.validations:
            name, seen = "validation", self.validations["loss"]
        finite = seen[np.isfinite(seen)]
        return {name: float(finite.min())} if finite.size else {}

    def table(self, listed: list[Any], plan: Plan, seconds: float, stopped: str) -> Table:
        params = None
        if self.params:
            params = jax.tree.map(lambda *parts: np.concatenate(parts), *self.params)
        return Table(
            settings=listed,
            losses=self.losses,
            counts=np.asarray(self.cuts[1:]),
            validations=self.validations,
            skipped=self.skipped,
            params=params,
            plan=plan,
            seconds=seconds,
            stopped=stopped,
        )


def flat(tree: Any) -> Any:
    """Arrays [devices · rounds, at once, ...] as those of the host, [slots, ...]."""
    return jax.tree.map(lambda leaf: np.asarray(leaf).reshape(-1, *leaf.shape[2:]), tree)
