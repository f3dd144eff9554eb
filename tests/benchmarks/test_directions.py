"""Both directions of time: the contenders are what they are called, agree, and are told apart."""

import jax
import pytest

import jaxrnn
from benchmarks import directions, report, rows
from benchmarks.__main__ import main
from benchmarks.contenders import AUTO, LAX
from benchmarks.directions import ONE_LOOP, TWO_RUNS, BothWays
from jaxrnn import methods

TINY = BothWays("gru", batch=2, length=12, features=4)


def test_quick_writes_rows_and_page(tmp_path):
    arguments = ["bidirectional", "--quick", "--cases", "B=1", "--rounds", "2"]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    written = rows.load(tmp_path, ["bidirectional"])
    asked = [(p, m) for p in ("forward", "gradient") for m in (LAX, AUTO, TWO_RUNS, ONE_LOOP)]
    assert [(row["pass"], row["method"]) for row in written] == asked
    for row in written:
        assert row["reason"] is None
        assert row["error"] < 1e-5
        assert row["median_us_per_step"] > 0
    page = (tmp_path / "report.md").read_text()
    assert "Both directions in one loop against two runs" in page
    assert "bidirectional lstm B=1 T=40 H=8" in page


@pytest.mark.parametrize(("name", "loops"), [(LAX, 2), (TWO_RUNS, 2), (ONE_LOOP, 1)])
def test_as_many_loops_as_are_said(name, loops):
    layer, _ = directions.field(TINY, [methods.auto()])[name]

    def run(params, xs):
        return jaxrnn.run(layer, params, xs, method=methods.lax())

    text = str(jax.make_jaxpr(run)(*TINY.arrays()))
    assert text.count(" scan[") == loops


def test_the_plain_scans_are_plain():
    field = directions.field(TINY, [methods.auto()])
    assert {name: method.name for name, (_, method) in field.items()} == {
        LAX: "lax()",
        AUTO: "auto()",
        TWO_RUNS: "auto()",
        ONE_LOOP: "auto()",
    }


def test_the_conclusion_tells_where_one_loop_loses():
    def row(batch, method, ratio):
        case = BothWays("lstm", batch, 64, 64).name
        made = {"suite": "bidirectional", "case": case, "pass": "gradient", "method": method}
        spread = {"ratio_p25": 0.9 * ratio, "ratio": ratio, "ratio_p75": 1.1 * ratio}
        return made | spread | {"reason": None}

    made = [
        *(row(1, method, ratio) for method, ratio in ((AUTO, 2.0), (TWO_RUNS, 1), (ONE_LOOP, 2))),
        *(row(8, method, ratio) for method, ratio in ((AUTO, 0.5), (TWO_RUNS, 2), (ONE_LOOP, 1))),
        *(row(32, method, ratio) for method, ratio in ((AUTO, 1), (TWO_RUNS, 1), (ONE_LOOP, 1.1))),
    ]
    lax, loop = report.conclusion(made)
    assert "ahead in 1 of 3, level in 1, behind in 1: bidirectional lstm B=8" in lax
    assert "ahead in 1 of 3, level in 1, behind in 1" in loop
    assert "bidirectional lstm B=8 T=64 H=64 gradient 0.50x" in loop
