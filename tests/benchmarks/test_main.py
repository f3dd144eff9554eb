"""The command line: quick runs of every suite, interruption, resumption, refusals in one line."""

import inspect

import pytest

import jaxrnn
from benchmarks import __main__ as command
from benchmarks import cases, run
from benchmarks.__main__ import main
from benchmarks.rows import read, save
from benchmarks.suites import SUITES

OFTEN = ("peers", "long")  # in every run of the tests


@pytest.mark.parametrize(
    "suite", [pytest.param(n, marks=[] if n in OFTEN else [pytest.mark.thorough]) for n in SUITES]
)
def test_quick_measures_and_reports(suite, tmp_path, capsys):
    assert main([suite, "--quick", "--out", str(tmp_path)]) == 0
    made = read(tmp_path / f"{suite}.jsonl")
    names = [case.name for case in SUITES[suite].quick().cases]
    assert list(dict.fromkeys(row["case"] for row in made)) == names
    for row in made:
        assert row["reason"] is None or row["reason"].startswith("absent: ")
    assert {row["method"] for row in made if row["reason"] is None}
    out = capsys.readouterr().out
    assert all(f"{n} of {len(names)}: {name}" in out for n, name in enumerate(names, 1))
    assert suite in (tmp_path / "report.md").read_text()
    assert names[0] in (tmp_path / "report.html").read_text()


@pytest.fixture
def interrupted(monkeypatch):
    """A suite that is stopped in its second case, once; and the cases that were measured."""
    seen = []

    def run_case(suite, case, methods, effort):
        seen.append(case.name)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return run.run_case(suite, case, methods, effort)

    suite = SUITES["methods"].quick()
    stopping = type(suite)(**{**vars(suite), "run_case": run_case})
    monkeypatch.setitem(command.SUITES, "methods", stopping)
    return seen


def test_an_interrupted_run_is_resumed_without_losing_a_row(interrupted, tmp_path, capsys):
    asked = ["methods", "--rounds", "1", "--out", str(tmp_path)]
    first, second = (case.name for case in SUITES["methods"].cases)
    assert main(asked) == 0
    assert "go on with --resume" in capsys.readouterr().out
    kept = read(tmp_path / "methods.jsonl")
    assert {row["case"] for row in kept} == {first}
    assert main([*asked, "--resume"]) == 0
    assert interrupted == [first, second, second]
    made = read(tmp_path / "methods.jsonl")
    assert made[: len(kept)] == kept
    assert {row["case"] for row in made} == {first, second}


def test_what_another_commit_measured_is_measured_again(interrupted, tmp_path):
    asked = ["methods", "--rounds", "1", "--out", str(tmp_path)]
    main(asked)
    old = [row | {"commit": "another"} for row in read(tmp_path / "methods.jsonl")]
    save(tmp_path, "methods", old, [case.name for case in SUITES["methods"].cases])
    main([*asked, "--resume"])
    assert "another" not in {row["commit"] for row in read(tmp_path / "methods.jsonl")}


def test_a_case_measured_again_replaces_its_rows_and_no_others(tmp_path):
    first = [{"case": "a", "pass": "forward", "method": m} for m in ("lax()", "auto()")]
    save(tmp_path, "methods", [*first, {"case": "gone"}, {"case": "b"}], ["a", "gone", "b"])
    save(tmp_path, "methods", [{"case": "a", "new": True}], ["b", "a"])
    assert read(tmp_path / "methods.jsonl") == [{"case": "b"}, {"case": "a", "new": True}]


def test_all_runs_every_suite_in_a_process_of_its_own(monkeypatch):
    commands = []

    class Done:
        returncode = 0

    monkeypatch.setattr(command.subprocess, "run", lambda given: commands.append(given) or Done)
    assert main(["all", "--quick", "--seed", "3"]) == 0
    assert [given[2:] for given in commands] == [
        ["benchmarks", name, "--quick", "--seed", "3"] for name in SUITES
    ]


def test_list_names_every_case(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    for suite in SUITES.values():
        assert suite.asks in out
        assert all(case.name in out for case in suite.cases)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["methods", "--methods", ","], "there are associative, auto, lax, newton, scan"),
        (["methods", "--methods", "scam"], "no method is called 'scam'"),
        (["methods", "--methods", "scan:chonk=3"], "no option 'chonk'"),
        (["methods", "--methods", "scan:chunk=__import__('os')"], "is no number"),
        (["methods", "--methods", "scan:chunk=0"], "chunk must be a positive number"),
        (["peers", "--cases", "transformer"], "no case of peers has 'transformer'"),
        (["peers", "--rounds", "0"], "--rounds must be at least 1"),
        (["pears"], "invalid choice: 'pears'"),
        (["report", "--out", "/nowhere"], "nothing was measured yet in /nowhere"),
        (["compare", "/no.jsonl", "/no.jsonl"], "there is no file /no.jsonl"),
    ],
)
def test_bad_arguments_give_one_line(arguments, says, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert says in line


def test_every_cell_has_a_row():
    factories = {n for n, f in vars(jaxrnn.cells).items() if inspect.isfunction(f)}
    assert {case.cell for case in cases.CELLS} == factories


def test_the_peers_cover_the_grid_that_is_promised():
    for cell in ("lstm", "gru", "elman"):
        mine = [case for case in cases.PEERS if case.cell == cell]
        assert {case.batch for case in mine} == {1, 8, 32, 128}
        assert {case.length for case in mine} == {32, 128, 512}
        assert {case.features for case in mine} == {32, 64, 128, 256, 512, 1024}
    assert {name for case in cases.PEERS for name in case.passes} == {
        "forward",
        "gradient",
        "update",
    }


def test_no_two_cases_of_a_suite_share_a_name():
    for suite in SUITES.values():
        names = [case.name for case in suite.cases]
        assert len(set(names)) == len(names), suite.name
