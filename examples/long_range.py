"""Which recurrences remember for a thousand steps? Trains them on three tasks, and says which do not.

    python examples/long_range.py                               about ten minutes on two CPU cores
    python examples/long_range.py --task adding --cells lstm min_gru --steps 2000 --seeds 4
    python examples/long_range.py --quick                       seconds, to see that it runs

copy    ten symbols, a thousand blanks, then say the ten symbols
adding  a thousand numbers, two of them marked: their sum
digits  scikit-learn's images of handwritten digits, one pixel after the other: which digit is it?
        Once row by row, once in an order that is shuffled once and for all

The cells whose carry is affine in itself (`jaxrnn.explain` finds that out) keep gradients over any
number of steps, and can be run in parallel over time: `--method parallel`. Whether that is faster is a
matter of the device. Top to bottom: tasks, models, reports, command line. All seeds of a cell, and both
orders of the digits, are one compiled program. Ctrl-C stops and shows what was learnt so far.
"""

import argparse
import itertools
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

import jaxrnn
from jaxrnn import around, cells, methods, train


class Refused(Exception):
    """What was asked for cannot be done; the message is one line for the user."""


def refuse(message: str) -> Any:
    raise Refused(message)


# ---- tasks ---------------------------------------------------------------------------------------


class Task(NamedTuple):
    """Batches are pairs of xs [T, B, D] and what to say."""

    steps: int
    outputs: int
    variants: tuple[str, ...]
    batch: Callable[[Any], Any]  # of an update, by its number
    held_out: Any
    view: Callable[[Any, Any], Any]  # xs as a variant shows them
    loss: Callable[[Any, Any], Any]  # of ys [T, B, outputs]
    score: Callable[[Any, Any], Any]
    measure: str  # what the score is
    goal: float  # at which the task is solved: a loss below it, or an accuracy above it
    guess: float  # the score of who remembers nothing
    note: str


def as_shown(xs: Any, variant: Any) -> Any:
    del variant
    return xs


def copy(steps: int, batch: int) -> Task:
    """Ten of eight symbols, blanks (0), and from one step before the end of the wait on a signal (9)."""

    def draw(key: jax.Array, rows: int) -> Any:
        symbols = jax.random.randint(key, (10, rows), 1, 9)
        blanks, signal = jnp.zeros((steps - 1, rows), int), jnp.full((11, rows), 9)
        silence = jnp.zeros((steps + 10, rows), int)
        xs = jnp.concatenate([symbols, blanks, signal])
        return jax.nn.one_hot(xs, 10), jnp.concatenate([silence, symbols])

    # Who knows when to speak, but not what to say.
    guess = 10 * math.log(8) / (steps + 20)
    return Task(
        steps=steps + 20,
        outputs=9,
        variants=("",),
        batch=lambda n: draw(jax.random.fold_in(jax.random.key(0), n), batch),
        held_out=draw(jax.random.key(1), 64),
        view=as_shown,
        loss=train.cross_entropy,
        score=train.cross_entropy,
        measure="nats per step",
        goal=guess / 10,
        guess=guess,
        note=f"memoryless: 10 ln 8 / {steps + 20} = {guess:.4f}; solved: a tenth of it",
    )


def adding(steps: int, batch: int) -> Task:
    """Numbers in [0, 1), and marks at one of the first half and one of the second half of them."""

    def draw(key: jax.Array, rows: int) -> Any:
        k, first, second = jax.random.split(key, 3)
        numbers, half = jax.random.uniform(k, (steps, rows)), steps // 2
        i = jax.random.randint(first, (rows,), 0, half)
        j = jax.random.randint(second, (rows,), half, steps)
        t = jnp.arange(steps)[:, None]
        marks = ((t == i) | (t == j)).astype(numbers.dtype)
        return jnp.stack([numbers, marks], axis=-1), (numbers * marks).sum(0)[:, None]

    def error(ys: Any, sums: Any) -> jax.Array:
        return train.mean_squared_error(ys[-1], sums)

    held_out = draw(jax.random.key(1), 256)
    return Task(
        steps=steps,
        outputs=1,
        variants=("",),
        batch=lambda n: draw(jax.random.fold_in(jax.random.key(0), n), batch),
        held_out=held_out,
        view=as_shown,
        loss=error,
        score=error,
        measure="mean squared error",
        goal=0.002,
        guess=1 / 6,  # the variance of a sum of two
        note="always 1: 1/6 (papers say 0.1767); solved: 0.002",
    )


def digits(batch: int) -> Task:
    """1,797 images of 8 x 8 pixels; a fifth of them, drawn once, is held out."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        refuse("--task digits needs scikit-learn's images: pip install scikit-learn")
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = images[order].astype(np.float32) / 16, labels[order]
    cut = len(images) // 5
    test, test_labels = images[:cut], labels[:cut]
    images, labels = images[cut:], labels[cut:]
    # Who sees all pixels at once: the label of the nearest image that was trained on.
    distances = (test**2).sum(1)[:, None] - 2 * test @ images.T + (images**2).sum(1)
    nearest = float((labels[distances.argmin(1)] == test_labels).mean())
    shuffled = jnp.asarray(np.random.default_rng(1).permutation(images.shape[1]))

    def rows(n: Any) -> Any:
        """Each epoch in an order of its own."""
        turns = len(images) // batch
        order = jax.random.permutation(jax.random.key(n // turns), len(images))
        chosen = jax.lax.dynamic_slice_in_dim(order, n % turns * batch, batch)
        return jnp.asarray(images)[chosen].T[..., None], jnp.asarray(labels)[chosen]

    return Task(
        steps=images.shape[1],
        outputs=10,
        variants=("row by row", "shuffled"),
        batch=rows,
        held_out=(jnp.asarray(test).T[..., None], jnp.asarray(test_labels)),
        view=lambda xs, variant: jnp.where(variant == 1, xs[shuffled], xs),
        loss=lambda ys, labels: train.cross_entropy(ys[-1], labels),
        score=lambda ys, labels: 100 * (ys[-1].argmax(-1) == labels).mean(),
        measure="% right",
        goal=95.0,
        guess=10.0,
        note=f"nearest neighbour, all pixels at once: {100 * nearest:.1f}; solved: 95",
    )


# ---- models --------------------------------------------------------------------------------------


class Recipe(NamedTuple):
    """How a cell is made for T steps, and trained.

    The numbers were found by a few trials of one seed each, more of them for LRU and S5 than for the
    others: a "no" in the table says that this recipe failed in so many updates, not that the cell must.
    """

    cell: Callable[[int], jaxrnn.Cell]
    rate: float
    front: str = ""  # what is between x and the cell
    slow: float = 1.0  # the part of the rate that DYNAMICS learn with


# What says how long a memory lasts. An error of 1/T in a phase turns what is read T steps later.
DYNAMICS = {"log_decay", "log_phase", "frequency", "log_step", "decay"}


def spread(features: int, steps: int) -> np.ndarray:
    """Biases of gates that keep for 1 to T steps, evenly (the "chrono" of Tallec & Ollivier 2018)."""
    return np.log(np.linspace(1, steps, features))


def biased(cell: jaxrnn.Cell, *biases: Any) -> jaxrnn.Cell:
    """The cell, the first columns of its bias initialised to these."""

    def init(key: Any, x: Any) -> Any:
        p: Any = cell.init(key, x)
        given = jnp.concatenate([jnp.asarray(b, p.bias.dtype) for b in biases])
        return p._replace(bias=p.bias.at[: len(given)].set(given))

    return jaxrnn.Cell(name=cell.name, init=init, carry=cell.carry, step=cell.step)


def long_lstm(features: int, steps: int) -> jaxrnn.Cell:
    """Writes as seldom as it forgets (without that, one seed learnt no adding)."""
    keep = spread(features, steps)
    return biased(cells.lstm(features), -keep, keep)


def long_gru(features: int, steps: int) -> jaxrnn.Cell:
    """Its z keeps; r is left as it is."""
    return biased(cells.gru(features), np.zeros(features), spread(features, steps))


def long_min_gru(features: int, steps: int) -> jaxrnn.Cell:
    """Its z, which replaces, is nearly closed: with biases of 0 it forgets at once."""
    return biased(cells.min_gru(features), np.full(features, -math.log(steps)))


# A step of Δ = 1/T writes as little into an S5's memory: at the usual scale 200 updates taught nothing.
LOUD = jax.nn.initializers.normal(100.0)

# Ten symbols of eight in a linear memory: numbers that hardly decay and turn at speeds all over the
# circle are a random code of what was said when, and the readout learns to invert it. 128 are enough
# for the LRU. The speeds of an S5 crowd at 0: it needs 256, and Δ three times as large as its memory
# alone would want. With decays and speeds learning at the full rate the loss jumped, with gradients of
# norm 10³. Gates that see the input alone do not know which of the ten symbols it is.
COPY = {
    "lstm": Recipe(lambda t: long_lstm(32, t), 0.01),
    "gru": Recipe(lambda t: long_gru(32, t), 0.01),
    "lru": Recipe(lambda t: cells.lru(10, state=128, r_min=1 - 1 / t), 0.02, slow=0.01),
    "s5": Recipe(
        lambda t: cells.s5(10, state=512, dt_min=1 / t, dt_max=3 / t, input_init=LOUD),
        0.02,
        slow=0.01,
    ),
    "min_gru": Recipe(lambda t: long_min_gru(32, t), 0.03),
    "rg_lru": Recipe(lambda t: cells.rg_lru(32, r_min=1 - 10 / t, r_max=1 - 0.01 / t), 0.02),
}

# Gates that see the input can pick out what is marked. A linear memory without gates needs that done
# before it: "gated" is a gate that is closed at first, so that no noise is summed up. With an open
# one, or a GELU instead, nothing was learnt in the same time. Memories that turn are of no use here.
ADDING = {
    "lstm": Recipe(lambda t: long_lstm(32, t), 0.01),
    "gru": Recipe(lambda t: long_gru(32, t), 0.01),
    # Constants as remembered from its authors' program for this task, unchecked: not solved with them.
    "cornn": Recipe(lambda _: cells.cornn(32, step_size=0.016, gamma=94.5, epsilon=9.5), 0.02),
    "lru": Recipe(
        lambda t: cells.lru(32, r_min=1 - 1 / t, max_phase=1 / t), 0.02, front="gated", slow=0.1
    ),
    "s5": Recipe(
        lambda t: cells.s5(32, state=8, dt_min=0.1 / t, dt_max=1 / t, input_init=LOUD),
        0.02,
        front="gated",
        slow=0.1,
    ),
    "min_gru": Recipe(lambda t: long_min_gru(32, t), 0.03),
    "rg_lru": Recipe(
        lambda t: cells.rg_lru(32, r_min=1 - 10 / t, r_max=1 - 0.01 / t), 0.02, slow=0.1
    ),
    "selective_ssm": Recipe(
        lambda t: cells.selective_ssm(32, state=4, dt_min=0.1 / t, dt_max=10 / t), 0.02
    ),
}

# A linear recurrence with a linear readout is a linear classifier: two blocks, with what is not linear
# between them.
# Nearly as they come: there was no search here, and what is low in this table may be low for that.
DIGITS = {
    "lstm": Recipe(lambda _: cells.lstm(32), 0.01),
    "gru": Recipe(lambda _: cells.gru(32), 0.01),
    "cornn": Recipe(lambda _: cells.cornn(32), 0.02),
    "lru": Recipe(lambda _: cells.lru(32, r_min=0.9, r_max=0.999), 0.01, "blocks", 0.25),
    "s5": Recipe(lambda _: cells.s5(32, state=32, dt_min=0.01), 0.01, "blocks", 0.25),
    "min_gru": Recipe(lambda _: cells.min_gru(32), 0.01, "blocks"),
    "rg_lru": Recipe(lambda _: cells.rg_lru(32), 0.01, "blocks"),
    "selective_ssm": Recipe(lambda _: cells.selective_ssm(32, state=4), 0.01, "blocks"),
}
RECIPES = {"copy": COPY, "adding": ADDING, "digits": DIGITS}
CELLS = list(dict.fromkeys(itertools.chain(*RECIPES.values())))
USUAL = [name for name in CELLS if name != "selective_ssm"]  # ten times the work of the others

gelu = around.time_distributed(lambda _, x: jax.nn.gelu(x), name="gelu")


def closed(_: Any, x: jax.Array) -> jax.Array:
    u, gate = jnp.split(x, 2, axis=-1)
    return u * jax.nn.sigmoid(gate - 4)


def is_affine(cell: jaxrnn.Cell) -> bool:
    """Whether the carry is affine in itself: found by reading the step."""
    xs = jnp.zeros((2, 1, 2))
    params = jax.eval_shape(cell.init, jax.random.key(0), xs[0])
    return jaxrnn.explain(cell, params, xs).legal["associative()"] is None


def network(recipe: Recipe, cell: jaxrnn.Cell, outputs: int) -> jaxrnn.Layer:
    if recipe.front == "gated":
        gate = around.time_distributed(closed)
        return around.stack(around.dense(64), gate, cell, around.dense(outputs))
    if recipe.front == "blocks":
        block = around.residual(around.stack(around.layer_norm(), cell, gelu))
        return around.stack(around.dense(32), block, block, around.dense(outputs))
    return around.stack(cell, around.dense(outputs))


def optimizer(recipe: Recipe, updates: int) -> optax.GradientTransformation:
    def slower(changes: Any, _: Any) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, u: u * recipe.slow if path[-1].name in DYNAMICS else u, changes
        )

    rate = optax.cosine_decay_schedule(recipe.rate, updates, alpha=0.1)
    return optax.chain(optax.adam(rate), optax.stateless(slower))


def maker(task: Task, recipe: Recipe, updates: int, method: Any) -> Any:
    """The function of a setting that says what to train."""
    model = network(recipe, recipe.cell(task.steps), task.outputs)

    def make(variant: Any, seed: Any) -> train.Trial:
        def run(params: Any, xs: Any) -> Any:
            return jaxrnn.run(model, params, task.view(xs, variant), method=method)[1]

        def loss(params: Any, batch: Any, key: Any) -> jax.Array:
            del key  # no noise
            return task.loss(run(params, batch[0]), batch[1])

        def validate(params: Any) -> dict[str, jax.Array]:
            ys = run(params, task.held_out[0])
            return {
                "loss": task.loss(ys, task.held_out[1]),
                "score": task.score(ys, task.held_out[1]),
            }

        steps = optimizer(recipe, updates)
        params = model.init(jax.random.key(seed), task.held_out[0][0])
        return train.Trial(train.init(params, steps), train.step(loss, steps, clip=1.0), validate)

    return make


# ---- reports -------------------------------------------------------------------------------------

TCN = "Bai, Kolter & Koltun 2018, arXiv:1803.01271"
# What others report, on the same task or, where said, on another.
REFERENCES = {
    "copy": {
        "lstm": "about 0.020",
        "gru": "about 0.020",
        "": f"{TCN}: at T=1000, Elman too: not solved",
    },
    "adding": {
        "lstm": "0.164, T=600",
        "gru": "5.3e-5, T=600",
        "": f"{TCN}: LSTM and Elman (0.177) did not solve it, the GRU did",
    },
    "digits": {
        "lstm": "87.2 / 85.7",
        "gru": "96.2 / 87.3",
        "s5": "99.65 / ?",
        "": "other images, MNIST of 28 x 28 in order / shuffled, as nobody reports these:"
        f" {TCN}, where an LSTM of others has 98.9 / 95.1; S5: Smith et al. 2022, arXiv:2208.04933",
    },
}


def solved_at(task: Task, counts: np.ndarray, scores: np.ndarray) -> int | None:
    """After how many updates the goal was reached for good: one lucky validation is no solution."""
    up = task.goal > task.guess
    missed = np.flatnonzero(~(scores >= task.goal if up else scores < task.goal))
    first = missed[-1] + 1 if len(missed) else 0
    return int(counts[first]) if first < len(counts) else None


def rows_of(name: str, task: Task, found: train.Table, about: dict[str, Any]) -> list[dict]:
    """What is known of each training of a cell: the lines of the results."""
    rows = []
    for i, setting in enumerate(found.settings):
        losses, scores = (found.validations[key][i] for key in ("loss", "score"))
        row = {
            "task": name,
            "variant": task.variants[setting["variant"]],
            **about,
            "seed": setting["seed"],
            "steps": task.steps,
            "measure": task.measure,
            "guess": task.guess,
            "goal": task.goal,
            "score": float(scores[-1]),
            "solved_at": solved_at(task, found.counts, scores),
            "updates": int(found.counts[-1]),
            "trainings": len(found.settings),
            "seconds": round(found.seconds, 2),  # of all these trainings, compilation included
            "load": round(
                os.getloadavg()[0], 1
            ),  # of the machine: seconds mean little beside others
            "skipped": int(found.skipped[i]),
            "stopped": found.stopped,
            "reference": REFERENCES[name].get(about["cell"]),
            "counts": found.counts.tolist(),
            "losses": losses.tolist(),
            "scores": scores.tolist(),
        }
        rows.append(row)
    return rows


def groups(rows: list[dict], *names: str) -> dict[Any, list[dict]]:
    """The rows with equal values of these names, in the order they came."""
    found: dict[Any, list[dict]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), []).append(row)
    return found


def shown(rows: list[dict], note: str) -> Table:
    """One task, one line for each cell."""
    first = rows[0]
    title = " ".join((first["task"], first["variant"])).strip()
    told = f"{first['measure']}, a guess gives {first['guess']:.4g}"
    title = f"{title}, {first['steps']} steps: {told}"
    where: Any = {"title_justify": "left", "caption_justify": "left"}
    table = Table(title=title, caption=note, box=None, padding=(0, 2, 0, 0), **where)
    numbers = ("params", "mean", "range", "solved", "updates", "seconds")
    for name in ("cell", "affine", *numbers, "others"):
        left = name not in numbers
        table.add_column(name, justify="left" if left else "right", no_wrap=True)
    for (cell,), seeds in groups(rows, "cell").items():
        scores, first = [row["score"] for row in seeds], seeds[0]
        at = [row["solved_at"] for row in seeds if row["solved_at"]]
        updates = max(at) if len(at) == len(seeds) else first["updates"]
        table.add_row(
            cell,
            "yes" if first["affine"] else "no",
            f"{first['parameters']:,}",
            f"{np.mean(scores):.3g}",
            f"{min(scores):.3g} ... {max(scores):.3g}",
            f"{len(at)} of {len(seeds)}" if at else "no",
            str(updates),
            f"{first['seconds'] * updates / first['updates']:.0f}",
            first["reference"] or "",
            style="bold" if len(at) == len(seeds) else "",
        )
    return table


def plot(rows: list[dict], path: Path) -> None:
    """A panel for each task, a line for each seed; the dashed lines are a guess and the goal."""
    panels = groups(rows, "task", "variant")
    figure = Figure(figsize=(5.2 * len(panels), 4.2), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(panels)))
    lines = {}
    for ax, ((task, variant), here) in zip(axes, panels.items(), strict=True):
        for row in here:
            colour = f"C{CELLS.index(row['cell'])}"
            style = "-" if row["affine"] else "--"
            [line] = ax.plot(row["counts"], row["scores"], style, color=colour, linewidth=1.3)
            lines[row["cell"]] = line
        first = here[0]
        lines["no memory"] = ax.axhline(first["guess"], color="0.3", linestyle=":")
        lines["solved"] = ax.axhline(first["goal"], color="0.3", linewidth=0.8)
        ax.set(title=f"{task} {variant}, {first['steps']} steps".replace(" ,", ","))
        ax.set(xlabel="update", ylabel=first["measure"])
        if first["goal"] < first["guess"]:
            top = 10 * first["guess"]
            ax.set(yscale="log", ylim=(min(min(r["scores"]) for r in here) / 2, top))
        ax.grid(alpha=0.2)
    where: Any = {"loc": "outside right center", "title": "dashed: not affine"}
    figure.legend([*lines.values()], [*lines], **where)
    figure.savefig(path, dpi=130, format="png")


# ---- command line --------------------------------------------------------------------------------

# Updates and rows of a batch: what the cells that solve a task need, and the others get as much.
BUDGET = {"copy": (300, 8), "adding": (1500, 8), "digits": (400, 32)}
SEEDS = {"copy": 2, "adding": 2, "digits": 3}
QUICK = {"steps": 20, "seeds": 1, "updates": 4}
PARALLEL = methods.first(methods.associative(), methods.scan())
METHODS = {"auto": None, "loop": methods.scan(), "parallel": PARALLEL}
TASKS = {"copy": copy, "adding": adding}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("long_range", description=__doc__.splitlines()[0])
    parser.error, flag = refuse, parser.add_argument
    several: Any = {"nargs": "+", "metavar": "X"}
    flag("--task", default=list(RECIPES), choices=RECIPES, help="one or more (all)", **several)
    flag("--cells", default=USUAL, choices=CELLS, help=f"of {', '.join(CELLS)}", **several)
    flag("--seeds", type=int, help="trainings of each cell (2; of the digits 3)")
    flag("--steps", type=int, default=1000, help="T of copy and adding (%(default)s)")
    flag("--updates", type=int, help="of each training (by task)")
    flag("--method", default="auto", choices=METHODS, help="through time (%(default)s)")
    flag("--quick", action="store_true", help="few steps, few updates: seconds")
    flag("--out", type=Path, help="a folder (default: a new one, runs/long_range-001, ...)")
    args = parser.parse_args(argv)
    if args.quick:
        vars(args).update(QUICK, cells=args.cells if args.cells != USUAL else ["lstm", "min_gru"])
    for name, least in (("seeds", 1), ("steps", 20), ("updates", 1)):
        value = getattr(args, name)
        if value is not None and not least <= value < 2**31:
            refuse(f"--{name} {value} is not in {least} ... {2**31 - 1}")
    return args


def prepare(name: str, args: argparse.Namespace) -> tuple[Task, int]:
    """The task, and how many updates each cell gets."""
    updates, batch = BUDGET[name]
    task = digits(batch) if name == "digits" else TASKS[name](args.steps, batch)
    return task, args.updates or updates


def compete(name: str, task: Task, cell: str, updates: int, args: argparse.Namespace) -> list[dict]:
    """Trains a cell with all seeds."""
    recipe = RECIPES[name][cell]
    found = train.sweep(
        maker(task, recipe, updates, METHODS[args.method]),
        {
            "variant": range(len(task.variants)),
            "seed": range(args.seeds or SEEDS[name]),
        },
        task.batch,
        updates=updates,
        every=max(1, updates // 20),
    )
    size = sum(leaf[0].size for leaf in jax.tree.leaves(found.params))
    affine = is_affine(recipe.cell(task.steps))
    about = {"cell": cell, "affine": affine, "parameters": size, "method": args.method}
    return rows_of(name, task, found, about)


def save(rows: list[dict], folder: Path) -> None:
    with (folder / "results.jsonl").open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    plot(rows, folder / "long_range.png")


def main(argv: Sequence[str] | None = None) -> int:
    try:
        args = parse(argv)
        tasks = {name: prepare(name, args) for name in args.task}
        if not any(cell in RECIPES[name] for name in tasks for cell in args.cells):
            refuse(f"--cells {' '.join(args.cells)}: none of them is tried on {' '.join(tasks)}")
        fresh = (Path(f"runs/long_range-{n:03}") for n in itertools.count(1))
        folder = args.out or next(path for path in fresh if not path.exists())
        folder.mkdir(parents=True, exist_ok=True)  # whether that can be done shows now
        rows: list[dict] = []
        for name, (task, updates) in tasks.items():
            for cell in (c for c in args.cells if c in RECIPES[name]):
                rows += compete(name, task, cell, updates, args)
                last = rows[-1]
                scores = [r["score"] for r in rows if (r["task"], r["cell"]) == (name, cell)]
                told = f"{name}: {cell} {min(scores):.4g} ... {max(scores):.4g} {task.measure}"
                print(f"{told}, {updates} updates, {last['seconds']:.0f} s", flush=True)
                save(rows, folder)
                if last["stopped"] == "interrupted":
                    break
            if rows and rows[-1]["stopped"] == "interrupted":
                print("stopped by Ctrl-C")
                break
        console = Console(width=100)
        for (name, _), here in groups(rows, "task", "variant").items():
            console.print(shown(here, f"{tasks[name][0].note}; others: {REFERENCES[name]['']}"))
            console.print()
        print(f"long_range.png, results.jsonl in {folder}")
    except (Refused, OSError, jax.errors.JaxRuntimeError) as error:
        print("long_range: error:", *str(error).split(), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("long_range: aborted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    if "host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        # Every core as a device of its own, for seeds of its own.
        jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    sys.exit(main())
