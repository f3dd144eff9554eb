"""Before JAX starts: quick compilation, and eight virtual devices, to test sharding for real."""

import gc
import os
import signal

import pytest

from tests.quick import FLAGS

DEVICES = "--xla_force_host_platform_device_count"

os.environ.setdefault("JAX_PLATFORMS", "cpu")
given = os.environ.get("XLA_FLAGS", "")
if DEVICES not in given:
    os.environ["XLA_FLAGS"] = " ".join([given, f"{DEVICES}=8", *FLAGS]).strip()


# A suite that runs in the background of a shell is born deaf to Ctrl-C, which its tests press.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="module")
def spared():
    """What earlier modules compiled stays, and need not be searched for garbage again and again.

    JAX's leak checker collects at every trace, which takes seconds in a process of gigabytes.
    """
    gc.freeze()
