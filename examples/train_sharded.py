"""Trains one model on one device, on many, and with its params spread over them: the same numbers.

    python examples/train_sharded.py                            eight virtual devices on any CPU

and, in one terminal each, two processes as two hosts would run them:

    python examples/train_sharded.py --processes 2 --process 0 --coordinator localhost:9876
    python examples/train_sharded.py --processes 2 --process 1 --coordinator localhost:9876

A GRU reads the sources of Python's own library byte by byte and guesses the next byte. Nothing in model,
loss or training knows of devices: where the arrays lie decides, and XLA puts in the communication.
"""

import argparse
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding

import jaxrnn
from jaxrnn import cells, train

P = jax.P
FEATURES, WINDOW = 64, 32
# What is multiplied most is cut by columns; the rest, biases and the readout, is on all devices.
RULES = [("^cell/(input|recurrent)$", P(None, "model"))]


# ---- data ----------------------------------------------------------------------------------------
class Text:
    """Batches [T, B] of bytes, the same again and again: of each, the columns of this process."""

    def __init__(self, rows: int, windows: int, begin: int, end: int):
        source = Path(sysconfig.get_paths()["stdlib"])
        text = b"".join(path.read_bytes() for path in sorted(source.glob("*.py")))
        need = rows * (windows * WINDOW + 1)
        table = np.frombuffer(text[:need], np.uint8).reshape(rows, -1)
        self.table, self.windows = table[begin:end].T.astype(np.int32), windows

    def __iter__(self) -> Iterator[np.ndarray]:
        for n in range(self.windows):
            yield self.table[n * WINDOW : (n + 1) * WINDOW + 1]


# ---- model ---------------------------------------------------------------------------------------
cell = cells.gru(FEATURES)


def init(key: jax.Array) -> dict[str, Any]:
    a, b, c = jax.random.split(key, 3)
    embedding = jax.random.normal(a, (256, 32))
    readout = jax.random.normal(b, (FEATURES, 256)) / FEATURES
    return {"embedding": embedding, "cell": cell.init(c, embedding[0]), "readout": readout}


def loss(params: Any, symbols: jax.Array, key: Any) -> jax.Array:
    """Nats per byte."""
    del key  # there is no noise
    _, ys = jaxrnn.run(cell, params["cell"], params["embedding"][symbols[:-1]])
    return train.cross_entropy(ys @ params["readout"], symbols[1:])


# ---- training ------------------------------------------------------------------------------------
def fit(args: argparse.Namespace, mesh: Mesh | None, rules: Sequence[Any]) -> train.Result:
    """On the devices of a mesh with the axes "data" and "model", or on one device."""
    params, sharding, begin, end = init(jax.random.key(0)), None, 0, args.rows
    if mesh is not None:
        params = train.shard(params, mesh, rules)
        sharding = NamedSharding(mesh, P(None, "data"))  # batches are [T, B]
        part = args.rows // jax.process_count()
        begin = jax.process_index() * part
        end = begin + part
    data = Text(args.rows, 20, begin, end)
    optimizer = optax.adam(3e-3)
    return train.fit(
        loss, params, optimizer, data, updates=args.updates, clip=1.0, sharding=sharding
    )


def whole(tree: Any) -> list[np.ndarray]:
    """The arrays of a tree, put together from all devices of all processes."""
    return jax.tree.leaves(
        jax.tree.map(
            lambda a: (
                np.asarray(a)
                if a.is_fully_addressable
                else multihost_utils.process_allgather(a, tiled=True)
            ),
            tree,
        )
    )


def distance(result: train.Result, expected: train.Result) -> float:
    """The largest difference of a param, relative to the largest of its array."""
    pairs = zip(whole(result.state.params), whole(expected.state.params), strict=True)
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)


# ---- command line --------------------------------------------------------------------------------
def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("train_sharded", description=__doc__.splitlines()[0])
    flag = parser.add_argument
    flag("--updates", type=int, default=60)
    flag(
        "--rows", type=int, default=32, help="of text side by side, over all devices (%(default)s)"
    )
    flag("--devices", type=int, default=8, help="virtual ones, on a CPU, over all processes")
    flag("--processes", type=int, default=1, help="how many of them run this program")
    flag("--process", type=int, default=0, help="which of them this is, from 0")
    flag("--coordinator", default="localhost:9876", help="address of process 0 (%(default)s)")
    args = parser.parse_args(argv)
    if min(args.updates, args.rows, args.devices, args.processes) < 1:
        parser.error("--updates, --rows, --devices and --processes must be 1 at least")
    if not 0 <= args.process < args.processes:
        parser.error(f"--process {args.process} must be one of 0 … {args.processes - 1}")
    if args.devices % (2 * args.processes):
        parser.error(
            f"--devices {args.devices} must be pairs in each of {args.processes} processes"
        )
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    # Before JAX starts; what has a GPU or TPU uses that.
    jax.config.update("jax_num_cpu_devices", args.devices // args.processes)
    if args.processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(args.coordinator, args.processes, args.process)
    count = jax.device_count()
    if count % 2 or args.rows % count:
        print(f"train_sharded: error: --rows {args.rows} must divide by {count} devices, which must"
              " be even in number", file=sys.stderr)  # fmt: skip
        return 2

    def say(*words: Any) -> None:
        if jax.process_index() == 0:
            print(*words, flush=True)

    def mesh(*shape: int) -> Mesh:
        return jax.make_mesh(shape, ("data", "model"), axis_types=(AxisType.Auto,) * 2)

    say(f"{count} devices in {args.processes} processes, {args.updates} updates")
    one = fit(args, None, [])
    losses = one.history.losses
    say(f"one device                 {losses[0]:.6f} -> {losses[-1]:.6f} nats per byte")
    worst = 0.0
    for name, layout, rules in (
        (f"data parallel on {count}", mesh(count, 1), []),
        (f"data on {count // 2}, params on 2", mesh(count // 2, 2), RULES),
    ):
        result = fit(args, layout, rules)
        apart = distance(result, one)
        worst = max(worst, apart)
        losses = result.history.losses
        say(f"{name:26} {losses[0]:.6f} -> {losses[-1]:.6f}   params differ by {apart:.1e}")
    agree = bool(worst < 1e-3)  # float32, and the sums over the batch are in another order
    say("they agree" if agree else "THEY DO NOT AGREE")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
