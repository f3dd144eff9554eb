"""Before JAX starts: eight virtual devices, to test sharding for real, and quick compilation.

The tests compile thousands of small programs, each of them once. Without LLVM's optimisations, and
with the older code generator while XLA has it, that takes half the time. The benchmarks run, and
check, what users run.
"""

import gc
import os
from importlib.metadata import version

import pytest

FLAGS = [
    "--xla_force_host_platform_device_count=8",
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
]
if version("jaxlib").startswith("0.10."):  # XLA aborts at a flag that it does not know
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")

os.environ.setdefault("JAX_PLATFORMS", "cpu")
given = os.environ.get("XLA_FLAGS", "")
if "host_platform_device_count" not in given:
    os.environ["XLA_FLAGS"] = " ".join([given, *FLAGS]).strip()


@pytest.fixture(autouse=True, scope="module")
def spared():
    """What earlier modules compiled stays, and need not be searched for garbage again and again.

    JAX's leak checker collects at every trace, which takes seconds in a process of gigabytes.
    """
    gc.freeze()
