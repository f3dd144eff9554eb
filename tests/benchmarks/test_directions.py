"""Both directions of time: the contenders are what they are called, agree, and are told apart."""

import jax
import pytest

import jaxrnn
from benchmarks import directions, rows
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
