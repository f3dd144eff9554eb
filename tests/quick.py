"""How the tests compile: quickly, for they compile thousands of small programs, each of them once.

Without LLVM's optimisations, in one piece, and with the older code generator while XLA has it, that
takes half the time. The benchmarks run, and check, what users run.
"""

import os
from importlib.metadata import version

FLAGS = [
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
]
if version("jaxlib").startswith("0.10."):  # XLA aborts at a flag that it does not know
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")


def environment() -> dict[str, str]:
    """For a process of its own, which makes its virtual devices itself."""
    return {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": " ".join(FLAGS)}
