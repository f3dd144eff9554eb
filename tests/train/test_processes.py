"""Two processes train, save and resume as one does: params spread over both, each with its batches."""

import socket
import subprocess
import sys
from pathlib import Path

from jaxrnn import train
from tests import quick

SOURCE = Path(__file__).with_name("process.py")


def run(folder: Path, processes: int) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    running = [
        subprocess.Popen(
            [sys.executable, str(SOURCE), str(folder), str(processes), str(n), str(port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=quick.environment(),
        )
        for n in range(processes)
    ]
    for process in running:
        with process:
            _, err = process.communicate()
        assert process.returncode == 0, err


def test_two_processes_save_and_resume_as_one(tmp_path):
    run(tmp_path / "two", 2)
    two = train.Checkpoints(tmp_path / "two" / "whole")
    assert two.steps()[-1] == 15
    assert train.Checkpoints(tmp_path / "two" / "parts").fingerprint() == two.fingerprint()

    run(tmp_path / "one", 1)
    one = train.Checkpoints(tmp_path / "one" / "whole")
    assert one.fingerprint().keys() == two.fingerprint().keys()
    assert len(one.fingerprint()) > 10
