"""Two runs are compared by their spreads."""

import json

from benchmarks import compare
from benchmarks.__main__ import main


def row(method, median, spread=0.1, case="a"):
    times = {"p25": median - spread, "median": median, "p75": median + spread}
    times = {f"{name}_us_per_step": value for name, value in times.items()}
    return {"suite": "peers", "case": case, "pass": "forward", "method": method, **times}


def test_a_change_is_real_if_the_quartiles_are_apart():
    before = [row("x", 1.0), row("y", 1.0), row("only before", 1.0)]
    after = [row("x", 1.1), row("y", 2.0), row("only after", 1.0)]
    same, changed = compare.changes(before, after)
    assert (same.method, same.real) == ("x", False)
    assert (changed.method, changed.real, changed.ratio) == ("y", True, 2.0)
    assert str(changed) == "peers a forward y: 1 to 2 µs a step, 2.00x slower"
    assert str(changed._replace(after=row("y", 0.5))).endswith("2.00x faster")


def test_what_was_not_timed_is_not_compared():
    untimed = row("x", 1.0) | dict.fromkeys(
        ("p25_us_per_step", "median_us_per_step", "p75_us_per_step")
    )
    assert compare.changes([untimed], [row("x", 1.0)]) == []


def test_orderings_contradict_only_beyond_the_spread():
    before = [row("x", 1.0), row("y", 2.0), row("z", 2.05)]  # x < y, x < z; y and z are level
    assert compare.orderings(before, before) == (2, [])
    swapped = [row("x", 3.0), row("y", 2.0), row("z", 2.95)]
    pairs, [against] = compare.orderings(before, swapped)
    assert pairs == 2
    assert (against.first, against.second) == ("x", "y")


def test_the_command_compares_files(tmp_path, capsys):
    for name, median in (("a", 1.0), ("b", 3.0)):
        rows = [row("x", median), row("y", 2.0)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert main(["compare", str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "2 timed in both; 1 changed by more than their spread:",
        "  peers a forward x: 1 to 3 µs a step, 3.00x slower",
        "1 orderings of two contenders whose quartiles are apart in the first run,"
        " 1 of them reversed in the second:",
        "  peers a forward: x beats y, then is beaten by it",
    ]
