"""Trains a character-level language model on real text, and lets it write.

    python examples/char_lm.py                                  two minutes on two CPU cores
    python examples/char_lm.py --cell gru --layers 2 --text ~/novels
    python examples/char_lm.py --resume --prompt "class "       goes on with the last run

Without --text it reads the sources of Python's own library. Top to bottom: text, model, training,
checkpoints, reports, command line. Ctrl-C stops early and keeps what was learnt.

Losses are code lengths in bits per character, comparable with a compressor's: a symbol costs
-log2 p(symbol), and a character outside the vocabulary costs the symbol <unknown> and the bits that
say which of all other Unicode characters it is.
"""

import argparse
import hashlib
import inspect
import itertools
import json
import lzma
import math
import os
import signal
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import optax
import safetensors.numpy
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, Progress, TimeRemainingColumn

import jaxrnn


class Refused(Exception):
    """What was asked for cannot be done; the message is one line for the user."""


def refuse(message: str) -> NoReturn:
    raise Refused(message)


# ---- text ----------------------------------------------------------------------------------------

UNKNOWN = 0  # the symbol of every character outside the vocabulary
SEEN = 10  # how often the training text must have a character for it to be in the vocabulary
VALID_ROWS, VALID_LENGTH = 64, 4096  # at most so much is validated, spread evenly over the files
SKIPPED = {"test", "tests", "idle_test", "site-packages", "dist-packages"}  # of Python's library


class Text(NamedTuple):
    vocabulary: str  # symbol k is vocabulary[k - 1]
    frequencies: np.ndarray  # of the symbols in the training text
    train: np.ndarray  # symbols [batch, length]
    valid: np.ndarray  # symbols [rows, length]
    baselines: dict[str, float]  # bits per character of valid, known frequencies only, and xz -9e
    sha256: str


def read(path: str | None) -> list[str]:
    """Reads all texts, in an order that depends on nothing but their relative paths."""
    root = Path(path or sysconfig.get_paths()["stdlib"])
    if root.is_file():
        return [root.read_bytes().decode(errors="replace")]
    files = {f.relative_to(root): f for f in root.rglob("*" if path else "*.py") if f.is_file()}
    hidden = {n for n in files if any(part[0] == "." for part in n.parts)}
    names = [n for n in files if n not in hidden and (path or not SKIPPED & {*n.parts})]
    names.sort(key=lambda n: hashlib.sha256(os.fsencode(n.as_posix())).digest())
    contents = (files[n].read_bytes() for n in names)
    # What has a NUL is no text.
    return [c.decode(errors="replace") for c in contents if c and b"\0" not in c[:8192]]


def codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", errors="replace"), "<u4")


def encode(points: np.ndarray, vocabulary: str) -> np.ndarray:
    table = np.full(sys.maxunicode + 1, UNKNOWN, np.int32)
    table[codes(vocabulary)] = np.arange(len(vocabulary)) + 1
    return table[points]


def unknown_bits(symbols: int) -> float:
    """What it costs to say which character an <unknown> is, all others being as likely."""
    return math.log2(0x110000 - 0x800 - (symbols - 1))  # code points, less surrogates


def prepare(path: str | None, batch: int, window: int) -> Text:
    """Splits by file, every 20th for validation; a file alone gives its last tenth."""
    texts = read(path)
    if not any(texts):
        refuse(f"--text {path}: {'it is empty' if texts else 'there is no text in it'}")
    cut = len(texts[0]) * 9 // 10 if len(texts) == 1 else 0
    train = codes(texts[0][:cut] + "".join(t for i, t in enumerate(texts) if i % 20))
    valid = codes("".join(texts[::20])[cut:])
    need = batch * (window + 1)
    if len(train) < need or len(valid) < window + 1:
        refuse(
            f"the text is too short: {len(train)} characters to train on, {len(valid)} to validate;"
            f" --batch {batch} --window {window} need {need} and {window + 1}"
        )
    rows = min(VALID_ROWS, len(valid) // (window + 1), 1 + len(valid) // 2048)
    length = min(max(VALID_LENGTH, window), len(valid) // rows - 1) // window * window + 1
    valid = valid[: len(valid) // rows * rows].reshape(rows, -1)[:, :length]
    train = train[: len(train) // batch * batch].reshape(batch, -1)
    sha256 = hashlib.sha256(train.tobytes() + valid.tobytes()).hexdigest()
    plain = valid.tobytes().decode("utf-32-le").encode()
    packed = lzma.compress(plain, preset=9 | lzma.PRESET_EXTREME)

    vocabulary = "".join(map(chr, np.flatnonzero(np.bincount(train.ravel()) >= SEEN)))
    if not vocabulary:
        refuse(f"no character occurs {SEEN} times in the {train.size} to train on: give more text")
    train, valid = encode(train, vocabulary), encode(valid, vocabulary)
    counts = np.bincount(train.ravel(), minlength=len(vocabulary) + 1) + 1  # none is impossible
    p = counts / counts.sum()
    unigram = np.mean(-np.log2(p[valid]) + (valid == UNKNOWN) * unknown_bits(len(p)))
    baselines = {"unigram": float(unigram), "xz": 8 * len(packed) / valid.size}
    return Text(vocabulary, p, train, valid, baselines, sha256)


# ---- model ---------------------------------------------------------------------------------------
class Params(NamedTuple):
    embedding: jax.Array  # [V, E]
    layers: list[Any]
    output: jax.Array  # [H, V]
    bias: jax.Array  # [V]


def language_model(cell: jaxrnn.Cell, features: int, depth: int, p: np.ndarray) -> jaxrnn.Cell:
    """A cell that reads a symbol and returns the logits of the next one, whose frequencies are p.

    The step holds everything, as streaming needs it. `jaxrnn.run` takes out of the loop what does not
    depend on the carry (the embedding, the readout, gradients of weights), where that is faster.
    """
    sizes = [64] + [features] * (depth - 1)  # what each layer reads

    def init(key: jax.Array, _: jax.Array) -> Params:
        e, *keys = jax.random.split(key, 1 + depth)
        layers = [cell.init(k, jnp.zeros(d)) for k, d in zip(keys, sizes, strict=True)]
        embedding = jax.random.normal(e, (len(p), sizes[0]))
        # Beginning at the frequencies, it need not drive its units into saturation to learn them.
        return Params(embedding, layers, jnp.zeros((features, len(p))), jnp.log(jnp.float32(p)))

    @jax.jit  # its arrays are all distinct: an update is given them for good, and takes none twice
    def carry(params: Params, symbol: jax.Array) -> list[Any]:
        xs = [jnp.zeros((*symbol.shape, d)) for d in sizes]
        return [cell.carry(p, x) for p, x in zip(params.layers, xs, strict=True)]

    def step(params: Params, carry: list[Any], symbol: jax.Array, key: Any = None) -> Any:
        x, after = params.embedding[symbol], []
        for p, c in zip(params.layers, carry, strict=True):
            c, x = cell.step(p, c, x, key)
            after.append(c)
        return after, x @ params.output + params.bias

    return jaxrnn.Cell(name=f"char_lm of {cell.name}", init=init, carry=carry, step=step)


@jax.jit(static_argnums=0)
def bits(model: jaxrnn.Cell, params: Params, carry: Any, symbols: jax.Array) -> Any:
    """Mean bits of each of the symbols [T+1, B] but the first, and the carry after T."""
    carry, logits = jaxrnn.run(model, params, symbols[:-1], carry)
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, symbols[1:])
    which = (symbols[1:] == UNKNOWN) * unknown_bits(logits.shape[-1])
    return jnp.mean(nats / math.log(2) + which), carry


@jax.jit(static_argnums=0)
def write(model: jaxrnn.Cell, params: Params, prompt: Any, heat: float, keys: jax.Array) -> Any:
    """Draws a symbol with each of the keys, one after the other, after the symbols of the prompt."""
    carry, logits = jaxrnn.run(model, params, prompt)

    def draw(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        carry, logits = state
        logits = logits.at[UNKNOWN].set(-jnp.inf)  # there is no letter to write for it
        symbol = jax.random.categorical(key, logits / heat)
        return model.step(params, carry, symbol), symbol

    return jax.lax.scan(draw, (carry, logits[-1]), keys)[1]


# ---- training ------------------------------------------------------------------------------------
class State(NamedTuple):
    params: Params
    moments: Any
    carry: Any  # goes from window to window; no gradient does
    best: Params


@dataclass
class Run:
    args: argparse.Namespace
    folder: Path
    text: Text
    model: jaxrnn.Cell
    optimizer: optax.GradientTransformation
    state: State
    about: dict[str, Any]  # the configuration, and what came of it so far: train, valid, seconds


@jax.jit(static_argnums=(0, 1), donate_argnums=2)
def update(model: jaxrnn.Cell, optimizer: Any, state: State, symbols: jax.Array) -> Any:
    loss = jax.value_and_grad(bits, argnums=1, has_aux=True)
    (value, carry), gradient = loss(model, state.params, state.carry, symbols)
    change, moments = optimizer.update(gradient, state.moments, state.params)
    return State(optax.apply_updates(state.params, change), moments, carry, state.best), value


def validate(model: jaxrnn.Cell, params: Params, rows: np.ndarray, window: int) -> float:
    carry, values = model.carry(params, rows[:, 0]), []
    for start in range(0, rows.shape[1] - 1, window):
        value, carry = bits(model, params, carry, rows[:, start : start + window + 1].T)
        values.append(value)
    return float(np.mean(jax.device_get(values)))


def train(run: Run, interrupts: list[int]) -> None:
    """Goes on where the run is, to its last update or the first interrupt."""
    args, rows, about, terminal = run.args, run.text.train, run.about, Console().is_terminal
    trained, valid, began = about["train"], about["valid"], time.monotonic() - about["seconds"]
    columns = "{task.completed}/{task.total}", BarColumn(None), "{task.description}"
    with Progress(*columns, TimeRemainingColumn(compact=True), disable=not terminal) as bar:
        task = bar.add_task("compiling", total=args.updates, completed=len(trained))
        for n in range(len(trained) + 1, args.updates + 1):
            start = (n - 1) * args.window % ((rows.shape[1] - 1) // args.window * args.window)
            if start == 0:  # the rows begin anew
                carry = run.model.carry(run.state.params, rows[:, 0])
                run.state = run.state._replace(carry=carry)
            symbols = rows[:, start : start + args.window + 1].T
            run.state, value = update(run.model, run.optimizer, run.state, symbols)
            trained.append(value := float(value))
            last = bool(interrupts) or n == args.updates
            if due := last or n % args.every == 0:
                value = validate(run.model, run.state.params, run.text.valid, args.window)
                valid.append([value, n])
            if not math.isfinite(value):
                refuse(f"the loss is {value} at update {n}: make --learning-rate smaller")
            about["seconds"] = time.monotonic() - began
            if due and valid[-1] == min(valid):
                run.state = run.state._replace(best=jax.tree.map(jnp.array, run.state.params))
                save(run.folder / BEST, run.state.best, about)
            if due:
                save(run.folder / LATEST, run.state, about)  # the last, as it says where to go on
            bar.update(task, completed=n, description=status(run))
            if not terminal and (due or n % 50 == 0):
                print(f"update {n}/{args.updates}: {status(run)}", flush=True)
            if last:
                break


# ---- checkpoints: safetensors, with what they are about as JSON in the header --------------------

LATEST, BEST = "latest.safetensors", "best.safetensors"
CURVE, SAMPLE = "learning_curve.png", "sample.txt"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write that takes the place of `path` once it is whole: a crash leaves the former."""
    part = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def named(tree: Any) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(p, simple=True, separator="/"): np.asarray(a) for p, a in leaves}


def sealed(arrays: dict[str, np.ndarray], about: str) -> dict[str, str]:
    content = safetensors.numpy.save(arrays, {"about": about})
    return {"about": about, "sha256": hashlib.sha256(content).hexdigest()}


def save(path: Path, tree: Any, about: dict[str, Any]) -> None:
    arrays = named(tree)
    with replacing(path) as part:
        part.write_bytes(safetensors.numpy.save(arrays, sealed(arrays, json.dumps(about))))


def load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    if not path.is_file():
        refuse(f"nothing to resume: there is no {path}")
    try:
        with safetensors.safe_open(path, "np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
        if metadata != sealed(arrays, metadata["about"]):
            raise ValueError("its checksum is wrong")
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        refuse(f"{path} is damaged, or no checkpoint of char_lm ({error})")
    return arrays, json.loads(metadata["about"])


# ---- reports -------------------------------------------------------------------------------------
def status(run: Run) -> str:
    trained, valid, config = run.about["train"], run.about["valid"], run.about["config"]
    bits = {"train": np.mean(trained[-50:])} | ({"valid": valid[-1][0]} if valid else {})
    bits |= run.text.baselines
    speed = len(trained) * config["batch"] * config["window"] / run.about["seconds"]
    losses = " ".join(f"{name} {value:.2f}" for name, value in bits.items())
    return f"{losses} bits/char {speed / 1000:.0f}k/s"


def plot(run: Run, path: Path, title: str) -> None:
    trained, (values, updates) = run.about["train"], zip(*run.about["valid"], strict=True)
    axes = (figure := Figure(figsize=(8, 4.5), layout="constrained")).add_subplot()
    n, width = np.arange(len(trained)) + 1, max(1, len(trained) // 50)
    smooth = np.convolve(trained, np.ones(width) / width, "valid")
    axes.plot(n, trained, "tab:blue", alpha=0.25, linewidth=0.8)
    axes.plot(n[width // 2 :][: len(smooth)], smooth, "tab:blue", label="training")
    label = f"validation, best {min(values):.2f}"
    axes.plot(updates, values, "o-", color="tab:orange", label=label)
    for (name, value), style in zip(run.text.baselines.items(), ("--", ":"), strict=True):
        axes.axhline(value, color="0.35", linestyle=style, label=f"{name}, {value:.2f}")
    axes.set(title=title, xlabel="update", ylabel="bits per character")
    axes.set(xlim=(0, 1.02 * len(n)), ylim=(0, 1.1 * max(trained[0], *run.text.baselines.values())))
    axes.grid(alpha=0.2)
    axes.legend(ncols=2)
    figure.savefig(path, dpi=150, format="png")


# ---- command line --------------------------------------------------------------------------------

FACTORIES = dict(inspect.getmembers(jaxrnn.cells, inspect.isfunction))
ARGUMENTS = {name: [*inspect.signature(f).parameters.values()] for name, f in FACTORIES.items()}
CELLS = [  # those that need to know nothing but a number of features
    name
    for name, (first, *rest) in ARGUMENTS.items()
    if first.name == "features" and all(a.default is not a.empty for a in rest)
]


def existing(path: str) -> str:
    if not os.path.exists(path := os.path.expanduser(path)):
        raise argparse.ArgumentTypeError(f"{path}: no such file or folder")
    return os.path.abspath(path)


def parse(argv: Sequence[str] | None, saved: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Returns the flags, and those of them that are the configuration of a run."""
    parser = argparse.ArgumentParser("char_lm", description=__doc__.splitlines()[0])
    parser.error, flag = refuse, parser.add_argument
    flag("--text", type=existing, help="a file or a folder (default: Python's own library)")
    flag("--cell", default="lstm", choices=CELLS)
    flag("--features", type=int, default=256, help="of each layer (%(default)s)")
    flag("--layers", type=int, default=1)
    flag("--seed", type=int, default=0)
    flag("--updates", type=int, default=1000)
    flag("--batch", type=int, default=32, help="rows of text side by side (%(default)s)")
    flag("--window", type=int, default=128, help="steps of backpropagation (%(default)s)")
    flag("--learning-rate", type=float, default=0.01)
    flag("--every", type=int, default=250, help="updates to a validation (%(default)s)")
    names = vars(parser.parse_args([])).keys()
    flag("--sample", type=int, default=500, help="characters to write (%(default)s)")
    flag("--prompt", default="\n", help="what the sample begins with")
    flag("--temperature", type=float, default=0.8, help="of the sample (%(default)s)")
    flag("--out", type=Path, help="a folder (default: a new one, runs/char_lm-001, -002, ...)")
    flag("--resume", action="store_true", help="go on in --out, or where last saved in runs/")
    parser.set_defaults(**saved)  # a flag that is not given is as it was
    args = parser.parse_args(argv)
    for name, value in vars(args).items():
        least = 0 if name == "seed" else 1e-6
        if type(value) in (int, float) and not least <= value < 2**31:
            refuse(f"--{name.replace('_', '-')} {value} is too small or too large")
    return args, {name: getattr(args, name) for name in names}


def start(argv: Sequence[str] | None) -> Run:
    """What can be refused is refused here, before anything is trained or written."""
    args, config = parse(argv, {})
    if args.resume:
        runs = sorted(Path("runs").glob(f"char_lm-*/{LATEST}"), key=lambda p: p.stat().st_mtime)
        folder = args.out or (runs[-1].parent if runs else Path("runs"))
        arrays, saved = load(folder / LATEST)
        args, config = parse(argv, saved["config"])
    else:
        fresh = (Path(f"runs/char_lm-{n:03}") for n in itertools.count(1))
        folder = args.out or next(path for path in fresh if not path.exists())
        if (folder / LATEST).exists() or (folder / BEST).exists():
            refuse(f"--out {folder} holds a run: --resume it, or choose another folder")

    text = prepare(args.text, args.batch, args.window)
    cell = FACTORIES[args.cell](args.features)
    model = language_model(cell, args.features, args.layers, text.frequencies)
    rate = optax.warmup_cosine_decay_schedule(
        0, args.learning_rate, min(50, args.updates // 10), args.updates, args.learning_rate / 50
    )
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate, b2=0.99))
    params = model.init(jax.random.key(args.seed), text.train[:, 0])
    carry, best = model.carry(params, text.train[:, 0]), jax.tree.map(jnp.array, params)
    state = State(params, optimizer.init(params), carry, best)
    about = {"config": config, "sha256": text.sha256, "vocabulary": text.vocabulary}
    about |= {"train": [], "valid": [], "seconds": 0.0}
    if args.resume:
        was, now = ({**a["config"], "text": a["sha256"][:8]} for a in (saved, about))
        differ = [f"{k} ({was.get(k)}, not {now[k]})" for k in now if was.get(k) != now[k]]
        if differ:
            refuse(f"the run in {folder} has another {', '.join(differ)}: choose another --out")
        names = {name: array.shape for name, array in named(state).items()}
        if names != {name: array.shape for name, array in arrays.items()}:
            refuse(f"{folder / LATEST} holds other arrays: another version of jaxrnn made it")
        leaves = [jnp.array(arrays[name]) for name in names]
        state, about = jax.tree.unflatten(jax.tree.structure(state), leaves), saved
    else:
        folder.mkdir(parents=True, exist_ok=True)
        save(folder / LATEST, state, about)  # whether that can be done shows now
    return Run(args, folder, text, model, optimizer, state, about)


def main(argv: Sequence[str] | None = None) -> int:
    interrupts, usual = [], signal.getsignal(signal.SIGINT)

    def interrupt(number: int, _: Any) -> None:
        interrupts.append(number)
        signal.signal(signal.SIGINT, usual)  # the second Ctrl-C aborts

    try:
        run = start(argv)
        args, text, size = run.args, run.text, sum(map(jnp.size, jax.tree.leaves(run.state.best)))
        title = f"{args.layers} x {args.cell}({args.features}), {size:,} parameters"
        print(f"{text.train.size:,} characters to train on, {text.valid.size:,} to validate on")
        print(f"{title}, in {run.folder}", flush=True)
        signal.signal(signal.SIGINT, interrupt)
        train(run, interrupts)
        if interrupts:
            print(f"stopped by Ctrl-C; to go on: --resume --out {run.folder}")

        with replacing(run.folder / CURVE) as path:
            plot(run, path, f"{title}; updates of {args.batch} x {args.window} characters")
        keys = jax.random.split(jax.random.key(args.seed), args.sample)
        prompt = encode(codes(args.prompt or "\n"), text.vocabulary)
        symbols = np.asarray(write(run.model, run.state.best, prompt, args.temperature, keys))
        sample = args.prompt + "".join(text.vocabulary[s - 1] for s in symbols)
        with replacing(run.folder / SAMPLE) as path:
            path.write_text(sample, "utf-8", "replace")
        encoding = sys.stdout.encoding or "utf-8"
        shown = sample.encode(encoding, "replace").decode(encoding)
        print(f"---- sampled at temperature {args.temperature:g}", shown, "----", sep="\n")
        (value, n), seconds = min(run.about["valid"]), run.about["seconds"]
        against = ", ".join(f"{name} {value:.3f}" for name, value in text.baselines.items())
        print(f"best validation: {value:.3f} bits per character after update {n} ({against})")
        print(f"trained for {seconds:.0f} s; {LATEST}, {BEST}, {CURVE}, {SAMPLE} in {run.folder}")
    except (Refused, OSError, jax.errors.JaxRuntimeError) as error:
        print("char_lm: error:", *str(error).split(), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("char_lm: aborted; what was saved is whole", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGINT, usual)
    return 0


if __name__ == "__main__":
    sys.exit(main())
