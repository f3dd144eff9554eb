"""The automatic choice, `method=None`: rules from measurements, kept as data.

Deferring weight gradients was never slower than `lax` beyond noise. Hoisting is: it makes one large
product of T small ones and keeps its result for all T steps. On a CPU (2 cores of a Zen 5, JAX
0.10.2; `python -m benchmarks choice`) that wins where a step has few rows, or where the weight does
not fit the cache anyway, and loses where a step's product is efficient by itself and the result does
not fit the cache. (A weight of 4 MiB fits no cache of a Zen 3, where hoisting its product gave 1.8
instead of 1.1 of `lax` at B=32, H=512; on the Zen 5 it made no difference.)

A feature-major loop is chosen where it won on 2 cores of a Zen 3. With 4 MiB of weight and more that
was every cell of 1024 features at 8, 16 and 32 rows: LSTM, GRU and Elman ran 1.05 to 1.75 times as fast
as the same loop not turned round, forward and with gradients; an LSTM of 512 features at 32 rows, whose
weight is 4 MiB just so, ran as fast with gradients and 0.8 times forward. Between 1 and 4 MiB it was an
LSTM of 8 rows, 1.05 to 1.15 times; others won some and lost some. With 12 rows, which do not fill a
vector, it lost; with padding it made no difference.

A linear recurrence is scanned on a CPU: the loop reads each input once, and XLA makes one kernel of a
small one, so that solving it in parallel, which reads all of it twice, was slower forward in the few
trials we made. With gradients it won some; `tune` finds out, and rows of `benchmarks long` shall decide.
A cell's own parallel form, which is made of products of matrices, is taken wherever there is one.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

from jaxrnn.engine.jaxprs import Eqn, count, reads, shape, size
from jaxrnn.engine.layout import lay_out
from jaxrnn.engine.loop import Options
from jaxrnn.engine.recurrence import Recurrence
from jaxrnn.engine.split import Parts, split
from jaxrnn.engine.trace import Loop
from jaxrnn.methods.associative import associative, obstacle
from jaxrnn.methods.base import Method, Problem
from jaxrnn.methods.lax import lax
from jaxrnn.methods.scan import scan


class Turned(NamedTuple):
    """Products of a step which a feature-major loop makes faster."""

    rows: tuple[int, ...]
    weight: range  # bytes
    growth: int  # features that are made of one, at the least


@dataclass(frozen=True)
class Rules:
    """When to hoist, for one kind of device."""

    few_rows: int  # a step's product with so few rows is inefficient by itself
    few_rows_sliced: int  # the same where the loop would slice the hoisted product
    cache: int  # bytes of hoisted values that are read back from a cache
    cache_efficient: int  # the same where the products would be efficient in the loop too
    chunk: int  # bytes of hoisted values that a chunk should keep ...
    chunk_steps: int  # ... and how many steps it must have to be worth a loop of its own
    large_weight: int  # bytes of a weight that every step would read from memory
    turned: tuple["Turned", ...] = ()  # which loops are faster feature-major
    associative: int | None = None  # from how many steps on a linear recurrence is faster so
    parallel: int | None = None  # the same of a cell with a form of its own for all steps at once


# Where the loop would slice what is hoisted, as a GRU does, XLA:CPU runs it at half the speed without
# gradients. The slice tells such a loop; whether it is the cause we do not know: a GRU that adds the
# whole of what is hoisted before it slices the sum is as slow.
CPU = Rules(
    few_rows=16,
    few_rows_sliced=1,
    cache=5 << 20,
    cache_efficient=2 << 20,
    chunk=1 << 20,
    chunk_steps=16,
    large_weight=4 << 20,
    turned=(
        Turned((8,), range(1 << 20, 4 << 20), 4),
        Turned((8, 16, 32), range(4 << 20, 1 << 62), 1),
    ),
    parallel=32,
)
# Not measured by us: a step of a GPU or TPU loop costs its launches, memory is large and fast, and a
# linear recurrence is as parallel as they are.
ACCELERATOR = Rules(
    few_rows=1 << 62,
    few_rows_sliced=1 << 62,
    cache=1 << 30,
    cache_efficient=1 << 30,
    chunk=1 << 30,
    chunk_steps=16,
    large_weight=0,
    associative=32,
    parallel=32,
)


def auto() -> Method:
    """Chooses how to scan by the step's structure, its sizes and the device."""
    return Method(name="auto()", run=_run)


def _run(problem: Problem, _: Any) -> tuple[Any, Any]:
    return take(problem).method(problem)


class Taken(NamedTuple):
    method: Method
    because: str


def take(problem: Problem, platform: str | None = None) -> Taken:
    """The method `auto` runs a problem with, and why."""
    loop = problem.traced.loop
    if loop is None or loop.step.effects:
        return Taken(lax(), choose(loop, platform).because)
    rules = _rules(platform)
    if problem.parallel is not None and _long(loop, rules.parallel):
        return Taken(associative(), "the cell has a form of its own for all steps at once")
    if _long(loop, rules.associative) and obstacle(loop, problem.name) is None:
        because = "the carry is affine in itself, so that all steps are taken at once"
        return Taken(associative(), because)
    options, because = choose(loop, platform)
    return Taken(scan(**options._asdict()), because)


def _long(loop: Loop, least: int | None) -> bool:
    return least is not None and isinstance(loop.length, int) and loop.length >= least


def _rules(platform: str | None) -> Rules:
    return CPU if (platform or jax.default_backend()) == "cpu" else ACCELERATOR


class Choice(NamedTuple):
    options: Options
    because: str


def choose(loop: Loop | None, platform: str | None = None) -> Choice:
    """The options `auto` runs a loop with, and why."""
    if loop is None:
        return Choice(Options(), "JAX makes no loop of this scan")
    if loop.step.effects:
        return Choice(Options(), "the step has effects, so JAX runs it as it is written")
    if not isinstance(loop.length, int):
        return Choice(Options(), "the number of steps is not known yet")
    rules = _rules(platform)
    parts = split(loop.step, loop.num_consts, loop.num_carry)
    choice = _how_to_hoist(loop, parts, rules)
    if _turns(loop, parts, choice.options.hoist, rules):
        return Choice(
            choice.options._replace(feature_major=True),
            f"{choice.because}; with so few rows the large product of a step is faster turned round",
        )
    return choice


def _how_to_hoist(loop: Loop, parts: Parts, rules: Rules) -> Choice:
    found = [_product(e, parts) for p in (parts.before, parts.after) for e in p.eqns]
    products = [p for p in found if p is not None]
    hoisted = _hoisted_bytes(parts)
    total = f"{hoisted * loop.length / 2**20:.3g} MiB"
    sliced = _slices_stream(parts)
    few_rows = rules.few_rows_sliced if sliced else rules.few_rows
    efficient = bool(products) and all(rows > few_rows for rows, _ in products)
    fits = hoisted * loop.length <= (rules.cache_efficient if efficient else rules.cache)
    if not products and fits:
        return Choice(Options(), "no product can leave the loop; the rest is kept in cache")
    light = all(weight < rules.large_weight for _, weight in products)
    if efficient and light and (not fits or sliced):
        rows = min(rows for rows, _ in products)
        return Choice(
            Options(hoist=False),
            f"with {rows} rows a step's products are efficient by themselves, and hoisting them"
            f" would keep {total}" + (" that the loop slices" if sliced else ""),
        )
    if fits:
        return Choice(Options(), f"what is hoisted, {total}, is read back from the cache")
    chunk = max(rules.chunk_steps if light else 2 * rules.chunk_steps, rules.chunk // hoisted)
    if chunk >= loop.length:
        return Choice(Options(), f"what is hoisted, {total}, is one chunk")
    return Choice(
        Options(chunk=chunk), f"what is hoisted, {total} in all, stays in the cache in chunks"
    )


def _turns(loop: Loop, parts: Parts, hoist: bool, rules: Rules) -> bool:
    """Whether the loop is one of those measured to be faster feature-major.

    What the carry is multiplied by decides; if nothing is hoisted, the rest of the step must turn too.
    """
    # Selects gain nothing, and reductions have not been measured.
    if any(e.primitive.name.startswith(("reduce_", "select_n")) for e in parts.during.eqns):
        return False
    products = [e for e in parts.during.eqns if e.primitive.name == "dot_general"]
    if not products or not all(_gains(e, parts, rules) for e in products):
        return False
    if not hoist:
        parts = split(loop.step, loop.num_consts, loop.num_carry, hoist=False)
    known = len(parts.invariant)
    layout = lay_out(Recurrence(parts.during, known, len(parts.carry), loop.length))
    return layout is not None and not layout.fallbacks


def _gains(eqn: Eqn, parts: Parts, rules: Rules) -> bool:
    """Whether a product of a step is one of those that gain by being turned round."""
    found = _product(eqn, parts)
    if found is None:
        return False
    rows, weight = found
    rules_met = [t for t in rules.turned if rows in t.rows and weight in t.weight]
    if not rules_met:
        return False
    made = count(eqn.outvars[0]) // rows
    used = next(count(v) for v in eqn.invars if v in parts.invariant) // made
    return any(made >= t.growth * used for t in rules_met)


def _hoisted_bytes(parts: Parts) -> int:
    """What one time step adds to the arrays of length T that hoisting needs."""
    inside = parts.during.outvars[len(parts.carry) :]
    return sum(map(size, parts.before.outvars)) + sum(size(v) for v in inside if v not in parts.ys)


def _product(eqn: Eqn, parts: Parts) -> tuple[int, int] | None:
    """The rows of a step's product with a weight, and the bytes of the weight."""
    if eqn.primitive.name != "dot_general":
        return None
    contracting, _ = eqn.params["dimension_numbers"]
    for side in (0, 1):
        rows, weight = eqn.invars[side], eqn.invars[1 - side]
        if weight in parts.invariant:
            kept = [n for axis, n in enumerate(shape(rows)) if axis not in contracting[side]]
            return math.prod(kept), size(weight)
    return None


def _slices_stream(parts: Parts) -> bool:
    streams = set(parts.before.outvars)
    slicing = (e for e in parts.during.eqns if e.primitive.name in ("slice", "split"))
    return any(v in streams for e in slicing for v in reads(e))
