"""Which learning rate, how many units, how much zoneout? Trains all of them at once, on real text.

    python examples/sweep.py                                    two minutes on two CPU cores
    python examples/sweep.py --cell lstm --features 8 32 128 --learning-rate 0.001 0.01 --seeds 4
    python examples/sweep.py --text ~/novel.txt --out novels

A character-level model reads the sources of Python's own library (or --text). Each setting is a training
of its own, and all are one compiled program: `make` is traced once, for numbers that stand for all
settings, the number of units among them. Top to bottom: text, model, command line.

Losses are bits for each character; a character that is neither ASCII nor a line's end counts as one more
symbol. Ctrl-C stops early and shows what was learnt so far.
"""

import argparse
import csv
import inspect
import itertools
import math
import os
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

import jaxrnn
from jaxrnn import around, cells, inside, train
from jaxrnn.inside.narrow import glorot_of, orthogonal_of


class Refused(Exception):
    """What was asked for cannot be done; the message is one line for the user."""


def refuse(message: str) -> Any:
    raise Refused(message)


# ---- text ----------------------------------------------------------------------------------------

SYMBOLS = 97  # 0 is any other character, 1 ends a line, and 2 ... 96 are ASCII
MOST = 2_000_000  # characters; more would not be read in so few updates


def read(path: Path | None) -> np.ndarray:
    """The symbols of a file, or of the modules of Python's own library."""
    files = [path] if path else sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    codes = np.frombuffer(b"".join(f.read_bytes() for f in files)[:MOST], np.uint8).astype(np.int32)
    return np.where(codes == 10, 1, np.where((codes >= 32) & (codes < 127), codes - 30, 0))


def split(text: np.ndarray, batch: int, window: int) -> tuple[np.ndarray, np.ndarray]:
    """The first nine tenths to train on, and longer windows [4 T + 1, rows] of the rest to validate."""
    cut = len(text) * 9 // 10
    rows = min(32, (len(text) - cut) // (4 * window + 1))
    if rows < 1 or cut < batch + window:
        refuse(f"--text has {len(text)} characters, too few for --window {window} --batch {batch}")
    held_out = text[cut:][: rows * (len(text[cut:]) // rows)].reshape(rows, -1)
    return text[:cut], held_out[:, : 4 * window + 1].T


def unigram(text: np.ndarray, held_out: np.ndarray) -> float:
    """What a symbol costs if nothing but frequencies is known."""
    counts = np.bincount(text, minlength=SYMBOLS) + 1
    return float(-np.log2(counts / counts.sum())[held_out].mean())


# ---- model ---------------------------------------------------------------------------------------


def maker(cell: Any, widest: int, held_out: np.ndarray) -> Any:
    """The function of a setting that says what to train."""

    def make(learning_rate: Any, features: Any, rate: Any, seed: Any) -> train.Trial:
        # As wide as the widest; the first `features` units are in use, and begin as so many would.
        inner = cell(widest, input_init=glorot_of(features), recurrent_init=orthogonal_of(features))
        used = inside.narrow(inside.zoneout(inner, rate), features)
        model = around.stack(around.embed(SYMBOLS, 32), used, around.dense(SYMBOLS))

        def bits(params: Any, symbols: jax.Array, key: Any = None) -> jax.Array:
            _, logits = jaxrnn.run(model, params, symbols[:-1], key=key)
            return train.cross_entropy(logits, symbols[1:]) / math.log(2)

        optimizer = optax.adam(learning_rate)
        params = model.init(jax.random.key(seed), held_out[0])
        state = train.init(params, optimizer, key=jax.random.key(seed))
        # Noise needs a key: there is none where it is validated.
        return train.Trial(
            state, train.step(bits, optimizer, clip=1.0), lambda p: bits(p, held_out)
        )

    return make


def batches(text: np.ndarray, batch: int, window: int) -> Any:
    """Windows [T + 1, B] drawn anew for each update, the same ones for all settings."""
    text = jnp.asarray(text)

    def data(number: jax.Array) -> jax.Array:
        key = jax.random.fold_in(jax.random.key(0), number)
        starts = jax.random.randint(key, (batch,), 0, len(text) - window)
        return text[jnp.arange(window + 1)[:, None] + starts[None]]

    return data


# ---- command line --------------------------------------------------------------------------------

CELLS = {
    name: factory
    for name, factory in inspect.getmembers(cells, inspect.isfunction)
    if {"input_init", "recurrent_init"} <= inspect.signature(factory).parameters.keys()
    if name not in ("jordan", "indrnn") and not name.startswith("layer_norm")  # see inside.narrow
}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("sweep", description=__doc__.splitlines()[0])
    parser.error, flag = refuse, parser.add_argument
    several: Any = {"nargs": "+", "metavar": "X"}
    flag("--text", type=Path, help="a file (default: Python's own library)")
    flag("--cell", default="gru", choices=CELLS)
    flag("--learning-rate", type=float, default=[0.003, 0.01, 0.03], **several)
    flag("--features", type=int, default=[16, 32, 64], help="numbers of units", **several)
    flag("--rate", type=float, default=[0.0, 0.1], help="of zoneout", **several)
    flag("--seeds", type=int, default=2, help="how many (%(default)s)")
    flag("--updates", type=int, default=300)
    flag("--batch", type=int, default=16, help="rows of text side by side (%(default)s)")
    flag("--window", type=int, default=64, help="steps of backpropagation (%(default)s)")
    flag("--at-once", type=int, help="settings that run as one by vmap (default: chosen)")
    flag("--out", type=Path, help="a folder (default: a new one, runs/sweep-001, -002, ...)")
    args = parser.parse_args(argv)
    ranges = {"rate": (0, 0.999), "learning_rate": (1e-9, 1e9)}
    for name, value in vars(args).items():
        low, high = ranges.get(name, (1, 2**31 - 1))
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int | float) and not low <= number <= high:
                refuse(f"--{name.replace('_', '-')} {number} is not in {low} ... {high}")
    return args


def shown(table: train.Table, title: str) -> Table:
    head, rows = table.cells()
    made = Table(*head, title=title, box=None, padding=(0, 1, 0, 0))
    for column in made.columns:
        column.justify = "right"
    for number, row in enumerate(rows):
        made.add_row(*row, style="bold" if number == 0 else "")
    return made


def save(table: train.Table, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table.plot(folder / "sweep.png")
    with (folder / "sweep.csv").open("w", newline="") as file:
        rows = [{k: v for k, v in row.items() if k != "curve"} for row in table.rows]
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def main(argv: Sequence[str] | None = None) -> int:
    try:
        args = parse(argv)
        text, held_out = split(read(args.text), args.batch, args.window)
        fresh = (Path(f"runs/sweep-{n:03}") for n in itertools.count(1))
        folder = args.out or next(path for path in fresh if not path.exists())
        folder.mkdir(parents=True, exist_ok=True)  # whether that can be done shows now
        grid = {
            "learning_rate": args.learning_rate,
            "features": args.features,
            "rate": args.rate,
            "seed": range(args.seeds),
        }
        print(f"{len(text):,} characters to train on, {held_out[1:].size:,} to validate on")
        table = train.sweep(
            maker(CELLS[args.cell], max(args.features), held_out),
            grid,
            batches(text, args.batch, args.window),
            updates=args.updates,
            at_once=args.at_once,
        )
        console = Console()
        console.print(shown(table, f"bits per character of {args.cell} cells, best first"))
        if table.stopped == "interrupted":
            print("stopped by Ctrl-C")
        print(f"{len(table.rows)} settings in {table.seconds:.0f} s, {table.how}: {table.because}")
        best = table.best()
        print(
            f"best: {best['best']:.3f} bits per character after update {best['best_at']}"
            f" (unigram {unigram(text, held_out):.3f})"
        )
        save(table, folder)
        print(f"sweep.png, sweep.csv in {folder}")
    except (Refused, OSError, jax.errors.JaxRuntimeError) as error:
        print("sweep: error:", *str(error).split(), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sweep: aborted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    if "host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        # Every core as a device of its own, for settings of its own.
        jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    sys.exit(main())
