"""What was measured, as data: which way through time is fastest, by structure, size and device.

One set of rules for a run that is not differentiated, one for a run that is; see `engine/loop.py` and
the methods for what the words mean. On CPUs they are from 2 cores of a Zen 5 and of a Zen 3, JAX 0.10.2:
`python -m benchmarks choice` and `long`, and the rows of both in benchmarks/reports.

Hoisting makes one large product of T small ones and keeps its result for all T steps. Forwards, that
wins where a step has few rows, or where the weight does not fit the cache anyway, and loses where a
step's product is efficient by itself and the result does not fit the cache. (A weight of 4 MiB fits no
cache of a Zen 3, where hoisting its product gave 1.8 instead of 1.1 of `lax` at B=32, H=512; on the Zen
5 it made no difference.) A gradient keeps arrays of T steps in any case, and up to 32 rows it gains from
hoisting everywhere, 1.2 to 3.5 of `lax` on the Zen 3, with or without the slices that halve a GRU's
speed forwards. At 64 rows it gains nothing; at 128, tried once, it took up to twice the time. Chunks
cost it time where a step has few rows; where it has 16 and more, and the loop many steps, they gained up
to 1.3 times.

A feature-major loop is chosen where it won on the Zen 3. With 4 MiB of weight and more that was every
cell of 1024 features at 8, 16 and 32 rows: LSTM, GRU and Elman ran 1.05 to 1.75 times as fast as the
same loop not turned round, forward and with gradients; an LSTM of 512 features at 32 rows, whose weight
is 4 MiB just so, ran as fast with gradients and 0.8 times forward. Between 1 and 4 MiB it was an LSTM of
8 rows, 1.05 to 1.15 times, and with gradients 4 and 8 rows of any cell, 1.07 to 1.2 times; others won
some and lost some. With 12 rows, which do not fill a vector, it lost; with padding it made no
difference.

A linear recurrence is looped over on a CPU if no derivative is taken: the loop reads each input once,
and XLA makes one kernel of a small one. (One of few complex numbers is faster solved in chunks.) Its
gradient is taken at once: what the backward loop would keep and read again is more than a and h. Where a
step has more than 64 numbers `associative` itself runs a loop there, over nothing but a and b. Where
the carry has many numbers for one of output (s4d 32, selective_ssm 16), nothing so large is worth
keeping for all steps: with all in the loop the gradients ran 1.07 to 1.17 of `lax`, at once 0.64 and
0.99 (16 rows of 128 features, the Zen 3, `python -m benchmarks methods`).
"""

from dataclasses import dataclass
from typing import NamedTuple

NEVER = 1 << 62


class Turned(NamedTuple):
    """Products of a step which a feature-major loop makes faster."""

    rows: tuple[int, ...]
    weight: range  # bytes
    growth: int  # features that are made of one, at the least


class Chunks(NamedTuple):
    """Which hoisted values to keep in the cache by running in chunks."""

    rows: int  # of a step's products, at the least
    size: int  # bytes of hoisted values that a chunk should keep
    steps: int  # that a chunk must have to be worth a loop of its own ...
    steps_heavy: int  # ... and if its weights are heavy
    least: int  # chunks that there must be


class Narrow(NamedTuple):
    """Linear recurrences of complex numbers that are faster solved chunk by chunk than looped over."""

    numbers: int  # of carry in a step, at the most
    chunk: int  # steps


@dataclass(frozen=True)
class Rules:
    """How to run a loop, for one kind of device and one kind of pass."""

    few_rows: int  # a step's product with so few rows is inefficient by itself
    few_rows_sliced: int  # the same where the loop would slice the hoisted product ...
    small_weight_sliced: int  # ... and whatever the rows, of a weight with fewer bytes
    cache: int  # bytes of hoisted values that are read back from a cache
    cache_efficient: int  # the same where the products would be efficient in the loop too
    large_weight: int  # bytes of a weight that every step would read from memory
    chunks: Chunks
    turned: tuple[Turned, ...] = ()  # which loops are faster feature-major
    parallel: int = 32  # from how many steps on a cell's own form for all steps at once is faster
    associative: int = NEVER  # the same of a linear recurrence
    narrow: Narrow | None = None
    swollen: int = NEVER  # numbers of a linear carry for one of output, if nothing is hoisted


class Passes(NamedTuple):
    forward: Rules
    gradient: Rules


_LARGE = Turned((8, 16, 32), range(4 << 20, NEVER), growth=1)
_FORWARD = Rules(
    few_rows=16,
    # Where the loop would slice what is hoisted, as a GRU does, XLA:CPU runs it at half the speed. The
    # slice tells such a loop; whether it is the cause we do not know: a GRU that adds the whole of what
    # is hoisted before it slices the sum is as slow.
    few_rows_sliced=1,
    small_weight_sliced=512 << 10,
    cache=5 << 20,
    cache_efficient=2 << 20,
    large_weight=4 << 20,
    chunks=Chunks(rows=0, size=1 << 20, steps=16, steps_heavy=32, least=1),
    turned=(Turned((8,), range(1 << 20, 4 << 20), growth=4), _LARGE),
    narrow=Narrow(numbers=64, chunk=1024),
    swollen=16,
)
_GRADIENT = Rules(
    few_rows=32,
    few_rows_sliced=32,
    small_weight_sliced=0,
    cache=5 << 20,
    cache_efficient=5 << 20,
    large_weight=4 << 20,
    chunks=Chunks(rows=16, size=0, steps=32, steps_heavy=32, least=8),
    turned=(Turned((4, 8), range(1 << 20, 4 << 20), growth=1), _LARGE),
    associative=32,
    swollen=16,
)
CPU = Passes(_FORWARD, _GRADIENT)

# Not measured by us: a step of a GPU or TPU loop costs its launches, memory is large and fast, and a
# linear recurrence is as parallel as they are.
_ANY = Rules(
    few_rows=NEVER,
    few_rows_sliced=NEVER,
    small_weight_sliced=0,
    cache=1 << 30,
    cache_efficient=1 << 30,
    large_weight=0,
    chunks=Chunks(rows=0, size=1 << 30, steps=16, steps_heavy=32, least=1),
    associative=32,
)
ACCELERATOR = Passes(_ANY, _ANY)
