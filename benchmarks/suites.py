"""What is asked, of which cases, and who answers: suites are data."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks import cases, contenders, directions, run, sweeps
from benchmarks.rows import Row


@dataclass(frozen=True, kw_only=True)
class Suite:
    name: str
    asks: str
    cases: Sequence[Any]
    methods: str  # as on the command line
    few_methods: str  # of a quick run
    parse: Callable[[str], list[Any]] = contenders.parse
    field: Callable[..., contenders.Field] = contenders.field
    base: str = contenders.LAX  # whom ratios are to
    run_case: Callable[..., Iterator[Row]] = run.run_case
    seconds: float  # for one case and pass, unless five rounds take longer

    def quick(self) -> "Suite":
        """Two tiny cases and few methods: does it all work?"""
        tiny = [case.tiny(batch=1 + i) for i, case in enumerate(self.cases[:2])]
        return replace(self, cases=tiny, methods=self.few_methods, seconds=0.5)


_UNROLLED = [
    *(f"scan:unroll={n}" for n in (2, 4, 8, 16, 32, True)),
    *("scan:hoist=False", "scan:hoist=False:unroll=4"),
    *("scan:defer=False", "scan:defer=False:unroll=4"),
    *("scan:chunk=8", "scan:chunk=8:unroll=4"),
    *("scan:feature_major=True", "scan:hoist=False:feature_major=True"),
]
_PARALLEL = (
    *("auto", "scan", "scan:chunk=2048", "scan:backward='associative'"),
    *("associative", "associative:block=1", f"associative:block={1 << 20}"),
    *("associative:chunk=2048", "newton"),
)
_HOISTS = (
    *("scan", "scan:hoist=False", "scan:feature_major=True", "scan:hoist=False:feature_major=True"),
    *(f"scan:chunk={k}" for k in (16, 32, 128)),
)

SUITES = {
    suite.name: suite
    for suite in (
        Suite(
            name="peers",
            asks="Are we faster than every other library, at the same results?",
            cases=cases.PEERS,
            methods="auto",
            few_methods="auto",
            field=contenders.field_of_peers,
            base=contenders.PLAIN,
            seconds=3.0,
        ),
        Suite(
            name="unroll",
            asks="Static or dynamic? What do unrolling, hoisting, chunks and XLA's own knobs give?",
            cases=cases.UNROLL,
            methods=",".join(["scan", *_UNROLLED]),
            few_methods="scan,scan:unroll=4,scan:chunk=8",
            field=contenders.field_of_knobs,
            seconds=3.0,
        ),
        Suite(
            name="methods",
            asks="Which method is fastest for each cell, and how much memory does it hold?",
            cases=[*cases.CELLS, *cases.MEMORY],
            methods="auto,scan,scan:hoist=False,scan:chunk=16,scan:chunk=32:remat=True,associative",
            few_methods="auto,scan:chunk=8:remat=True",
            seconds=3.0,
        ),
        Suite(
            name="long",
            asks="Over long sequences, does it pay to be parallel in time?",
            cases=cases.LONG,
            methods=",".join(_PARALLEL),
            few_methods="auto,associative,newton",
            seconds=3.0,
        ),
        Suite(
            name="scaling",
            asks="What does a step cost as T, B, H, layers and devices grow, and memory as T does?",
            cases=cases.SCALING,
            methods="auto,scan:chunk=32:remat=True",
            few_methods="auto",
            seconds=2.0,
        ),
        Suite(
            name="choice",
            asks="Does `auto` choose the best way to hoist, and to lay the loop out?",
            cases=cases.CHOICE,
            methods=",".join(_HOISTS),
            few_methods="scan:hoist=False,scan",
            field=contenders.field_of_choice,
            seconds=2.0,
        ),
        Suite(
            name="bidirectional",
            asks="Both directions in one loop, or in two?",
            cases=directions.CASES,
            methods="auto",
            few_methods="auto",
            field=directions.field,
            seconds=3.0,
        ),
        Suite(
            name="sweep",
            asks="Is a sweep faster than one setting after another, and is the way well chosen?",
            cases=sweeps.CASES,
            methods=sweeps.WAYS,
            few_methods="chosen,2:1",
            parse=sweeps.parse,
            run_case=sweeps.run_case,
            seconds=10.0,
        ),
    )
}
