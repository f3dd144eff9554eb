"""A process with XLA flags of its own: XLA reads some of them once, when it starts."""

import atexit
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks import clock, machine
from benchmarks.entrants import InJax
from benchmarks.programs import PASSES, Apply

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Elsewhere(InJax):
    """An entrant whose programs another process compiles, runs and times."""

    recipe: Callable[[], Apply] = lambda: NotImplemented  # can be pickled
    flags: str = ""
    devices: int = 1  # that share the batch

    def compiled(self, name: str) -> clock.Compiled:
        worker = Worker.of(self.flags)
        args = jax.tree.map(np.asarray, self.args(name))
        program, facts = worker.ask("compiled", self.recipe, name, args, self.options, self.devices)

        def watch(*_: Any) -> clock.Stopwatch:
            return lambda calls: worker.ask("seconds", program, calls)

        return clock.Compiled(lambda *_: worker.ask("call", program), watch, **facts)


class Worker:
    """The other process, as seen from here."""

    started: ClassVar[dict[str, "Worker"]] = {}

    @classmethod
    def of(cls, flags: str) -> "Worker":
        if flags not in cls.started:
            cls.started[flags] = cls(flags)
        return cls.started[flags]

    def __init__(self, flags: str):
        environment = {**os.environ, "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}"}
        # Two processes share the memory of a GPU.
        environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=ROOT,
        )
        atexit.register(self.close)

    def ask(self, *message: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        pickle.dump(message, self.process.stdin)
        self.process.stdin.flush()
        answer = pickle.load(self.process.stdout)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        with self.process:
            self.process.kill()


class Programs:
    """What the other process holds."""

    def __init__(self) -> None:
        self.made: list[tuple[clock.Compiled, Any]] = []

    def compiled(self, recipe: Any, name: str, args: Any, options: Any, devices: int) -> Any:
        placed = _placed(args, devices)
        made = clock.compiled(PASSES[name](recipe()), placed, options)
        self.made.append((made, placed))
        facts = {k: getattr(made, k) for k in ("seconds", "temp_bytes", "instructions")}
        return len(self.made) - 1, facts

    def call(self, program: int) -> Any:
        made, args = self.made[program]
        return jax.tree.map(np.asarray, made.call(*args))

    def seconds(self, program: int, calls: int) -> float:
        made, args = self.made[program]
        return made.stopwatch(*args)(calls)


def _placed(args: Any, devices: int) -> Any:
    """Parameters on every device, inputs [T, B, D] divided among them."""
    params, inputs = args
    mesh = Mesh(np.array(jax.devices()[:devices]), ("batch",))
    return (
        jax.device_put(params, NamedSharding(mesh, PartitionSpec())),
        jax.device_put(inputs, NamedSharding(mesh, PartitionSpec(None, "batch"))),
    )


def serve() -> None:
    programs = Programs()
    answers, sys.stdout = sys.stdout.buffer, sys.stderr  # what is printed is no answer
    while True:
        try:
            what, *details = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = getattr(programs, what)(*details)
        except Exception as problem:  # its place is over there
            answer = problem
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    machine.quiet()
    serve()
