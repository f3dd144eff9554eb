"""A training that is killed and resumed ends with the bits of one that was not."""

import sys
from pathlib import Path

import pytest

from tests import kill

JOB = [sys.executable, str(Path(__file__).with_name("job.py")), "{out}"]


def test_killed_and_resumed_to_the_bit(tmp_path):
    result = kill.kill(JOB, tmp_path, kills=2, seed=1, marker="update ", checkpoints=".")
    assert len(result.moments) == 2
    assert result.leaves > 20


DRAWN = """
import sys, jax, optax
from jaxrnn import train
whole = sys.argv[1].endswith("whole")
def loss(params, batch, key):
    return jax.random.normal(key) * params
train.fit(loss, jax.numpy.ones(()), optax.sgd(0.1), lambda n: n, updates=3, resume=True,
          key=jax.random.key(0 if whole else 1), checkpoints=train.Checkpoints(sys.argv[1]))
"""


def test_a_difference_would_be_found(tmp_path):
    command = [sys.executable, "-c", DRAWN, "{out}"]
    with pytest.raises(SystemExit, match=r"killed-1 differs from .*whole in .*state/params"):
        kill.kill(command, tmp_path, kills=1, seed=0, marker="update ", checkpoints=".")


def test_a_command_that_fails_is_reported(tmp_path):
    with pytest.raises(SystemExit, match="ended with 3"):
        kill.kill([sys.executable, "-c", "raise SystemExit(3)"], tmp_path, 1, 0, "update ", ".")


def test_it_is_a_command(capsys):
    with pytest.raises(SystemExit, match="0"):
        kill.main(["--help"])
    assert "SIGKILL at random moments" in capsys.readouterr().out
