"""Takes a case through compiler, gate and clock, and gives rows: plain dictionaries."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from benchmarks import clock, gate, machine, roofline
from benchmarks.cases import Case
from benchmarks.contenders import Runner
from benchmarks.entrants import Absent, Entrant
from benchmarks.rows import Row


class Effort(NamedTuple):
    """How long to measure, and in which random order."""

    rounds: int
    seed: int


@dataclass
class Entry:
    """What became of one of the field."""

    runner: Runner
    entrant: Entrant | None = None
    compiled: dict[str, clock.Compiled] | None = None  # by pass
    error: float | None = None
    reason: str | None = None  # why it must not be timed


def run_case(suite: Any, case: Case, methods: list[Any], effort: Effort) -> Iterator[Row]:
    """One row for each pass and contender; one that is refused or wrong has a reason, and no time."""
    arrays = case.arrays()
    oracle = gate.Oracle(case, *arrays)
    field = suite.field(case, methods)
    entries = {name: _entry(case, runner, arrays, oracle) for name, runner in field.items()}
    for name in case.passes:
        work = roofline.work(case, name, *arrays)
        watches = {
            contender: entry.compiled[name].stopwatch(*entry.entrant.args(name))
            for contender, entry in entries.items()
            if entry.reason is None and entry.compiled and entry.entrant
        }
        with machine.Watched() as watched:
            timings = clock.measure(
                watches, rounds=effort.rounds, seconds=suite.seconds, seed=effort.seed
            )
        for contender, entry in entries.items():
            own = timings.get(contender)
            yield {
                "suite": suite.name,
                "case": case.name,
                "shape": asdict(case),
                "pass": name,
                "method": contender,
                "version": entry.entrant.version if entry.entrant else None,
                **entry.runner.columns(name),
                **case.columns,
                **clock.times(own, timings.get(suite.base), case.length),
                **_compilation((entry.compiled or {}).get(name)),
                **work.columns(own and own.seconds.median, case.dtype),
                "error": entry.error,
                "reason": entry.reason,
                "seed": effort.seed,
                **watched.columns,
                **circumstances(),
            }


def circumstances() -> Row:
    return {
        **machine.description(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _entry(case: Case, runner: Runner, arrays: Any, oracle: gate.Oracle) -> Entry:
    """Compiles and checks every pass of a contender."""
    entry = Entry(runner)
    try:
        entry.entrant = runner.enter(*arrays)
        entry.compiled = {name: entry.entrant.compiled(name) for name in case.passes}
    except Absent as absence:
        entry.reason = f"absent: {absence}"
    except NotImplementedError as refusal:
        entry.reason = f"refused: {refusal}"
    else:
        calls = {name: made.call for name, made in entry.compiled.items()}
        errors = [gate.error_of(entry.entrant, name, call, oracle) for name, call in calls.items()]
        entry.error = max(errors) if all(map(math.isfinite, errors)) else None
        entry.reason = gate.complaint(max(errors), case.dtype)
    return entry


def _compilation(compiled: clock.Compiled | None) -> Row:
    if compiled is None:
        return dict.fromkeys(("compile_s", "temp_bytes", "instructions"))
    return {
        "compile_s": compiled.seconds and round(compiled.seconds, 3),
        "temp_bytes": compiled.temp_bytes,
        "instructions": compiled.instructions,
    }
