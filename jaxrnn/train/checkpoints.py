"""Checkpoints: atomic and asynchronous by Orbax, whole by our own checksums."""

import contextlib
import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from jaxrnn.named import named_leaves
from jaxrnn.train import checks, manifest
from jaxrnn.train.history import History, Result
from jaxrnn.train.manifest import Refused
from jaxrnn.train.state import copied

log = logging.getLogger("jaxrnn.train")


class CheckpointError(RuntimeError):
    """There is no sound checkpoint, or one cannot be written. `.result` is what `fit` had by then."""

    result: Result | None = None


class CheckpointWarning(UserWarning):
    """A checkpoint was refused, and the one before it taken."""


class Checkpoints:
    """The checkpoints of one run, in one folder.

    Each holds the state (key and position in the data included), the best params, the history and
    `about`, and a manifest with a SHA-256 of every leaf. It appears whole or not at all, and is
    written while training goes on. What is damaged, or of another model, is refused with a
    `CheckpointWarning`, and the one before it is taken. Nothing is pickled.

    Args:
      folder: where; it is made if need be.
      keep: how many of the last are kept.
      keep_best: whether the one at the best validation is kept as well.
      every: updates from one to the next; that of `fit` if None.
      about: what else is to be known of the run, as JSON: its configuration, a vocabulary.

    Raises:
      TypeError, ValueError: if the arguments do not fit.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        keep: int = 3,
        keep_best: bool = True,
        every: int | None = None,
        about: Any = None,
    ):
        checks.check_count("keep", keep)
        if every is not None:
            checks.check_count("every", every)
        try:
            json.dumps(about)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"about must be JSON (dicts, lists, strings, numbers): {error}"
            ) from error
        self.folder, self.every, self.about = Path(folder).absolute(), every, about
        self._kept = _Kept(keep, keep_best)
        self._open: ocp.CheckpointManager | None = None

    def __repr__(self) -> str:
        return f"Checkpoints({str(self.folder)!r})"

    def steps(self) -> list[int]:
        """The update numbers of the checkpoints there are, the last one last."""
        with self._failing("read"):
            return sorted(self._manager().all_steps()) if self.folder.exists() else []

    def read_about(self) -> Any:
        """The `about` of the latest checkpoint whose manifest is sound; None if there is none."""
        for step in reversed(self.steps()):
            with contextlib.suppress(Refused):
                return self._manifest(step)["about"]
        return None

    def fingerprint(self) -> dict[str, str]:
        """SHA-256 of every leaf of the latest checkpoint by name, as its manifest has them.

        Raises:
          CheckpointError: if there is no checkpoint, or its manifest is damaged.
        """
        with self._failing("read"):
            body = self._manifest(self.steps()[-1])
        return {name: leaf["sha256"] for name, leaf in body["leaves"].items()}

    def restore(self, like: Result) -> Result | None:
        """The latest sound checkpoint.

        Args:
          like: a result whose state has the same shapes and dtypes. Arrays are placed as its are.

        Returns:
          A result whose `best` is None if nothing had been validated; None if there are no
          checkpoints.

        Raises:
          CheckpointError: if there are, and none of them is sound, with the reason of each.
        """
        refused = []
        for step in reversed(self.steps()):
            try:
                result = self._read(step, like)
            except Refused as why:
                refused.append(f"checkpoint {self.folder / str(step)} is refused: {why}")
                continue
            for message in refused:
                warnings.warn(
                    f"{message}; taking that of update {step}", CheckpointWarning, stacklevel=2
                )
            return result
        if refused:
            raise CheckpointError("there is no checkpoint to go on from: " + "; ".join(refused))
        return None

    def begin(self, like: Result, resume: bool) -> Result:
        """What a run begins with: a restored result or `like`. Shows whether the folder can be written.

        Raises:
          ValueError: if there are checkpoints, and they are not to be resumed.
          CheckpointError: as `restore`, or if the folder cannot be written to.
        """
        with self._failing("write"):
            self.folder.mkdir(parents=True, exist_ok=True)
            probe = self.folder / f".{os.getpid()}.probe"
            probe.write_bytes(b"")
            probe.unlink()
        steps = self.steps()
        if steps and not resume:
            raise ValueError(
                f"{self.folder} holds checkpoints of a run, the last of update {steps[-1]}:"
                " pass resume=True to go on with it, or choose another folder"
            )
        result = self.restore(like) or like
        self._set_aside([step for step in steps if step > int(result.state.count)])
        return result

    def save(self, result: Result) -> None:
        """Writes a checkpoint in the background. The arrays may be given away as soon as it returns.

        Raises:
          CheckpointError: if this one or the one before it cannot be written.
        """
        step, history = int(result.state.count), result.history
        state = jax.tree.map(copied, result.state)  # the next update takes the buffers of this one
        leaves = named_leaves({"state": state, "best": result.best, "history": history.metrics})
        described = manifest.make(
            leaves,
            about=self.about,
            validations=history.validations,
            metrics=list(history.metrics),
            best=result.best is not None,
        )
        best = history.best()
        self._kept.best = None if best is None else history.validations[best]["count"]
        arrays = {name: manifest.plain(leaf) for name, leaf in leaves.items() if leaf.size}
        items = ocp.args.Composite(
            arrays=ocp.args.StandardSave(arrays), manifest=ocp.args.JsonSave(described)
        )
        with self._failing("write", step):
            self._manager().save(step, args=items, force=True)

    def finish(self) -> None:
        """Waits until everything is written.

        Raises:
          CheckpointError: if something could not be.
        """
        if self._open is not None:
            manager, self._open = self._open, None
            with self._failing("write"), contextlib.closing(manager):
                manager.wait_until_finished()

    def _manager(self) -> ocp.CheckpointManager:
        if self._open is None:
            options = ocp.CheckpointManagerOptions(
                preservation_policy=self._kept, cleanup_tmp_directories=True
            )
            self._open = ocp.CheckpointManager(self.folder, options=options)
        return self._open

    def _manifest(self, step: int) -> dict[str, Any]:
        items = ocp.args.Composite(manifest=ocp.args.JsonRestore())
        with _refusing("its manifest cannot be read"):
            saved = self._manager().restore(step, args=items)["manifest"]
        return manifest.read(saved)

    def _read(self, step: int, like: Result) -> Result:
        body = self._manifest(step)
        entries, state = body["leaves"], like.state
        wanted = {"state": state, "best": state.params if body["best"] else None}
        leaves, structure = named_leaves(wanted), jax.tree.structure(wanted)
        past = {name: e for name, e in entries.items() if name.startswith("history/")}
        manifest.check_fits({n: e for n, e in entries.items() if n not in past}, leaves)
        rows = {n: jax.ShapeDtypeStruct(e["shape"], np.dtype(e["dtype"])) for n, e in past.items()}
        shapes = {**{name: _shape(leaf) for name, leaf in leaves.items()}, **rows}
        items = ocp.args.StandardRestore({n: s for n, s in shapes.items() if s.size})
        with _refusing("its arrays cannot be read"):
            arrays = self._manager().restore(step, args=ocp.args.Composite(arrays=items))["arrays"]
        empty = {n: jnp.zeros(s.shape, s.dtype) for n, s in shapes.items() if not s.size}
        arrays = {**arrays, **empty}
        manifest.check_whole(arrays, entries)
        tree = jax.tree.unflatten(structure, [_as(leaf, arrays[n]) for n, leaf in leaves.items()])
        metrics = {name: np.asarray(arrays[f"history/{name}"]) for name in body["metrics"]}
        return Result(tree["state"], tree["best"], History(metrics, body["validations"]), "")

    def _set_aside(self, steps: Sequence[int]) -> None:
        """Renames what was refused, so that it is in nobody's way and nothing is lost."""
        if not steps:
            return
        self.finish()
        if jax.process_index() == 0:
            with self._failing("write"):
                for step in steps:
                    names = (self.folder / f"refused-{step}-{n}" for n in range(10**6))
                    (self.folder / str(step)).rename(next(p for p in names if not p.exists()))
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("jaxrnn refused checkpoints are set aside")

    @contextlib.contextmanager
    def _failing(self, what: str, step: int | None = None) -> Iterator[None]:
        name = self.folder if step is None else self.folder / str(step)
        try:
            yield
        except Exception as error:
            free = ""
            with contextlib.suppress(OSError):
                free = f" ({shutil.disk_usage(self.folder).free / 2**20:.0f} MiB are free there)"
            raise CheckpointError(
                f"cannot {what} the checkpoint {name}: {error}{free}. Is it a folder that can be"
                " written to? What was saved before is whole"
            ) from error


class _Kept(ocp.checkpoint_managers.PreservationPolicy):
    """The last n, and the best."""

    def __init__(self, last: int, keep_best: bool):
        self.last, self.keep_best, self.best = last, keep_best, None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        del context
        last = {info.step for info in checkpoints[-self.last :]}
        best = {self.best} if self.keep_best else set()
        return [info.step in last | best for info in checkpoints]


@contextlib.contextmanager
def _refusing(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever a reader of damaged files runs into
        lines = str(error).splitlines() or [type(error).__name__]
        raise Refused(f"{what}: {lines[0][:300]}") from error


def _shape(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    leaf = manifest.plain(leaf)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def _as(like: jax.Array, array: Any) -> jax.Array:
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(array, impl=jax.random.key_impl(like))
    return array
