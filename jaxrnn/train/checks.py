"""What is checked before anything is trained. Every message says what came, and what to do."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import core
from jax.sharding import NamedSharding

from jaxrnn import checks


def check_optimizer(optimizer: Any) -> None:
    if not (callable(getattr(optimizer, "init", None)) and hasattr(optimizer, "update")):
        raise TypeError(
            f"optimizer must be an optax.GradientTransformation, got {type(optimizer).__name__};"
            " make one, e.g. optax.adam(1e-3)"
        )


def check_key(key: Any) -> None:
    """A single typed key. Under `vmap` each is single."""
    checks.check_key(key)


def check_count(name: str, value: Any, least: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")


def check_clip(clip: Any) -> None:
    if clip is None:
        return
    if not isinstance(clip, int | float) and getattr(clip, "shape", None) != ():
        raise TypeError(f"clip must be a number or None, got {clip!r}")
    if not isinstance(clip, core.Tracer) and not clip > 0:
        raise ValueError(f"clip must be greater than 0, got {clip}; None clips nothing")


def check_micro_batches(batch: Any, accumulate: int) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(batch):
        if jnp.ndim(leaf) == 0 or jnp.shape(leaf)[0] != accumulate:
            raise ValueError(
                f"accumulate={accumulate} needs a leading axis of {accumulate} micro-batches on every"
                f" leaf of the batch, but batch{jax.tree_util.keystr(path)} is"
                f" {list(jnp.shape(leaf))}; reshape it to [{accumulate}, ...]"
            )


def check_loss(result: Any, remembers: bool) -> tuple[Any, dict[str, Any], Any]:
    """What a loss returned, as (value, metrics, memory)."""
    if remembers:
        wanted, parts = "(value, metrics, memory), as there is a memory,", result
        fits = isinstance(parts, tuple) and len(parts) == 3
    else:
        parts = (*result, None) if isinstance(result, tuple) else (result, {}, None)
        wanted, fits = "a value, or (value, metrics)", len(parts) == 3
    if not fits or not isinstance(parts[1], dict):
        raise TypeError(f"loss must return {wanted} with metrics a dict, got {_described(result)}")
    value, metrics, memory = parts
    if jnp.shape(value) != () or not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        raise TypeError(
            f"loss must return a floating-point scalar, got {_described(value)}; take its mean"
        )
    if taken := {"loss", "gradient_norm"} & set(metrics):
        raise ValueError(f"the metrics of a loss may not be called {taken}: step() has these names")
    return value, metrics, memory


def check_memory(after: Any, before: Any) -> None:
    checks.check_same(
        "memory that loss returns",
        "memory",
        after,
        "the memory it is given",
        before,
        "it must return the type it takes: cast it there (astype), or start from that type",
    )


def _described(value: Any) -> str:
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_described, value)) + ")"
    return f"{value.dtype}{list(value.shape)}" if hasattr(value, "dtype") else type(value).__name__


def check_fit(
    updates: Any,
    every: Any,
    patience: Any,
    chunk: Any,
    limit: Any,
    validate: Any,
    checkpoints: Any,
    resume: Any,
) -> None:
    counts = {"updates": updates, "every": every, "chunk": chunk, "limit": limit}
    for name, value in counts.items():
        check_count(name, value)
    if validate is not None and not callable(validate):
        raise TypeError(f"validate must be a function of params, got {type(validate).__name__}")
    if patience is not None:
        check_count("patience", patience)
        if validate is None:
            raise ValueError("patience waits for a better validation; give validate= as well")
    if resume and checkpoints is None:
        raise ValueError("resume=True needs checkpoints= to resume from")


def check_sharding(sharding: Any) -> None:
    for leaf in jax.tree.leaves(sharding):
        if not isinstance(leaf, NamedSharding):
            raise TypeError(
                f"sharding must be a NamedSharding or a tree of them, got {type(leaf).__name__};"
                " make one by jax.sharding.NamedSharding(mesh, jax.P('data'))"
            )


def check_update(update: Any, state: Any, batch: Any) -> dict[str, Any]:
    """Returns the shapes and dtypes of the metrics."""
    after, metrics = jax.eval_shape(update, state, batch)
    for name in ("params", "moments"):
        checks.check_same(
            f"state after an update, {name},",
            name,
            getattr(after, name),
            "the one before it",
            getattr(state, name),
            "params and moments must keep their types; is the optimizer given another dtype?",
        )
    return metrics


def check_validation(result: Any) -> dict[str, Any]:
    """The numbers a validation returned, as a dict."""
    numbers = dict(result) if isinstance(result, dict) else {"loss": result}
    if "loss" not in numbers or "count" in numbers:
        raise TypeError(
            f"validate must return a loss, or a dict with a 'loss' (and no 'count'),"
            f" got one with {sorted(numbers)}"
        )
    try:
        return {str(name): float(value) for name, value in numbers.items()}
    except TypeError as error:
        raise TypeError(
            f"validate must return a number, or a dict of numbers, got {_described(result)};"
            " take its mean"
        ) from error


def check_window(batch: Any, k1: int) -> None:
    """The batch of a truncated backpropagation: a dict with the k1 new steps as "xs"."""
    if not isinstance(batch, dict) or "xs" not in batch:
        raise TypeError(
            "a batch for tbptt() is a dict with 'xs' [k1, *batch, ...], and 'valid' and 'resets' if"
            f" any, got {sorted(batch) if isinstance(batch, dict) else type(batch).__name__}"
        )
    length = checks.check_xs(batch["xs"])
    if length != k1:
        raise ValueError(f"tbptt() takes k1={k1} new steps at a time, got xs with T={length}")
