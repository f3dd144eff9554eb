"""Contenders are timed in turns, in an order that is random and can be had again."""

import pytest

from benchmarks import clock


def test_ratios_are_taken_within_a_round():
    # The machine was ten times slower in the second round, for both.
    base = clock.Timing([2.0, 20.0, 2.0], calls=1)
    other = clock.Timing([1.0, 10.0, 4.0], calls=1)
    assert clock.ratio(base, other) == (1.25, 2.0, 2.0)
    assert base.seconds.median == base.fastest == 2.0
    assert clock.Spread.of([3.0]) == (3.0, 3.0, 3.0)


def order_of(seed, rounds=6):
    """Who was timed, one after the other."""
    order = []

    def watch(name):
        def seconds(calls):
            order.append(name)
            return 1.0

        return seconds

    made = clock.measure({name: watch(name) for name in "abc"}, rounds=rounds, seed=seed)
    assert {name: len(timing.rounds) for name, timing in made.items()} == dict.fromkeys(
        "abc", rounds
    )
    return "".join(order[-3 * rounds :])


def test_the_order_is_random_and_seeded():
    rounds = [order_of(1)[at : at + 3] for at in range(0, 18, 3)]
    assert all(sorted(each) == ["a", "b", "c"] for each in rounds)
    assert len(set(rounds)) > 1
    assert order_of(1) == order_of(1)
    assert len({order_of(seed) for seed in range(5)}) > 1


def test_a_long_call_is_neither_warmed_up_twice_nor_repeated():
    seen = []

    def watch(calls):
        seen.append(calls)
        return 10.0

    clock.measure({"long": watch}, rounds=2)
    assert seen == [1, 1, 1]


def test_short_calls_are_timed_in_stretches():
    def watch(calls):
        return 1e-3

    [timing] = clock.measure({"short": watch}, rounds=2).values()
    assert timing.calls == 20


@pytest.mark.parametrize(("calls", "made"), [(1, 1), (4, 5)])
def test_a_stopwatch_lets_one_call_go_before_several(calls, made):
    seen = []
    assert clock.stopwatch(seen.append)(1)(calls) > 0
    assert len(seen) == made
