"""What a report says is computed from its rows: losses by name, rules, slopes."""

import math

import pytest

from benchmarks import cases, report, rows
from benchmarks.contenders import AUTO, LAX
from benchmarks.directions import ONE_LOOP, TWO_RUNS, BothWays
from benchmarks.report import excerpt, numbers, peers, scaling, unroll
from benchmarks.report.sections import said
from benchmarks.sweeps import CASES as SWEEPS
from tests.benchmarks import synthetic


def at(time: float, **columns) -> rows.Row:
    """A row of a peer, its quartiles a hundredth around its time."""
    shape = {"cell": "lstm", "batch": 1, "length": 10, "features": 4}
    quartiles = {"p25_us_per_step": 0.99 * time, "p75_us_per_step": 1.01 * time}
    made = {"suite": "peers", "case": "a", "pass": "forward", "shape": shape, "reason": None}
    made |= {"median_us_per_step": time, "ratio": None, "ratio_p25": None, "ratio_p75": None}
    return made | quartiles | synthetic.MACHINE | columns


def field(case: str, name: str, ours: float, **others: float) -> list[rows.Row]:
    named = {"jaxrnn": ours} | {method.replace("_", "."): time for method, time in others.items()}
    return [at(time, case=case, method=m, **{"pass": name}) for m, time in named.items()]


def test_losses_to_peers_are_told_by_name():
    made = [
        *field("a", "forward", 1.0, lax_scan=0.5, haiku=4.0, flax_linen=8.0, torch=2.0),
        *field("b", "forward", 1.0, lax_scan=2.0, haiku=0.8, flax_linen=3.0, torch=0.9),
        *field("b", "gradient", 1.0, lax_scan=2.0, haiku=0.995, torch=1.5),
    ]
    jax, counted, torch, each = report.conclusion(made)
    mean = numbers.geomean([4.0, 0.8, 0.995])
    assert (
        f"in each of 3 cases and passes: geometric mean {mean:.2f}x (2x wanted: **missed**)" in jax
    )
    assert f"forward {math.sqrt(4 * 0.8):.2f}x, gradient 0.995x" in jax
    lost = "b forward haiku 0.80x; b gradient haiku 0.995x (level)."
    assert jax.endswith(f"Below 1.0x in 2 of 3 (none wanted: **missed**): {lost}")
    assert counted.endswith(f"Below 1.0x in 3 of 3: a forward lax.scan 0.50x; {lost}")
    assert f"{numbers.geomean([2, 0.9, 1.5]):.2f}x (1x wanted: met)" in torch
    assert torch.endswith("Below 1.0x in 1 of 3: b forward torch 0.90x.")
    assert "haiku 1.47x (ahead in 1, level in 1, behind in 1 of 3)" in each
    assert "flax.linen 4.90x (ahead in 2, level in 0, behind in 0 of 2)" in each


def test_an_aim_that_is_met_is_said_to_be_met():
    first, *_ = report.conclusion(field("a", "forward", 1.0, haiku=2.1))
    assert "geometric mean 2.10x (2x wanted: met)" in first
    assert "Below 1.0x in 0 of 1 (none wanted: met)." in first


def test_a_case_that_we_cannot_run_misses_the_aim():
    wrong = at(1.0, case="b", method="jaxrnn") | {
        "median_us_per_step": None,
        "reason": "refused: no",
    }
    made = [*field("a", "forward", 1.0, haiku=2.1), wrong, at(1.0, case="b", method="haiku")]
    first, *_, without, failed = report.conclusion(made)
    assert "(none wanted: **missed**)" in first
    assert without == "**We have no time** in 1: b forward."
    assert failed == "**Not timed**: b under jaxrnn: refused: no."


def test_ahead_is_said_only_if_the_quartiles_do_not_touch():
    ours = at(1.0) | {"p75_us_per_step": 1.2}
    assert [numbers.order(ours, at(time)) for time in (1.1, 1.3, 0.9)] == [0, 1, -1]


def test_who_ran_nothing_has_a_reason_and_no_column():
    absent = synthetic.untimed(at(1.0, method="cudnn", case="a"), "absent: no GPU")
    rows_of_a = [*field("a", "forward", 1.0, haiku=2.1), absent]
    text = report.page(rows_of_a, said(rows_of_a), {})
    assert "| case | pass | jaxrnn | haiku | best JAX library |" in text
    assert "a under cudnn: absent: no GPU." in text


def test_every_reason_is_told_once():
    made = [row for row in synthetic.peers() if row["reason"]]
    [said] = [s for s in report.conclusion(synthetic.peers()) if "Not timed" in s]
    assert len(made) > 20
    assert said.count("relative error") == said.count("absent: ") == 1
    assert "(and in 4 more) under keras: relative error 3e-02, 1e-04 is allowed" in said


def test_a_change_is_compared_with_the_same_without():
    plain = {"unroll": 1, "hoist": True, "knob": "none", "suite": "unroll", "compile_s": 1.0}
    made = [
        at(10.0, method="scan()", **plain),
        at(5.0, method="scan(unroll=True)", **{**plain, "unroll": True, "compile_s": 7.0}),
        at(20.0, method="scan(hoist=False)", **{**plain, "hoist": False}),
        at(30.0, method="scan(unroll=4, hoist=False)", **{**plain, "hoist": False, "unroll": 4}),
        at(40.0, method="lax()", suite="unroll"),
    ]
    found = {effect.setting: effect for effect in unroll.effects(made)}
    times = {setting: effect.time for setting, effect in found.items()}
    assert times == pytest.approx(
        {"unroll=full": 0.5, "unroll=4 with hoist=False": 1.5, "hoist=False": 2.0}
    )
    said = "\n".join(report.conclusion(made))
    assert "`unroll=full` 0.50x (faster in 1 of 1, slower in 0, compiling 7.00x)" in said
    assert "lstm B=1 full (0.50x)" in said
    assert "leave `hoist` alone" in said


def test_a_rule_of_thumb_tells_where_it_fails():
    times = {1.0: 0.5, 2.0: 0.5, 3.0: 3.3, 4.0: 2.0, 50.0: 60.0, 60.0: 61.8}  # plain: unrolled
    pairs = [(at(new, case=f"{old:g}"), at(old)) for old, new in times.items()]
    found = unroll.rule(unroll.Effect("unroll", 4, "", "forward", pairs))
    assert str(found) == "faster in 3 of 4 where a step takes at most 4 µs, in 0 of 2 where longer"
    assert found.fails == ["3 0.91x"]


def test_slopes_are_those_of_the_rows():
    made = [row for row in synthetic.scaling() if row["axis"] == "H"]
    for curve in scaling.curves(made):
        assert curve.rest == "lstm B=8 T=64"
        assert curve.slope(scaling.call_time) == pytest.approx(1.5, abs=0.05)
    said = "\n".join(report.conclusion(synthetic.scaling()))
    assert "Temporary memory of the gradient against T from 32 to 2048" in said
    assert "`lax()` T^1.00, `auto()` T^1.00, `scan(chunk=32, remat=True)` T^0.50." in said
    assert numbers.slope([1, 2, 4], [3, 12, 48]) == pytest.approx(2)


def test_memory_targets_are_told():
    [(name, method), *_] = cases.MEMORY_TARGETS
    shape = {"cell": "lstm", "batch": 16, "length": 4096, "features": 128}
    of = {"suite": "methods", "case": name, "shape": shape, "pass": "gradient"}
    made = [
        at(1.0, **of, method=LAX, temp_bytes=160) | {"ratio": 1.0},
        at(1.0, **of, method=method, temp_bytes=10) | {"ratio": 1.25},
    ]
    _, target, memory = report.conclusion(made)
    assert f"1 of 1 met: {name} {method} 16.00x (wanted 8x)" in target
    assert f"{name} `{method}` 16x less, at 1.25x the speed" in memory


def test_losses_to_lax_are_told_by_name():
    spread = {"ratio": 0.9, "ratio_p25": 0.8, "ratio_p75": 0.95}
    made = [
        at(1.0, suite="methods", case="a", method=AUTO) | spread,
        at(1.0, suite="methods", case="b", method=AUTO)
        | {"ratio": 2.0, "ratio_p25": 1.5, "ratio_p75": 3.0},
    ]
    against, means = report.conclusion(made)
    assert "ahead in 1 of 2, level in 0, behind in 1: a forward 0.90x." in against
    assert f"`auto()` forward {math.sqrt(1.8):.2f}x of 2" in means


def test_the_conclusion_tells_where_one_loop_loses():
    def row(batch, method, ratio):
        case = BothWays("lstm", batch, 64, 64).name
        spread = {"ratio_p25": 0.9 * ratio, "ratio": ratio, "ratio_p75": 1.1 * ratio}
        return at(1.0, suite="bidirectional", case=case, method=method) | spread

    made = [
        *(row(1, method, ratio) for method, ratio in ((AUTO, 2.0), (TWO_RUNS, 1), (ONE_LOOP, 2))),
        *(row(8, method, ratio) for method, ratio in ((AUTO, 0.5), (TWO_RUNS, 2), (ONE_LOOP, 1))),
        *(row(32, method, ratio) for method, ratio in ((AUTO, 1), (TWO_RUNS, 1), (ONE_LOOP, 1.1))),
    ]
    lax, loop = report.conclusion(made)
    assert "ahead in 1 of 3, level in 1, behind in 1: bidirectional lstm B=8" in lax
    assert "ahead in 1 of 3, level in 1, behind in 1" in loop
    assert "bidirectional lstm B=8 T=64 H=64 forward 0.50x" in loop


def test_targets_of_sweeps_are_told_met_and_missed():
    small, large = SWEEPS[0].name, SWEEPS[-3].name
    made = [
        at(1.0, suite="sweep", case=case, method="chosen") | {"ratio": ratio}
        for case, ratio in ((small, 2.5), (large, 0.9))
    ]
    met, missed = report.conclusion(made)
    assert f"1 of 2 met: {small} 2.50x (wanted 1.5x)" in met
    assert f"{large} 0.90x (wanted 1x)" in missed


def test_the_readme_quotes_every_way_through_long_sequences():
    made = synthetic.long()
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in excerpt.of_long([*synthetic.choice(), *made]).splitlines()
        if line.startswith("| ")
    ]
    head, *body = [line for line in lines if "---" not in line[0]]
    assert [line[:2] for line in body] == [
        [name, case] for name in excerpt.PASSES for case in numbers.unique(r["case"] for r in made)
    ]
    found = {(r["pass"], r["case"], f"`{r['method']}`"): r for r in made}
    for name, case, plain, *told in body:
        assert plain == numbers.number(found[name, case, "`lax()`"]["median_us_per_step"])
        for way, text in zip(head[3:], told, strict=True):
            ratio = found.get((name, case, way), {}).get("ratio")
            assert text.strip("*") == (numbers.times(ratio) if ratio else "")
        [bold] = [way for way, text in zip(head[3:], told, strict=True) if text.startswith("**")]
        assert bold == ("`associative()`" if case.startswith("min_gru") else "`auto()`")


def test_the_readme_quotes_what_was_measured():
    made = synthetic.peers()
    text = excerpt.of_peers([*synthetic.choice(), *made])
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")][
        2:
    ]
    assert len(lines) == 2 * excerpt.CASES
    cells, batches = ({row["shape"][part] for row in made} for part in ("cell", "batch"))
    assert {case.split()[0] for _, case, *_ in lines} == cells
    assert {int(case.split("B=")[1].split()[0]) for _, case, *_ in lines} == batches
    every = {(*m.place, m.peer["method"]): m for m in peers.matches(made)}
    for name, case, time, plain, linen, best, torch in lines:
        match = every[case, name, "lax.scan"]
        assert time == numbers.number(match.ours["median_us_per_step"])
        assert plain.strip("* ↓") == numbers.times(match.ratio)
        assert linen.strip("* ↓") == numbers.times(every[case, name, "flax.linen"].ratio)
        assert every[case, name, best.split()[-1]].ratio <= every[case, name, "flax.linen"].ratio
        assert torch.startswith("**") == (every[case, name, "torch"].order == 1)
    jax, torch = peers.best_jax([*every.values()]), peers.torch([*every.values()])
    assert f"slower in {sum(m.ratio < 1 for m in jax)} of 33 against the best JAX library" in text
    assert f"and {sum(m.ratio < 1 for m in torch)} of 33 against PyTorch" in text
    assert "2 cores, JAX 0.10.2; jaxrnn 0.0.1, " in text


def test_where_a_rival_is_ahead_both_rates_are_told():
    made = field("a", "forward", 2.0, torch=1.0)
    for row in made:
        row |= {"gflops": 30.0 if row["method"] == "jaxrnn" else 60.0, "matmul_gflops": 100.0}
    [told] = [s for s in peers.words(made) if "rate of a large matrix product" in s]
    assert "torch 60%, we 30% (median of 1)" in told
    assert not any("rate of a" in s for s in peers.words(field("a", "forward", 1.0, torch=2.0)))
