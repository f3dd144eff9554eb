"""`jaxrnn.tune`: the fastest method for a cell, a shape and this device, by measuring."""

import hashlib
import json
import math
import os
import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn import methods
from jaxrnn.checks import as_flags, check_run
from jaxrnn.core import Cell, Layer, run
from jaxrnn.methods.base import Method

Report = Callable[[Method, float | str], None]

FEW = 64  # numbers of carry a row, whose Jacobians of all time steps are worth a try


def tune(
    layer: Cell | Layer,
    params: Any,
    xs: Any,
    carry: Any = None,
    *,
    grad: bool = True,
    candidates: Sequence[Method] | None = None,
    seconds: float = 1.0,
    cache: str | os.PathLike[str] | None = None,
    report: Report | None = None,
    **options: Any,
) -> Method:
    """Measures the methods that can serve, on this device, and returns the fastest.

    What gives another result than `methods.lax()`, by more than rounding, is not timed. All others take
    turns, after a warm-up, and are compared by their medians: other work on the machine hits them alike.

    Args:
      layer, params, xs, carry: as for `jaxrnn.run`, and its other arguments but `method`; arrays, for
        they are run on.
      grad: whether to time the gradient in the floating-point params and xs (as in training), or the run
        alone.
      candidates: the methods to choose from; those of this library in several settings if None. Newton's
        method, which is exact to a tolerance only, is among them only if you put it there. What is
        fastest forwards and what with a gradient make one method of both: `methods.either`.
      seconds: how long to time each of them; three rounds at the least.
      cache: a file to remember answers in, by program, shapes, device and versions. An answer that is
        found there is returned without measuring.
      report: called with each method and its median seconds, or why it was not timed.

    Returns:
      The method, to give to `run` as `method=`.

    Raises:
      TypeError, ValueError: if the arguments do not fit, or `cache` is a file of something else.
      NotImplementedError: if no candidate can serve.
    """
    for name in ("lengths", "mask", "resets"):
        if name in options:
            options[name] = as_flags(name, options[name])
    check_run(
        layer, params, xs, carry, *(options.get(k) for k in ("lengths", "mask", "resets", "key"))
    )
    if "method" in options:
        raise TypeError("tune() finds the method: give candidates= to choose from")
    length = jax.tree.leaves(xs)[0].shape[0]
    if candidates is None:
        candidates = _settings(length, _numbers_a_row(layer, params, xs, carry) <= FEW)
    several = list(candidates)
    known = {method.name: method for method in several}
    program = partial(_program, layer, carry, grad, options)
    memory = None if cache is None else _Memory(Path(cache))
    key = None if memory is None else _key(program(methods.lax()), params, xs, sorted(known))
    if memory is not None and (name := memory.answers.get(key)) in known:
        return known[name]
    times = _measure(program, params, xs, several, seconds, report or (lambda *_: None))
    if not times:
        names = ", ".join(known)
        raise NotImplementedError(f"no method of {names} can serve {layer}; see jaxrnn.explain")
    best = min(times, key=lambda name: times[name])
    if memory is not None and key is not None:
        memory.remember(key, best)
    return known[best]


def _numbers_a_row(layer: Cell | Layer, params: Any, xs: Any, carry: Any) -> int:
    """How many numbers of carry there are for each row of the batch."""
    first = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), xs)
    start = jax.eval_shape(layer.carry, params, first) if carry is None else carry
    rows = math.prod(jax.tree.leaves(first)[0].shape[:-1])
    return sum(math.prod(jnp.shape(v)) for v in jax.tree.leaves(start)) // max(rows, 1)


def _settings(length: int, few: bool) -> list[Method]:
    chunks = [k for k in (16, 64, 256, 1024) if 2 * k <= length]
    return [
        methods.lax(),
        methods.scan(),
        methods.scan(hoist=False),
        methods.scan(feature_major=True),
        methods.scan(hoist=False, feature_major=True),
        *(methods.scan(chunk=k) for k in chunks),
        *([methods.scan(backward="associative")] if few else []),
        methods.associative(),
        methods.associative(block=max(length, 1)),
        *(methods.associative(chunk=k) for k in chunks),
    ]


def _program(
    layer: Cell | Layer, carry: Any, grad: bool, options: dict[str, Any], method: Method
) -> Callable[..., Any]:
    """What is timed: the run, or the gradient of a number that needs all of its results."""

    def forward(params: Any, xs: Any) -> Any:
        return run(layer, params, xs, carry, method=method, **options)

    def loss(floats: list[Any], params: Any, xs: Any) -> Any:
        leaves, tree = jax.tree.flatten((params, xs))
        rest = iter(floats)
        leaves = [next(rest) if _is_float(v) else v for v in leaves]
        results = jax.tree.leaves(forward(*tree.unflatten(leaves)))
        return sum(jnp.square(jnp.abs(v)).sum().astype(float) for v in results if _is_float(v))

    def gradient(params: Any, xs: Any) -> Any:
        floats = [v for v in jax.tree.leaves((params, xs)) if _is_float(v)]
        return jax.grad(loss)(floats, params, xs)

    return gradient if grad else forward


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def _measure(
    program: Callable[[Method], Callable[..., Any]],
    params: Any,
    xs: Any,
    several: Sequence[Method],
    seconds: float,
    report: Report,
) -> dict[str, float]:
    reference = jax.jit(program(methods.lax()))(params, xs)
    compiled: dict[str, Callable[..., Any]] = {}
    for method in several:
        try:
            function = jax.jit(program(method))
            error = _error(function(params, xs), reference)
        except NotImplementedError as refusal:
            report(method, str(refusal))
            continue
        if error is None:
            compiled[method.name] = function
        else:
            report(method, f"is off methods.lax() by {error:.1e}")
    times: dict[str, list[float]] = {name: [] for name in compiled}
    start, rounds = time.perf_counter(), 0
    while compiled and (rounds < 3 or time.perf_counter() - start < seconds * len(compiled)):
        for name, function in compiled.items():
            begin = time.perf_counter()
            jax.block_until_ready(function(params, xs))
            times[name].append(time.perf_counter() - begin)
        rounds += 1
    medians = {name: median(taken) for name, taken in times.items()}
    for method in several:
        if method.name in medians:
            report(method, medians[method.name])
    return medians


def _error(got: Any, want: Any) -> float | None:
    """How far a result is off, relative to the size of each leaf; None if by rounding alone."""
    worst = 0.0
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        if not _is_float(a):
            continue
        wide = jnp.promote_types(a.dtype, jnp.float32)
        a, b = a.astype(wide), b.astype(wide)
        allowed = 100 * float(jnp.finfo(jnp.result_type(a)).eps) ** 0.75
        size = jnp.maximum(jnp.linalg.norm(b.ravel()), 1e-30)
        error = float(jnp.linalg.norm((a - b).ravel()) / size)
        worst = max(worst, error if error == error and error > allowed else 0.0)
        if error != error and bool(jnp.isfinite(b).all()):
            return float("nan")
    return worst or None


def _key(program: Callable[..., Any], params: Any, xs: Any, names: Sequence[str]) -> str:
    """The program, its shapes, the device and the versions, as one short text."""
    import jaxrnn

    jaxpr = jax.make_jaxpr(program)(params, xs)
    device = jax.devices()[0]
    about = [device.platform, device.device_kind, os.cpu_count(), jax.__version__]
    text = "\n".join(map(str, [jaxpr, *about, jaxrnn.__version__, *names]))
    text = re.sub(r"0x[0-9a-f]+", "", text)  # where a function lies in memory says nothing of it
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class _Memory:
    """Answers in a file of JSON, replaced as a whole so that it is never half written."""

    def __init__(self, path: Path):
        self.path = path
        self.answers: dict[Any, str] = {}
        if path.exists():
            try:
                found = json.loads(path.read_text())["jaxrnn.tune"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"cache={str(path)!r} is no file of jaxrnn.tune; give another path, or delete it"
                ) from error
            self.answers = dict(found)

    def remember(self, key: str, name: str) -> None:
        self.answers[key] = name
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        part.write_text(json.dumps({"jaxrnn.tune": self.answers}, indent=1))
        part.replace(self.path)
