"""Kills a training with SIGKILL at random moments, resumes it, and compares the bits.

    python tests/kill.py --kills 20 -- python examples/char_lm.py --out {out} --updates 300

The command is run once without interruption. Then it is run in another folder, killed, run again with
--resume, killed, and so on, until it ends by itself; if that was before enough kills, in a folder more.
Every leaf of the last checkpoint, params and moments and key and history, must have the same SHA-256.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jaxrnn import train


class Kills(NamedTuple):
    moments: list[float]  # seconds from the marker to the kill
    runs: int  # how many folders it took
    leaves: int  # how many were compared


def start(command: Sequence[str], out: Path, resume: bool) -> subprocess.Popen:
    filled = [part.replace("{out}", str(out)) for part in command] + ["--resume"] * resume
    # A group of its own, so that what it starts dies with it.
    return subprocess.Popen(filled, stdout=subprocess.PIPE, text=True, start_new_session=True)


def finish(process: subprocess.Popen) -> None:
    with process:  # which waits for it
        if process.stdout and not process.stdout.closed:
            process.stdout.read()
    if process.returncode != 0:
        raise SystemExit(f"{process.args} ended with {process.returncode}")


def until(process: subprocess.Popen, marker: str) -> bool:
    """Reads on until a line has the marker; false if none had."""
    return any(marker in line for line in process.stdout or ())


def killed(process: subprocess.Popen, seconds: float) -> bool:
    """Kills it after so many seconds; false if it had ended by itself."""
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True
    return False


def kill(
    command: Sequence[str], folder: Path, kills: int, seed: int, marker: str, checkpoints: str
) -> Kills:
    """Runs, kills, resumes and compares.

    Args:
      command: with {out} where the folder belongs, and without --resume.
      folder: an empty one, for all runs.
      kills: how many.
      seed: of the moments.
      marker: what a line of its output has once it trains; moments are counted from there.
      checkpoints: where in {out} the checkpoints are.

    Raises:
      SystemExit: if a run fails or the bits differ.
    """
    draw, moments, runs = random.Random(seed), [], 0
    process = start(command, folder / "whole", resume=False)
    until(process, marker)
    began = time.monotonic()
    finish(process)
    reach = (time.monotonic() - began) * 2 / max(kills, 4)
    expected = train.Checkpoints(folder / "whole" / checkpoints).fingerprint()
    while len(moments) < kills:
        runs += 1
        out = folder / f"killed-{runs}"
        ended = False
        while not ended:
            process = start(command, out, resume=out.exists())
            if len(moments) == kills:
                finish(process)
                break
            moment = draw.uniform(0, reach)
            ended = not (until(process, marker) and killed(process, moment))
            if ended:
                finish(process)
            else:
                moments.append(moment)
                print(f"kill {len(moments)} of {kills}, {moment:.2f} s into it", flush=True)
        found = train.Checkpoints(out / checkpoints).fingerprint()
        if differ := sorted(n for n in {*expected, *found} if expected.get(n) != found.get(n)):
            raise SystemExit(f"{out} differs from {folder / 'whole'} in {', '.join(differ)}")
    return Kills(moments, runs, len(expected))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("kill", description=__doc__.splitlines()[0])
    flag = parser.add_argument
    flag("--kills", type=int, default=20)
    flag("--seed", type=int, default=0)
    flag("--marker", default="update ", help="in a line of output, once it trains (%(default)r)")
    flag("--checkpoints", default=".", help="their folder, in {out} (%(default)s)")
    flag("--folder", type=Path, help="for the runs (default: a temporary one)")
    flag("command", nargs="+", help="with {out} where the folder belongs; after --")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        result = kill(args.command, folder, args.kills, args.seed, args.marker, args.checkpoints)
    print(
        f"{len(result.moments)} kills in {result.runs} runs: all {result.leaves} leaves of the last"
        " checkpoint have the bits of the uninterrupted run"
    )


if __name__ == "__main__":
    sys.exit(main())
