"""The example at toy size: in one process and in two, the numbers agree; and what it refuses."""

import importlib.util
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests import quick

SOURCE = Path(__file__).parents[2] / "examples" / "train_sharded.py"
spec = importlib.util.spec_from_file_location("train_sharded", SOURCE)
example = importlib.util.module_from_spec(spec)
spec.loader.exec_module(example)

TOY = ["--updates=4", "--rows=8", "--devices=4"]


def start(*flags: str) -> subprocess.Popen:
    """With JAX as it comes, so that it makes its virtual devices itself."""
    command = [sys.executable, str(SOURCE), *TOY, *flags]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=quick.environment()
    )


def agrees(out: str, processes: int) -> None:
    """Gloo writes to the same output, and not always on lines of its own."""
    assert f"4 devices in {processes} processes, 4 updates" in out
    losses = re.findall(r"(\d+\.\d+) -> (\d+\.\d+)", out)
    assert len(losses) == 3, out
    for first, last in losses:
        assert float(first) == pytest.approx(float(losses[0][0]), rel=1e-4)
        assert float(last) == pytest.approx(float(losses[0][1]), rel=1e-4)
        assert float(last) < float(first)
    assert "they agree" in out


def test_one_process():
    with start() as process:
        out, err = process.communicate()
    assert process.returncode == 0, err
    agrees(out, 1)


def test_two_processes():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    flags = ["--processes=2", f"--coordinator=localhost:{port}"]
    with start(*flags, "--process=0") as first, start(*flags, "--process=1") as second:
        out, err = first.communicate()
        other, _ = second.communicate()
    assert (first.returncode, second.returncode) == (0, 0), err
    agrees(out, 2)
    assert "agree" not in other  # the first reports


def test_rows_that_do_not_divide_are_refused():
    with start("--rows=6") as process:
        out, err = process.communicate()
    assert process.returncode == 2
    assert "--rows 6 must divide by 4 devices" in err
    assert out == ""


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--updates=0"], "must be 1 at least"),
        (["--processes=2", "--process=2"], "--process 2 must be one of 0"),
        (["--devices=3"], "--devices 3 must be pairs in each of 1 processes"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_said(flags, message, capsys):
    with pytest.raises(SystemExit) as caught:
        example.parse(flags)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
