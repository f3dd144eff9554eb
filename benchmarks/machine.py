"""On what a number was measured, and how busy others kept it meanwhile."""

import os
import platform
import signal
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jaxlib

import jaxrnn

# Cloud machines hide the model behind "AMD EPYC"; the family still tells.
_FAMILIES = {("AuthenticAMD", "26"): "Zen 5"}
_ROOT = Path(__file__).parent.parent


@cache
def description() -> dict[str, Any]:
    return {
        "device": device(),
        "cores": cores(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "jaxrnn": jaxrnn.__version__,
        "commit": commit(),
    }


def cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def device() -> str:
    if jax.default_backend() != "cpu":
        return jax.devices()[0].device_kind
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    # All cores say the same; the last one wins.
    info = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    family = _FAMILIES.get((info.get("vendor_id", ""), info.get("cpu family", "")))
    model = info.get("model name", platform.machine())
    return f"{model} ({family})" if family else model


def slug() -> str:
    """A directory name such as `cpu-zen5-jax0.10.2`."""
    name = device().lower()
    name = name[name.index("(") + 1 : -1] if name.endswith(")") else name
    name = "".join(c for c in name if c.isalnum())
    return f"{jax.default_backend()}-{name}-jax{jax.__version__}"


def commit() -> str:
    """The last commit that changed the library, and whether it was changed since."""
    head = _git("log", "-1", "--format=%h", "--abbrev=12", "--", "jaxrnn")
    if not head:
        return "unknown"
    return head + ("+changes" if _git("status", "--porcelain", "--", "jaxrnn") else "")


def _git(*args: str) -> str | None:
    try:
        done = subprocess.run(["git", *args], cwd=_ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


class Watched:
    """How busy the machine was when a measurement began, and others kept it meanwhile."""

    def __enter__(self) -> "Watched":
        self.load, self.start, self.end = os.getloadavg()[0], _clocks(), None
        return self

    def __exit__(self, *_: object) -> None:
        self.end = _clocks()

    @property
    def columns(self) -> dict[str, float | None]:
        """The load average, and the share of the cores that others used, from 0 to 1."""
        return {"load": round(self.load, 2), "others": self._others()}

    def _others(self) -> float | None:
        if self.start is None or self.end is None:
            return None
        wall, busy, own = (b - a for a, b in zip(self.start, self.end, strict=True))
        if not wall:
            return 0.0
        return round(min(1.0, max(0.0, (busy - own) / (wall * (os.cpu_count() or 1)))), 3)


def _clocks() -> tuple[float, float, float] | None:
    """Seconds: of wall time, of all cores' work, of this process's work."""
    try:
        first = Path("/proc/stat").read_text().split("\n", 1)[0]
    except OSError:
        return None
    user, nice, system, _, _, irq, softirq, steal = map(int, first.split()[1:9])
    busy = user + nice + system + irq + softirq + steal
    ticks = os.sysconf("SC_CLK_TCK")
    return time.monotonic(), busy / ticks, sum(map(_own, ["self", *_children()])) / ticks


def _children() -> list[str]:
    """The processes that this one has started and that run."""
    tasks = Path("/proc/self/task").glob("*/children")
    return [pid for task in tasks for pid in task.read_text().split()]


def _own(pid: str) -> int:
    """Clock ticks that a process has worked."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(after_name[11]) + int(after_name[12])


def quiet() -> None:
    """Leaves Ctrl-C to the process that was started first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
