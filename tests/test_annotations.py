"""Every annotation of the package holds while all that is public is traced."""

import subprocess
import sys

from tests import quick


def test_annotations_hold():
    command = [sys.executable, "-W", "error", "-m", "tests.annotated"]
    done = subprocess.run(command, capture_output=True, text=True, env=quick.environment())
    assert done.returncode == 0, done.stderr
    assert done.stdout == "annotations hold\n"
