"""The benchmark of sweeps: its rows and its gate."""

import numpy as np
import pytest

from benchmarks import sweeps
from benchmarks.__main__ import main
from benchmarks.run import Effort
from benchmarks.suites import SUITES

TINY = sweeps.SweepCase("elman", batch=2, length=6, features=4, settings=3, updates=2)
ONCE = Effort(rounds=1, seed=0)


def test_a_sweep_is_measured_against_one_setting_after_another():
    made = list(sweeps.run_case(SUITES["sweep"], TINY, sweeps.parse("chosen,2:1"), ONCE))
    assert [row["method"] for row in made] == [sweeps.ALONE, "chosen", "2 at once on 1 device"]
    for row in made:
        assert row["reason"] is None
        assert row["error"] < 1e-4
        assert 0 < row["p25_us_per_step"] <= row["p75_us_per_step"]
        assert {"device", "cores", "load", "seed", "commit", "date"} <= {*row}
    assert made[1]["because"]


def test_a_wrong_sweep_is_never_timed(monkeypatch):
    right = sweeps.sweeping
    monkeypatch.setattr(sweeps, "sweeping", lambda *args: lambda: right(*args)() + np.float32(0.01))
    made = list(sweeps.run_case(SUITES["sweep"], TINY, sweeps.parse("1"), ONCE))
    assert [row["ratio"] for row in made] == [1.0, None]
    assert "1e-04 is allowed" in made[1]["reason"]


def test_ways_are_parsed():
    assert [way.name for way in sweeps.parse("chosen, 4,16:1")] == [
        *("chosen", "4 at once", "16 at once on 1 device")
    ]


@pytest.mark.parametrize("text", ["", "fast", "0", "1:0", "1:2:3", "-1", "1:"])
def test_what_is_no_way_is_said_in_one_line(text, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["sweep", "--methods", text])
    assert stopped.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "way to sweep" in line


def test_every_case_has_a_target_and_a_name_of_its_own():
    assert len({case.name for case in sweeps.CASES}) == len(sweeps.CASES)
    assert {case.name for case in sweeps.CASES} == set(sweeps.TARGETS)
