"""Times several contenders against each other in one interleaved run.

A shared machine drifts: what runs first meets other neighbours than what runs last. So each round
times every contender, in a new random order, and a ratio is taken within a round, never across.
"""

import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import quantiles
from typing import Any, NamedTuple

import jax

WARM_UP = 3
FEWEST_ROUNDS = 5
STRETCH = 0.02  # seconds of calls a contender gets in a round, if a call is shorter
LONG = 0.2  # seconds of a call that needs no second warm-up
MOST_CALLS = 50

Stopwatch = Callable[[int], float]  # of so many calls: the seconds of one


class Spread(NamedTuple):
    p25: float
    median: float
    p75: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        return cls(*(quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3))


@dataclass(frozen=True)
class Compiled:
    """A program that runs, and what it took to make it."""

    call: Callable[..., Any]
    stopwatch: Callable[..., Stopwatch]  # of the arguments
    seconds: float | None = None  # to trace, lower and compile
    temp_bytes: int | None = None  # None where nobody tells
    instructions: int | None = None


@dataclass(frozen=True)
class Timing:
    rounds: list[float]  # seconds of one call, in each round
    calls: int  # in each round

    @property
    def seconds(self) -> Spread:
        return Spread.of(self.rounds)

    @property
    def fastest(self) -> float:
        return min(self.rounds)


def compiled(
    program: Callable[..., Any], args: Any, options: Mapping[str, Any] | None = None
) -> Compiled:
    """A JAX program, compiled for these arguments."""
    start = time.perf_counter()
    call = jax.jit(program).lower(*args).compile(options and dict(options))
    seconds = time.perf_counter() - start
    analysis = call.memory_analysis()
    instructions = sum(" = " in line for line in (call.as_text() or "").splitlines())
    temporary = analysis and analysis.temp_size_in_bytes
    return Compiled(call, stopwatch(call), seconds, temporary, instructions)


def stopwatch(call: Callable[..., Any]) -> Callable[..., Stopwatch]:
    """Times calls that return JAX arrays, or block themselves."""

    def of(*args: Any) -> Stopwatch:
        def seconds(calls: int) -> float:
            if calls > 1:  # one more goes before, and finds the caches as it leaves them
                jax.block_until_ready(call(*args))
            start = time.perf_counter()
            for _ in range(calls):
                jax.block_until_ready(call(*args))
            return (time.perf_counter() - start) / calls

        return seconds

    return of


def measure(
    contenders: Mapping[str, Stopwatch],
    *,
    rounds: int = 15,
    seconds: float = math.inf,
    seed: int = 0,
) -> dict[str, Timing]:
    """Times every contender for `rounds` rounds, or fewer, but five, once `seconds` have passed."""
    calls = {name: _calls(_warm_up(watch)) for name, watch in contenders.items()}
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    order, shuffle = list(contenders), random.Random(seed).shuffle
    end = time.perf_counter() + seconds
    for done in range(rounds):
        if done >= FEWEST_ROUNDS and time.perf_counter() > end:
            break
        shuffle(order)
        for name in order:
            taken[name].append(contenders[name](calls[name]))
    return {name: Timing(taken[name], calls[name]) for name in contenders}


def ratio(base: Timing, other: Timing) -> Spread:
    """How many times faster than `base` the other is, round by round."""
    return Spread.of([b / o for b, o in zip(base.rounds, other.rounds, strict=True)])


def times(own: Timing | None, base: Timing | None, steps: int) -> dict[str, Any]:
    """The columns of a row: of a call of so many steps, and its ratio to what it is compared with."""
    names = ("p25_us_per_step", "median_us_per_step", "p75_us_per_step")
    ratios = ("ratio_p25", "ratio", "ratio_p75")
    others = ("min_us_per_step", "rounds_us_per_step", "ratio_fastest", "rounds", "calls")
    row: dict[str, Any] = dict.fromkeys((*names, *ratios, *others))
    if own is not None:
        scale = 1e6 / steps
        row |= {name: value * scale for name, value in zip(names, own.seconds, strict=True)}
        row |= {"min_us_per_step": own.fastest * scale}
        row |= {"rounds_us_per_step": [round(value * scale, 4) for value in own.rounds]}
        row |= {"rounds": len(own.rounds), "calls": own.calls}
        if base is not None:
            row |= zip(ratios, ratio(base, own), strict=True)
            row |= {"ratio_fastest": base.fastest / own.fastest}
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}


def _warm_up(watch: Stopwatch) -> float:
    first = watch(1)
    return first if first > LONG else min(watch(1) for _ in range(WARM_UP - 1))


def _calls(seconds: float) -> int:
    return max(1, min(MOST_CALLS, round(STRETCH / seconds)))
