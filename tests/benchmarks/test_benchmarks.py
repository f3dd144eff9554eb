"""The benchmarks work, refuse to time what is wrong, and compute what they say."""

import inspect
import json

import jax
import pytest

import jaxrnn
from benchmarks import cases, clock, contenders, gate, report, rows
from benchmarks.__main__ import main
from benchmarks.cases import Case
from benchmarks.suites import SUITES, run_case
from jaxrnn import methods

TINY = Case("gru", batch=2, length=12, features=4)


@pytest.mark.parametrize("suite", ["speed", "memory"])
def test_quick_writes_rows_page_and_picture(suite, tmp_path):
    tiny, _ = cases.quick(SUITES[suite].cases)
    arguments = [suite, "--quick", "--cases", tiny.name, "--rounds", "2", "--out", str(tmp_path)]
    assert main(arguments) == 0
    written = [json.loads(line) for line in (tmp_path / f"{suite}.jsonl").read_text().splitlines()]
    assert {row["case"] for row in written} == {tiny.name}
    for row in written:
        assert row["reason"] is None
        assert 0 < row["p25_us_per_step"] <= row["median_us_per_step"] <= row["p75_us_per_step"]
        assert row["error"] < 1e-5
        assert row["compile_s"] > 0
        assert row["temp_bytes"] > 0
        assert {"device", "load", "python", "jax", "jaxlib", "jaxrnn", "commit", "date"} <= {*row}
    page = (tmp_path / "report.md").read_text()
    assert all(row["case"] in page for row in written)
    if suite != "memory":
        assert (tmp_path / "ratios.png").read_bytes().startswith(b"\x89PNG")


def test_quick_choice_shows_what_auto_chose(tmp_path):
    options = "scan:hoist=False,scan"
    assert (
        main(["choice", "--quick", "--rounds", "1", "--methods", options, "--out", str(tmp_path)])
        == 0
    )
    written = rows.load(tmp_path, ["choice"])
    assert len(list(rows.choices(written))) == 4
    assert "auto chose" in (tmp_path / "report.md").read_text()


def test_a_case_measured_again_replaces_its_rows_and_no_others(tmp_path):
    first = [{"case": "a", "pass": "forward", "method": m} for m in ("lax()", "auto()")]
    rows.save(tmp_path, "speed", [*first, {"case": "gone"}, {"case": "b"}], ["a", "gone", "b"])
    rows.save(tmp_path, "speed", [{"case": "a", "new": True}], ["b", "a"])
    assert rows.load(tmp_path, ["speed"]) == [{"case": "b"}, {"case": "a", "new": True}]


def test_a_wrong_method_is_reported_and_never_timed(monkeypatch):
    def run(problem, _):
        carry, ys = methods.lax()(problem)
        return carry, 1.001 * ys

    wrong = methods.Method(name="wrong", run=run)
    timed = []
    measure = clock.measure

    def watched(contenders, *args, **kwargs):
        timed.extend(contenders)
        return measure(contenders, *args, **kwargs)

    monkeypatch.setattr(clock, "measure", watched)
    made = list(run_case(SUITES["speed"], TINY, [wrong], rounds=1))
    assert set(timed) == {"lax()"}
    mine = [row for row in made if row["method"] == "wrong"]
    assert [row["pass"] for row in mine] == ["forward", "gradient"]
    for row in mine:
        assert row["median_us_per_step"] is None
        assert row["ratio"] is None
        assert 1e-4 < row["error"] < 1e-2
        assert "1e-04 is allowed" in row["reason"]
    page = report.page(made, None)
    assert f"**Not timed**: {TINY.name} under wrong: relative error" in page


def test_a_refusal_is_reported():
    never = methods.Method(
        name="never", run=methods.lax().run, refuses=lambda *_: "cannot; use methods.lax()"
    )
    made = list(run_case(SUITES["speed"], TINY, [never], rounds=1))
    assert [r["reason"] for r in made if r["method"] == "never"] == [
        "refused: never cannot; use methods.lax()"
    ] * 2


def test_nan_is_an_error():
    nan = jax.numpy.array([1.0, float("nan")])
    wrong = gate.error(
        {"a": nan, "b": nan * 0 + 1}, {"a": jax.numpy.ones(2), "b": jax.numpy.ones(2)}
    )
    assert gate.complaint(wrong, "float32") is not None


def test_methods_are_parsed():
    made = contenders.parse(
        "auto, lax,scan,scan:chunk=16,scan:hoist=False,scan:chunk=32:remat=True"
    )
    assert [method.name for method in made] == [
        "auto()",
        "lax()",
        "scan()",
        "scan(chunk=16)",
        "scan(hoist=False)",
        "scan(chunk=32, remat=True)",
    ]
    assert made[3] == methods.scan(chunk=16)
    assert list(contenders.with_lax(made)) == [
        "lax()",
        *(m.name for m in made if m.name != "lax()"),
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["speed", "--methods", ","], "name at least one, there are auto, lax, scan"),
        (["speed", "--methods", "scam"], "no method is called 'scam'"),
        (["speed", "--methods", "scan:chonk=3"], "no option 'chonk'"),
        (["speed", "--methods", "scan:chunk=__import__('os')"], "is no number"),
        (["speed", "--methods", "scan:chunk=0"], "chunk must be a positive number"),
        (["speed", "--cases", "transformer"], "no case of speed has 'transformer'"),
        (["speed", "--rounds", "0"], "--rounds must be at least 1"),
        (["sped"], "invalid choice: 'sped'"),
        (["report", "--out", "/nowhere"], "nothing was measured yet in /nowhere"),
    ],
)
def test_bad_arguments_give_one_line(arguments, says, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert says in line


def test_ratios_are_taken_within_a_round():
    # The machine was ten times slower in the second round, for both.
    base = clock.Timing([2.0, 20.0, 2.0], calls=1)
    other = clock.Timing([1.0, 10.0, 4.0], calls=1)
    assert clock.ratio(base, other) == (1.25, 2.0, 2.0)
    assert base.seconds.median == base.fastest == 2.0
    assert clock.Spread.of([3.0]) == (3.0, 3.0, 3.0)


def test_the_clock_interleaves():
    order = []
    names = {name: lambda _, name=name: order.append(name) for name in "ab"}
    made = clock.measure(names, (0,), rounds=6, seed=1)
    assert {name: len(timing.rounds) for name, timing in made.items()} == {"a": 6, "b": 6}
    timed = order[2 * clock.WARM_UP :]
    first = [timed[i] for i in range(len(timed)) if i == 0 or timed[i] != timed[i - 1]]
    assert len(first) > 3  # not all of one, then all of the other


def _row(case, method="auto()", **rest):
    row = {"suite": "speed", "case": case.name, "pass": "gradient", "method": method}
    row |= {"ratio_p25": 1.0, "ratio_p75": 1.0, "reason": None, "temp_bytes": 10}
    return row | rest


def test_the_choice_is_compared_with_the_best():
    chosen = {"suite": "choice", "chosen": "scan()"}
    made = [_row(TINY, m, ratio=r, **chosen) for m, r in [("lax()", 1), ("scan()", 2), ("best", 4)]]
    [choice] = rows.choices(made)
    assert (choice.ratio, choice.best, choice.share) == (2, "best", 0.5)


def test_what_auto_chose_is_a_method_that_says_why():
    method, choice = contenders.chosen(TINY)
    assert method.name.startswith("scan(")
    assert choice.because


def test_every_cell_has_a_row():
    factories = {n for n, f in vars(jaxrnn.cells).items() if inspect.isfunction(f)}
    assert {case.cell for case in cases.CELLS} == factories
