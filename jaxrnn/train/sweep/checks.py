"""What a sweep checks before it trains. Every message says what came, and what to do."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.checks import check_same
from jaxrnn.train.checks import check_count
from jaxrnn.train.state import State


def check_sweep(updates: Any, every: Any, at_once: Any, devices: Any) -> None:
    check_count("updates", updates)
    for name, value in (("every", every), ("at_once", at_once)):
        if value is not None:
            check_count(name, value)
    there = jax.local_devices()
    if isinstance(devices, int | np.integer):
        check_count("devices", devices)
        if devices > len(there):
            raise ValueError(f"devices={devices}, but there are {len(there)} here: {there}")
    elif devices is not None and not (
        isinstance(devices, Sequence) and devices and all(d in there for d in devices)
    ):
        raise TypeError(
            "devices must be a number, or a list of some of jax.local_devices(), which are"
            f" {there}; got {devices!r}"
        )


def check_trial(made: Any) -> Any:
    """A `Trial`, whatever make called it."""
    if not all(hasattr(made, field) for field in ("state", "update", "validate")):
        raise TypeError(
            f"make must return a train.Trial(state, update, validate), got {type(made).__name__}"
        )
    if not isinstance(made.state, State):
        raise TypeError(
            "the state of a Trial must be a train.State, which train.init() makes, got"
            f" {type(made.state).__name__}"
        )
    for name in ("update", "validate"):
        value = getattr(made, name)
        if not callable(value) and (name == "update" or value is not None):
            raise TypeError(f"the {name} of a Trial must be a function, got {value!r}")
    return made


def check_updated(result: Any, before: State) -> tuple[State, Any]:
    """The state and the loss that an update gave."""
    if not (
        isinstance(result, tuple)
        and len(result) == 2
        and isinstance(result[0], State)
        and isinstance(result[1], dict)
        and "loss" in result[1]
    ):
        raise TypeError(
            "update must return (state, metrics) with a metric 'loss', as train.step() makes it"
        )
    after, metrics = result
    check_same(
        "state after an update",
        "state",
        after,
        "the one before it",
        before,
        "it must keep its type: is the optimizer given another dtype?",
    )
    return after, metrics["loss"]


def check_numbers(result: Any) -> dict[str, Any]:
    """The numbers of a validation."""
    numbers = dict(result) if isinstance(result, dict) else {"loss": result}
    if "loss" not in numbers:
        raise TypeError(f"validate must return a loss, or a dict with a 'loss', got {result!r}")
    for name, value in numbers.items():
        if math.prod(jnp.shape(value)) != 1 or jnp.result_type(value).kind not in "biuf":
            raise TypeError(f"validate must return scalars, but {name!r} is {value!r}")
    return {str(name): jnp.reshape(value, ()) for name, value in numbers.items()}
