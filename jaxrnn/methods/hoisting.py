"""How to run a loop: what leaves it, in chunks or whole, and which way round it is held."""

import math
from typing import NamedTuple

from jaxrnn.engine.jaxprs import Eqn, assumed, count, reads, shape, size
from jaxrnn.engine.layout import lay_out
from jaxrnn.engine.loop import Options
from jaxrnn.engine.recurrence import Recurrence
from jaxrnn.engine.split import Parts
from jaxrnn.engine.trace import Loop
from jaxrnn.methods.rules import Rules


class Choice(NamedTuple):
    options: Options
    because: str


def choose(loop: Loop, rules: Rules) -> Choice:
    """The options to scan a loop with, and why."""
    parts = loop.parts
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
    efficient = bool(products) and all(_efficient(*p, sliced, rules) for p in products)
    fits = hoisted * loop.length <= (rules.cache_efficient if efficient else rules.cache)
    if not products and fits:
        return Choice(Options(), "no product can leave the loop; the rest is kept in cache")
    light = all(weight < rules.large_weight for _, weight in products)
    rows = min((rows for rows, _ in products), default=0)
    if efficient and light and (not fits or sliced):
        return Choice(
            Options(hoist=False),
            f"with {rows} rows a step's products are efficient by themselves, and hoisting them"
            f" would keep {total}" + (" that the loop slices" if sliced else ""),
        )
    if fits:
        return Choice(Options(), f"what is hoisted, {total}, is read back from the cache")
    if rows < rules.chunks.rows:
        return Choice(Options(), f"what is hoisted, {total}, is kept as it is")
    steps = rules.chunks.steps if light else rules.chunks.steps_heavy
    chunk = max(steps, rules.chunks.size // hoisted)
    if chunk * rules.chunks.least >= loop.length:
        return Choice(Options(), f"what is hoisted, {total}, is one chunk")
    return Choice(
        Options(chunk=chunk), f"what is hoisted, {total} in all, stays in the cache in chunks"
    )


def _efficient(rows: int, weight: int, sliced: bool, rules: Rules) -> bool:
    """Whether a product runs well enough inside the loop, step by step."""
    if sliced:
        return rows > rules.few_rows_sliced or weight < rules.small_weight_sliced
    return rows > rules.few_rows


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
        parts = loop.unhoisted
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
            return math.prod(assumed(kept)), size(weight)
    return None


def _slices_stream(parts: Parts) -> bool:
    streams = set(parts.before.outvars)
    slicing = (e for e in parts.during.eqns if e.primitive.name in ("slice", "split"))
    return any(v in streams for e in slicing for v in reads(e))
