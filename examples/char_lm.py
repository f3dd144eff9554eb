"""Trains a character-level language model on real text, and lets it write.

    python examples/char_lm.py                                  two minutes on two CPU cores
    python examples/char_lm.py --cell gru --layers 2 --text ~/novels
    python examples/char_lm.py --resume --prompt "class "       goes on with the last run

Without --text it reads the sources of Python's own library. Top to bottom: text, model, training,
reports, command line. Ctrl-C stops early and keeps what was learnt; a run that is killed goes on from
its last checkpoint to the same numbers.

Losses are code lengths in bits per character, comparable with a compressor's: a symbol costs
-log2 p(symbol), and a character outside the vocabulary costs the symbol <unknown> and the bits that
say which of all other Unicode characters it is.
"""

import argparse
import hashlib
import inspect
import itertools
import lzma
import math
import os
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import jaxrnn
from jaxrnn import around, train


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


def language_model(cell: jaxrnn.Cell, depth: int, symbols: int) -> jaxrnn.Layer:
    """Reads a symbol, and returns the logits of the next one."""
    readout = around.dense(symbols, kernel_init=jax.nn.initializers.zeros)
    return around.stack(around.embed(symbols, 64), *[cell] * depth, readout)


def initial(model: jaxrnn.Layer, key: jax.Array, p: np.ndarray) -> Any:
    """Beginning at the frequencies p, it need not drive its units into saturation to learn them."""
    *layers, readout = model.init(key, jnp.zeros((), int))
    return (*layers, readout._replace(bias=jnp.log(jnp.float32(p))))


def bits(model: jaxrnn.Layer, params: Any, carry: Any, symbols: jax.Array) -> Any:
    """Mean bits of each of the symbols [T+1, B] but the first, and the carry after T."""
    carry, logits = jaxrnn.run(model, params, symbols[:-1], carry)
    nats = train.cross_entropy(logits, symbols[1:])
    which = jnp.mean(symbols[1:] == UNKNOWN) * unknown_bits(logits.shape[-1])
    return nats / math.log(2) + which, carry


def loss_of(model: jaxrnn.Layer) -> Callable[..., Any]:
    """The carry goes from window to window, no gradient does; where the rows begin anew, so does it."""

    def loss(params: Any, batch: Any, key: Any, carry: Any) -> Any:
        del key  # no noise
        symbols, anew = batch
        first = model.carry(params, symbols[0])
        carry = jax.tree.map(lambda a, b: jnp.where(anew, a, b), first, carry)
        value, carry = bits(model, params, carry, symbols)
        return value, {}, carry

    return loss


def windows(rows: np.ndarray, window: int) -> Callable[[jax.Array], Any]:
    """The batch of update n: the rows' next symbols [window+1, B], and whether the rows begin anew."""
    rows, turns = jnp.asarray(rows.T), (rows.shape[1] - 1) // window

    def batch(n: jax.Array) -> Any:
        turn = n % turns
        return jax.lax.dynamic_slice_in_dim(rows, turn * window, window + 1), turn == 0

    return batch


def validator(model: jaxrnn.Layer, rows: np.ndarray, window: int) -> Callable[[Any], float]:
    """The function params -> bits per character over all rows, window by window."""
    starts = jnp.arange(0, rows.shape[1] - 1, window)
    rows = jnp.asarray(rows.T)

    @jax.jit
    def validate(params: Any) -> jax.Array:
        def one(carry: Any, start: jax.Array) -> Any:
            symbols = jax.lax.dynamic_slice_in_dim(rows, start, window + 1)
            value, carry = bits(model, params, carry, symbols)
            return carry, value

        return jax.lax.scan(one, model.carry(params, rows[0]), starts)[1].mean()

    return lambda params: float(validate(params))


@jax.jit(static_argnums=0)
def write(model: jaxrnn.Layer, params: Any, prompt: Any, heat: float, keys: jax.Array) -> Any:
    """Draws a symbol with each of the keys, one after the other, after the symbols of the prompt."""
    carry, logits = jaxrnn.run(model, params, prompt)

    def draw(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        carry, logits = state
        logits = logits.at[UNKNOWN].set(-jnp.inf)  # there is no letter to write for it
        symbol = jax.random.categorical(key, logits / heat)
        return model.step(params, carry, symbol), symbol

    return jax.lax.scan(draw, (carry, logits[-1]), keys)[1]


# ---- reports -------------------------------------------------------------------------------------

CHECKPOINTS, BEST = "checkpoints", "best.safetensors"
CURVE, SAMPLE = "learning_curve.png", "sample.txt"


def reporter(updates: int, characters: int) -> Callable[[int, dict[str, Any]], None]:
    """Says how far it is, in lines, where there is no terminal to draw a bar on."""
    last = [time.monotonic(), None]

    def report(count: int, metrics: dict[str, Any]) -> None:
        (then, before), now = last, time.monotonic()
        last[:] = now, count
        losses = f"train {metrics['loss']:.3f}"
        if "validation" in metrics:
            losses += f" valid {metrics['validation']:.3f}"
        speed = ""
        if before is not None:
            speed = f", {(count - before) * characters / (now - then) / 1000:.0f}k characters/s"
        print(f"update {count}/{updates}: {losses} bits/char{speed}", flush=True)

    return report


def plot(history: train.History, baselines: dict[str, float], path: Path, title: str) -> None:
    trained, valid = history.losses, history.validations
    best = min(v["loss"] for v in valid)
    axes = (figure := Figure(figsize=(8, 4.5), layout="constrained")).add_subplot()
    n, width = np.arange(len(trained)) + 1, max(1, len(trained) // 50)
    smooth = np.convolve(trained, np.ones(width) / width, "valid")
    axes.plot(n, trained, "tab:blue", alpha=0.25, linewidth=0.8)
    axes.plot(n[width // 2 :][: len(smooth)], smooth, "tab:blue", label="training")
    points = [[v[name] for v in valid] for name in ("count", "loss")]
    axes.plot(*points, "o-", color="tab:orange", label=f"validation, best {best:.2f}")
    for (name, value), style in zip(baselines.items(), ("--", ":"), strict=True):
        axes.axhline(value, color="0.35", linestyle=style, label=f"{name}, {value:.2f}")
    axes.set(title=title, xlabel="update", ylabel="bits per character")
    axes.set(xlim=(0, 1.02 * len(n)), ylim=(0, 1.1 * max(valid[0]["loss"], *baselines.values())))
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


class Run(NamedTuple):
    args: argparse.Namespace
    folder: Path
    text: Text
    model: jaxrnn.Layer
    checkpoints: train.Checkpoints


def start(argv: Sequence[str] | None) -> Run:
    """What can be refused is refused here, before anything is trained or written."""
    args, config = parse(argv, {})
    saved = None
    if args.resume:
        runs = sorted(
            Path("runs").glob(f"char_lm-*/{CHECKPOINTS}"), key=lambda p: p.stat().st_mtime
        )
        folder = args.out or (runs[-1].parent if runs else Path("runs"))
        if not (folder / CHECKPOINTS).is_dir():
            refuse(f"nothing to resume: there is no {folder / CHECKPOINTS}")
        saved = train.Checkpoints(folder / CHECKPOINTS).read_about()
        if not isinstance(saved, dict) or not {"config", "sha256"} <= set(saved):
            refuse(f"{folder / CHECKPOINTS} is damaged, or holds no checkpoints of char_lm")
        args, config = parse(argv, saved["config"])
    else:
        fresh = (Path(f"runs/char_lm-{n:03}") for n in itertools.count(1))
        folder = args.out or next(path for path in fresh if not path.exists())
        if (folder / CHECKPOINTS).exists() or (folder / BEST).exists():
            refuse(f"--out {folder} holds a run: --resume it, or choose another folder")

    text = prepare(args.text, args.batch, args.window)
    about = {"config": config, "sha256": text.sha256, "vocabulary": text.vocabulary}
    if saved is not None:
        was, now = ({**a["config"], "text": a["sha256"][:8]} for a in (saved, about))
        differ = [f"{k} ({was.get(k)}, not {now[k]})" for k in now if was.get(k) != now[k]]
        if differ:
            refuse(f"the run in {folder} has another {', '.join(differ)}: choose another --out")
    cell = FACTORIES[args.cell](args.features)
    model = language_model(cell, args.layers, len(text.vocabulary) + 1)
    checkpoints = train.Checkpoints(folder / CHECKPOINTS, keep=2, about=about)
    return Run(args, folder, text, model, checkpoints)


def optimizer(args: argparse.Namespace) -> optax.GradientTransformation:
    peak, warmup = args.learning_rate, min(50, args.updates // 10)
    rate = optax.warmup_cosine_decay_schedule(0, peak, warmup, args.updates, peak / 50)
    return optax.adam(rate, b2=0.99)


def learn(run: Run) -> train.Result:
    args, text, model = run.args, run.text, run.model
    params = initial(model, jax.random.key(args.seed), text.frequencies)
    return train.fit(
        loss_of(model),
        params,
        optimizer(args),
        windows(text.train, args.window),
        updates=args.updates,
        memory=model.carry(params, text.train[:, 0]),
        clip=1.0,
        validate=validator(model, text.valid, args.window),
        every=args.every,
        checkpoints=run.checkpoints,
        resume=args.resume,
        report=None if sys.stderr.isatty() else reporter(args.updates, args.batch * args.window),
    )


def main(argv: Sequence[str] | None = None) -> int:
    try:
        run = start(argv)
        args, text, folder = run.args, run.text, run.folder
        print(f"{text.train.size:,} characters to train on, {text.valid.size:,} to validate on")
        print(f"{args.layers} x {args.cell}({args.features}), in {folder}", flush=True)
        began = time.monotonic()
        result = learn(run)
        seconds = time.monotonic() - began
        if result.stopped == "interrupted":
            print(f"stopped by Ctrl-C; to go on: --resume --out {folder}")
        train.save_weights(folder / BEST, result.best)

        size = sum(map(jnp.size, jax.tree.leaves(result.best)))
        title = f"{args.layers} x {args.cell}({args.features}), {size:,} parameters"
        title += f"; updates of {args.batch} x {args.window} characters"
        plot(result.history, text.baselines, folder / CURVE, title)
        keys = jax.random.split(jax.random.key(args.seed), args.sample)
        prompt = encode(codes(args.prompt or "\n"), text.vocabulary)
        symbols = np.asarray(write(run.model, result.best, prompt, args.temperature, keys))
        sample = args.prompt + "".join(text.vocabulary[s - 1] for s in symbols)
        (folder / SAMPLE).write_text(sample, "utf-8", "replace")
        encoding = sys.stdout.encoding or "utf-8"
        shown = sample.encode(encoding, "replace").decode(encoding)
        print(f"---- sampled at temperature {args.temperature:g}", shown, "----", sep="\n")
        best = result.history.validations[result.history.best()]
        against = ", ".join(f"{name} {value:.3f}" for name, value in text.baselines.items())
        value, count = best["loss"], best["count"]
        print(f"best validation: {value:.3f} bits per character after update {count} ({against})")
        print(f"{seconds:.0f} s; {CHECKPOINTS}, {BEST}, {CURVE}, {SAMPLE} in {folder}")
    except (
        Refused,
        OSError,
        FloatingPointError,
        train.CheckpointError,
        jax.errors.JaxRuntimeError,
    ) as error:
        print("char_lm: error:", *str(error).split(), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("char_lm: aborted; what was saved is whole", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
