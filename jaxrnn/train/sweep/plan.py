"""How to run a sweep: rules from measurements, kept as data.

On a GPU a step of a small network costs its launches, so a hundred networks cost what one does. On a
CPU many at once (`vmap`) turn each product into a batched one, for which XLA has slower code: that
wins where a step is so small that its overhead counts, and loses beyond (2 cores of a Zen 3, JAX
0.10.2; `python -m benchmarks sweep`). What always wins is a device for each core.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrnn.engine.jaxprs import Jaxpr
from jaxrnn.train.sweep.sizes import blocking, heaviest, peak_bytes


@dataclass(frozen=True)
class Rules:
    """How many settings at once, for one kind of device."""

    # From the smallest: up to so many FLOPs of a step's product, so many at once; beyond the last, one.
    at_once: tuple[tuple[float, int], ...]
    measured: bool
    resident: int = 256 << 20  # bytes of states that one call works through


CPU = Rules(at_once=((16_384, 16), (150_000, 4)), measured=True)
ACCELERATOR = Rules(at_once=((math.inf, 1 << 30),), measured=False)
SHARE_OF_MEMORY = 0.5  # what is read from the program is an estimate


class Plan(NamedTuple):
    """`calls` times: on each of `devices`, `rounds` one after another of `at_once` settings."""

    devices: tuple[Any, ...]
    at_once: int
    rounds: int
    calls: int
    because: str

    @property
    def slots(self) -> int:
        """Settings of one call."""
        return len(self.devices) * self.rounds * self.at_once

    @property
    def how(self) -> str:
        each = "one after another" if self.at_once == 1 else f"{self.at_once} at once (vmap)"
        some = f" on each of {len(self.devices)} devices" if len(self.devices) > 1 else ""
        return f"{each}{some}" + (f", in {self.calls} calls" if self.calls > 1 else "")


def choose(
    settings: int,
    update: Jaxpr,
    state_bytes: int,
    *,
    at_once: int | None = None,
    devices: Sequence[Any] | int | None = None,
) -> Plan:
    """How to run so many settings of an update, and why.

    Args:
      settings: how many there are.
      update: the program of one update of one setting.
      state_bytes: what its state takes.
      at_once: how many a device is to run at once; None chooses.
      devices: those to use, or how many; None chooses.
    """
    used, why_devices = _devices(settings, devices)
    rules = CPU if used[0].platform == "cpu" else ACCELERATOR
    share = math.ceil(settings / len(used))
    if at_once is None:
        at_once, why = _at_once(rules, update, state_bytes, used[0])
    else:
        why = f"at_once={at_once} was asked for"
    # As even as can be: 10 settings at most 4 at once are 4 + 3 + 3, padded to 4 + 4 + 4, not 12 + 2.
    rounds = math.ceil(share / min(at_once, share))
    at_once = math.ceil(share / rounds)
    calls = math.ceil(rounds / max(1, rules.resident // max(1, at_once * state_bytes)))
    return Plan(used, at_once, math.ceil(rounds / calls), calls, f"{why}; {why_devices}")


def _at_once(rules: Rules, update: Jaxpr, state_bytes: int, device: Any) -> tuple[int, str]:
    if device.platform == "cpu" and (name := blocking(update)) is not None:
        return 1, f"an update has a {name}, which XLA's CPU runtime may never finish if batched"
    product = heaviest(update)
    work = 0 if product is None else product.flops
    wanted = next((many for limit, many in rules.at_once if work <= limit), 1)
    told = "no product" if product is None else f"the product {product}, {work:,} FLOP"
    size = (
        "small enough that overhead counts" if wanted > 1 else "too large for a batched one to win"
    )
    why = (
        f"a step has {told}, {size}"
        if rules.measured
        else "accelerators run many as one (unmeasured)"
    )
    each = peak_bytes(update) + state_bytes
    fit = max(1, int(SHARE_OF_MEMORY * _memory(device)) // max(1, each))
    if fit < wanted and not rules.measured:
        why += f"; about {each / 2**20:.3g} MiB for each let {fit} fit"
    return min(wanted, fit), why


def _devices(settings: int, devices: Sequence[Any] | int | None) -> tuple[tuple[Any, ...], str]:
    there = jax.local_devices()
    if isinstance(devices, int | np.integer):
        return tuple(there[:devices]), f"{devices} of {len(there)} devices were asked for"
    if devices is not None:
        return tuple(devices), f"{len(devices)} devices were asked for"
    if there[0].platform != "cpu":
        return tuple(there[:settings]), f"{len(there)} devices"
    cores = _cores()
    used = tuple(there[: min(cores, settings)])
    if len(there) < cores and settings > len(there):
        return used, (
            f"{cores} cores, and {len(there)} of them a device of JAX: to use the others, run"
            f' jax.config.update("jax_num_cpu_devices", {cores}) before JAX starts'
        )
    return used, f"{cores} cores, {len(there)} devices"


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory(device: Any) -> float:
    """Bytes that are free for this device."""
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # no such thing here
        return math.inf
    return free / jax.local_device_count()
