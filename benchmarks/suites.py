"""A suite takes its cases through compiler, gate and clock, and gives rows: plain dictionaries."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from benchmarks import cases, clock, contenders, directions, gate, machine, sweeps
from benchmarks.cases import Case
from benchmarks.contenders import LAX, Contender
from benchmarks.programs import PASSES
from benchmarks.rows import Row
from jaxrnn.methods import Method


@dataclass(frozen=True, kw_only=True)
class Suite:
    name: str
    asks: str
    cases: Sequence[Any]
    methods: str  # as on the command line
    parse: Callable[[str], list[Any]] = contenders.parse
    field: Callable[[Case, list[Method]], dict[str, Contender]] = contenders.field
    run_case: Callable[..., Iterator[Row]] | None = None  # None: that of this file
    passes: tuple[str, ...] = ("forward", "gradient")
    seconds: float = 30.0  # for one case and pass, unless five rounds take longer
    with_chosen: bool = False  # also what `auto` chooses, as a method of its own


_CHUNKS = (4, 8, 16, 32, 128)

SUITES = {
    suite.name: suite
    for suite in (
        Suite(
            name="speed",
            asks="Is the default method faster than `lax.scan`?",
            cases=cases.SPEED,
            methods="auto",
        ),
        Suite(
            name="cells",
            asks="Is it for every cell?",
            cases=cases.CELLS,
            methods="auto",
            seconds=15.0,
        ),
        Suite(
            name="memory",
            asks="How much memory does a long gradient hold?",
            cases=cases.MEMORY,
            methods="auto,scan,scan:chunk=32:remat=True,scan:chunk=64:remat=True",
            passes=("gradient",),
        ),
        Suite(
            name="choice",
            asks="Does `auto` choose the best way to hoist?",
            cases=cases.CHOICE,
            methods="scan:hoist=False,scan," + ",".join(f"scan:chunk={k}" for k in _CHUNKS),
            seconds=3.0,
            with_chosen=True,
        ),
        Suite(
            name="bidirectional",
            asks="Both directions in one loop, or in two?",
            cases=directions.CASES,
            methods="auto",
            field=directions.field,
            seconds=6.0,
        ),
        Suite(
            name="sweep",
            asks="Is a sweep faster than one setting after another, and is the way well chosen?",
            cases=sweeps.CASES,
            methods=sweeps.WAYS,
            parse=sweeps.parse,
            run_case=sweeps.run_case,
            seconds=20.0,
        ),
    )
}


def run_case(suite: Suite, case: Case, methods: list[Method], rounds: int) -> Iterator[Row]:
    """One row for each pass and method; one that is refused or wrong has a reason, and no time."""
    if suite.run_case is not None:
        yield from suite.run_case(suite, case, methods, rounds)
        return
    field = suite.field(case, methods)
    choice: Row = {}
    if suite.with_chosen:
        method, why = contenders.chosen(case)
        field.setdefault(method.name, Contender(case.make_cell(), method))
        choice = {"chosen": method.name, "because": why.because}

    arrays = case.arrays()
    entries = _entries(case, field, arrays, suite.passes)
    fit = [name for name, entry in entries.items() if entry["reason"] is None]
    for name in suite.passes:
        load, neighbours = os.getloadavg()[0], machine.Neighbours()
        calls = {method: entries[method]["compiled"][name].call for method in fit}
        timings = clock.measure(calls, arrays, rounds=rounds, seconds=suite.seconds)
        share = neighbours.share()
        for method, entry in entries.items():
            yield {
                "suite": suite.name,
                "case": case.name,
                "shape": asdict(case),
                "pass": name,
                "method": method,
                **choice,
                **clock.times(timings.get(method), timings.get(LAX), case.length),
                **_compilation(entry["compiled"].get(name)),
                "error": entry["error"],
                "reason": entry["reason"],
                "load": round(load, 2),
                "others": share and round(share, 3),
                **machine.description(),
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
            }


def _entries(
    case: Case, field: dict[str, Contender], arrays: Any, passes: tuple[str, ...]
) -> dict[str, Any]:
    """Every contender's compiled passes, its error, and why it must not be timed, if so."""
    references = gate.references(case, arrays, passes)
    entries = {}
    for name, contender in field.items():
        try:
            made = {p: clock.compiled(PASSES[p](*contender), arrays) for p in passes}
        except NotImplementedError as refusal:
            reason = f"refused: {refusal}"
            entries[name] = {"compiled": {}, "error": None, "reason": reason}
            continue
        error = gate.error({p: made[p].call(*arrays) for p in passes}, references)
        reason = gate.complaint(error, case.dtype)
        entries[name] = {
            "compiled": made,
            "error": error if math.isfinite(error) else None,
            "reason": reason,
        }
    return entries


def _compilation(compiled: clock.Compiled | None) -> Row:
    if compiled is None:
        return {"compile_s": None, "temp_bytes": None}
    return {"compile_s": round(compiled.seconds, 3), "temp_bytes": compiled.temp_bytes}
