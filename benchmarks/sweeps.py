"""Sweeps against training one setting after another: the same updates, compiled once as well."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxrnn
from benchmarks import clock, gate, machine
from benchmarks.rows import Row
from benchmarks.run import Effort, circumstances
from jaxrnn import train
from jaxrnn.train.sweep.batches import source
from jaxrnn.train.sweep.plan import Plan, choose
from jaxrnn.train.sweep.program import Single, read
from jaxrnn.train.sweep.run import Runner

ALONE = "one after another"  # a call of a compiled training for each setting, on one device
CHOSEN = "chosen"
WAYS = "chosen,1:1,16:1,1,2,4,8"


@dataclass(frozen=True)
class SweepCase:
    """Trainings of a cell on batches [length, batch, inputs], with as many settings."""

    cell: str
    batch: int
    length: int
    features: int
    settings: int = 16
    updates: int = 8
    inputs: int = 16

    @property
    def name(self) -> str:
        shape = f"B={self.batch} T={self.length} H={self.features}"
        return f"{self.cell} {shape} n={self.settings}"

    def tiny(self, batch: int) -> "SweepCase":
        return replace(self, batch=batch, length=12, features=8, settings=4, updates=2)

    def columns(self) -> dict[str, np.ndarray]:
        rates = np.geomspace(1e-4, 1e-2, self.settings, dtype=np.float32)
        return {"learning_rate": rates, "seed": np.arange(self.settings, dtype=np.int32)}

    def batches(self) -> list[np.ndarray]:
        shape = (self.updates, self.length, self.batch, self.inputs)
        return list(np.random.default_rng(0).standard_normal(shape, dtype=np.float32))

    def make(self, learning_rate: Any, seed: Any) -> train.Trial:
        cell = getattr(jaxrnn.cells, self.cell)(self.features)
        x = jax.ShapeDtypeStruct((self.batch, self.inputs), np.float32)
        readout = jnp.ones(self.features) / self.features
        params = cell.init(jax.random.key(seed), x), readout

        def loss(params: Any, xs: Any, key: Any) -> jax.Array:
            del key  # no noise
            _, ys = jaxrnn.run(cell, params[0], xs)
            return jnp.mean(jnp.square(ys @ params[1] - xs[..., 0]))

        optimizer = optax.adam(learning_rate)
        return train.Trial(train.init(params, optimizer), train.step(loss, optimizer))


# As many updates as make the beginning of a sweep, some milliseconds, a small part of it.
_UPDATES = {1: 64, 8: 24, 32: 8}
CASES = [SweepCase("lstm", b, 32, h, updates=n) for b, n in _UPDATES.items() for h in (32, 64, 128)]
CASES += [SweepCase(cell, 8, 32, 64, updates=24) for cell in ("gru", "elman")]
# What the chosen way must gain over one after another, on two cores.
TARGETS = {c.name: 1.5 if c.batch <= 8 and c.features <= 64 else 1.0 for c in CASES}


class Way(NamedTuple):
    """How to run a sweep; None is chosen."""

    at_once: int | None
    devices: int | None

    @property
    def name(self) -> str:
        if self.at_once is None:
            return CHOSEN
        where = "" if self.devices is None else f" on {self.devices} device"
        return f"{self.at_once} at once{where}"


def parse(text: str) -> list[Way]:
    """Ways from `chosen,1:1,4`: so many at once, and after a colon on how many devices.

    Raises:
      ValueError: with one line that says what is wrong.
    """
    made = []
    for part in filter(None, map(str.strip, text.split(","))):
        numbers = [] if part == CHOSEN else part.split(":")
        if len(numbers) > 2 or not all(n.isdecimal() and int(n) for n in numbers):
            raise ValueError(f"{part!r} is no way to sweep, such as chosen, 4, or 4:1")
        at_once, devices, *_ = [*map(int, numbers), None, None]
        made.append(Way(at_once, devices))
    if not made:
        raise ValueError(f"name at least one way to sweep, such as {WAYS}")
    return made


def run_case(suite: Any, case: SweepCase, ways: list[Way], effort: Effort) -> Iterator[Row]:
    """A row for each way; one whose losses are not those of training alone has no time."""
    columns, batches = case.columns(), source(case.batches(), case.updates)
    example = {name: column[0].item() for name, column in columns.items()}
    single = read(case.make, example, batches.like())
    calls: dict[str, Callable[[], Any]] = {ALONE: alone(case, single, batches)}
    plans: dict[str, Plan] = {}
    for way in ways:
        plans[way.name] = plan = choose(
            case.settings, single.update.jaxpr, single.state_bytes, **way._asdict()
        )
        calls[way.name] = sweeping(case, Runner(single, batches, plan, case.updates))
    reference = calls[ALONE]()
    errors = {name: gate.error(call(), reference) for name, call in calls.items()}
    reasons = {name: gate.complaint(error, "float32") for name, error in errors.items()}
    fit = {name: clock.stopwatch(call)() for name, call in calls.items() if reasons[name] is None}
    with machine.Watched() as watched:
        timings = clock.measure(fit, rounds=effort.rounds, seconds=suite.seconds, seed=effort.seed)
    for name in calls:
        plan = plans.get(name)
        yield {
            "suite": suite.name,
            "case": case.name,
            "shape": asdict(case),
            "pass": "training",
            "method": name,
            "how": plan and plan.how,
            "because": plan and plan.because,
            **clock.times(timings.get(name), timings.get(ALONE), steps(case)),
            "error": errors[name],
            "reason": reasons[name],
            "seed": effort.seed,
            **watched.columns,
            **circumstances(),
        }


def steps(case: SweepCase) -> int:
    """Time steps of all settings: what a time is divided by."""
    return case.settings * case.updates * case.length


def alone(case: SweepCase, single: Single, batches: Any) -> Callable[[], Any]:
    """The losses [settings, updates], by a call for each setting."""
    consts = single.consts
    taken, _ = batches.take(0, 0)

    @jax.jit
    def training(consts: Any, setting: Any, taken: Any) -> jax.Array:
        begin, update, _ = consts

        def body(state: Any, number: Any) -> Any:
            batch = batches.pick(taken, number, number)
            return single.update(update, setting, state, batch)

        return jax.lax.scan(body, single.begin(begin, setting), jnp.arange(case.updates))[1]

    rows = [{k: v[i] for k, v in case.columns().items()} for i in range(case.settings)]
    return lambda: np.stack([np.asarray(training(consts, row, taken)) for row in rows])


def sweeping(case: SweepCase, runner: Runner) -> Callable[[], Any]:
    """The same losses by a sweep."""
    columns, each = case.columns(), runner.plan.slots

    def call() -> np.ndarray:
        found = []
        for first in range(0, case.settings, each):
            rows = {name: column[first : first + each] for name, column in columns.items()}
            found.append(runner.run(runner.begin(rows), 0, case.updates)[1])
        return np.concatenate(found)[: case.settings]

    return call
