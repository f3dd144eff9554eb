"""The example at toy size: the tasks are what they say, a cell learns one, and the table is honest."""

import functools
import importlib.util
import json
import math
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest

SOURCE = Path(__file__).parents[2] / "examples" / "long_range.py"
spec = importlib.util.spec_from_file_location("long_range_example", SOURCE)
example = importlib.util.module_from_spec(spec)
spec.loader.exec_module(example)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def read(folder: str) -> list[dict]:
    with Path(folder, "results.jsonl").open() as file:
        return [json.loads(line) for line in file]


# ---- tasks ---------------------------------------------------------------------------------------


def test_copy_asks_for_the_symbols_after_the_signal():
    task = example.copy(30, 5)
    xs, targets = task.batch(3)
    symbols = np.asarray(xs.argmax(-1))
    assert xs.shape == (50, 5, 10)
    assert ((symbols[:10] >= 1) & (symbols[:10] <= 8)).all()
    assert (symbols[10:39] == 0).all()
    assert (symbols[39:] == 9).all()
    np.testing.assert_array_equal(targets[:40], 0)
    np.testing.assert_array_equal(targets[40:], symbols[:10])
    assert not (task.batch(4)[0] == xs).all()
    np.testing.assert_array_equal(task.batch(3)[0], xs)


def test_who_remembers_nothing_has_the_baseline_of_copy():
    task = example.copy(30, 5)
    speaks = np.arange(50)[:, None, None] >= 40
    silent = np.where(np.arange(9) == 0, 0.0, -100.0)
    any_symbol = np.where(np.arange(9) == 0, -100.0, 0.0)
    logits = np.broadcast_to(np.where(speaks, any_symbol, silent), (50, 64, 9))
    assert float(task.score(logits, task.held_out[1])) == pytest.approx(task.guess, rel=1e-4)
    assert task.guess == pytest.approx(10 * math.log(8) / 50)


def test_adding_asks_for_the_sum_of_one_number_in_each_half():
    task = example.adding(20, 300)
    xs, sums = map(np.asarray, task.batch(0))
    numbers, marks = xs[..., 0], xs[..., 1]
    np.testing.assert_array_equal(marks[:10].sum(0), 1)
    np.testing.assert_array_equal(marks[10:].sum(0), 1)
    assert (marks.sum(1) > 0).all()  # anywhere
    np.testing.assert_allclose((numbers * marks).sum(0), sums[:, 0], rtol=1e-6)
    ys = np.full((20, 300, 1), np.nan)  # the last y counts, no other one
    ys[-1] = 1
    assert float(task.score(ys, sums)) == pytest.approx(1 / 6, abs=0.03)


def test_digits_are_split_and_shuffled_fairly():
    pytest.importorskip("sklearn")
    task = example.digits(64)
    test = {tuple(image) for image in np.asarray(task.held_out[0])[..., 0].T}
    epoch = [task.batch(n) for n in range(22)]
    images = np.concatenate([np.asarray(xs)[..., 0].T for xs, _ in epoch])
    trained = {tuple(image) for image in images}
    assert len(test) == 359
    assert len(trained) == 22 * 64  # each image once in an epoch; the sets have no two alike
    assert not test & trained
    again, _ = task.batch(22)
    assert not (np.asarray(again) == np.asarray(epoch[0][0])).all()
    xs = task.held_out[0]
    np.testing.assert_array_equal(task.view(xs, 0), xs)
    shuffled = np.asarray(task.view(xs, 1))
    assert (shuffled != np.asarray(xs)).any()
    np.testing.assert_array_equal(np.sort(shuffled, axis=0), np.sort(xs, axis=0))
    assert 0.95 < float(task.note.split(": ")[1].split(";")[0]) / 100 < 1


# ---- models --------------------------------------------------------------------------------------

AFFINE = {"lru", "s5", "min_gru", "rg_lru", "selective_ssm"}


@pytest.mark.parametrize("name", example.CELLS)
def test_every_recipe_makes_a_network(name):
    for recipes in example.RECIPES.values():
        if name not in recipes:
            continue
        recipe = recipes[name]
        cell = recipe.cell(100)
        assert example.is_affine(cell) == (name in AFFINE)
        model = example.network(recipe, cell, 3)
        x = jax.ShapeDtypeStruct((4, 2), jnp.float32)
        params = jax.eval_shape(model.init, jax.random.key(0), x)
        xs = jax.ShapeDtypeStruct((6, 4, 2), jnp.float32)
        run = functools.partial(example.jaxrnn.run, model)
        assert jax.eval_shape(run, params, xs)[1].shape == (6, 4, 3)


def test_gates_begin_with_memories_of_one_to_all_steps():
    def opened(made, columns):
        return jax.nn.sigmoid(made.init(jax.random.key(0), jnp.zeros(2)).bias[columns])

    lasts = np.linspace(1, 1000, 5)  # a gate that keeps n/(n + 1) keeps for n steps
    lstm = example.long_lstm(5, 1000)
    np.testing.assert_allclose(opened(lstm, slice(0, 5)), 1 / (lasts + 1), rtol=1e-4)
    np.testing.assert_allclose(opened(lstm, slice(5, 10)), lasts / (lasts + 1), rtol=1e-4)
    np.testing.assert_array_equal(opened(lstm, slice(10, 20)), 0.5)
    gru = example.long_gru(5, 1000)
    np.testing.assert_allclose(opened(gru, slice(5, 10)), lasts / (lasts + 1), rtol=1e-4)
    np.testing.assert_array_equal(opened(gru, slice(0, 5)), 0.5)
    minimal = example.long_min_gru(5, 1000)
    np.testing.assert_allclose(opened(minimal, slice(0, 5)), 1 / 1001, rtol=1e-4)
    np.testing.assert_array_equal(opened(minimal, slice(5, 10)), 0.5)


def test_what_times_memories_learns_slowly():
    recipe = example.Recipe(lambda t: example.cells.lru(3), 0.1, slow=0.01)
    model = example.network(recipe, recipe.cell(10), 1)
    params = model.init(jax.random.key(0), jnp.ones(2))
    steps = example.optimizer(recipe, 100)
    changes, _ = steps.update(jax.tree.map(jnp.ones_like, params), steps.init(params), params)
    np.testing.assert_allclose(changes[0].log_decay, -0.001, rtol=1e-5)
    np.testing.assert_allclose(changes[0].log_phase, -0.001, rtol=1e-5)
    np.testing.assert_allclose(changes[0].input, -0.1, rtol=1e-5)
    np.testing.assert_allclose(changes[1].kernel, -0.1, rtol=1e-5)


# ---- the whole -----------------------------------------------------------------------------------


def test_a_cell_solves_what_it_can_and_the_table_says_so(capsys):
    argv = ["--task=adding", "--cells", "min_gru", "--steps=20", "--seeds=2", "--updates=2000"]
    assert example.main(argv) == 0
    out, err = capsys.readouterr()
    assert err == ""
    rows = read("runs/long_range-001")
    assert [row["seed"] for row in rows] == [0, 1]
    for row in rows:
        assert row["score"] == row["scores"][-1] < row["goal"] == 0.002
        at = row["counts"].index(row["solved_at"])
        assert all(score < 0.002 for score in row["scores"][at:])
        assert at == 0 or row["scores"][at - 1] >= 0.002
        assert row["affine"]
    [line] = [line.split() for line in out.splitlines() if line.startswith("min_gru ")]
    assert line[1] == "yes"
    assert "2 of 2" in " ".join(line)
    assert str(max(row["solved_at"] for row in rows)) in line
    assert matplotlib.image.imread("runs/long_range-001/long_range.png").shape[2] == 4


def test_the_quick_run_of_all_tasks_says_what_was_not_solved(capsys):
    pytest.importorskip("sklearn")
    assert example.main(["--quick", "--method=parallel", "--out=here"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    rows = read("here")
    found = [(row["task"], row["variant"], row["cell"]) for row in rows]
    variants = [("copy", ""), ("adding", ""), ("digits", "row by row"), ("digits", "shuffled")]
    assert sorted(found) == sorted((*v, c) for v in variants for c in ("lstm", "min_gru"))
    assert all(row["solved_at"] is None for row in rows)
    lines = [line.split() for line in out.splitlines()]
    lines = [line for line in lines if line and line[0] in ("lstm", "min_gru")]
    assert len(lines) == len(rows)
    assert all("no" in line[2:] for line in lines)
    assert "about 0.020" in out  # what others have stands beside it
    assert Path("here/long_range.png").stat().st_size > 10_000


def test_what_is_solved_stays_solved():
    counts = np.asarray([10, 20, 30])
    loss = example.copy(20, 1)
    accuracy = loss._replace(goal=95.0, guess=10.0)
    for task, good, bad in [(loss, 0.0, 1.0), (accuracy, 96.0, 94.0)]:
        for scores, at in [
            ([bad, good, good], 20),
            ([good, good, good], 10),
            ([good, bad, good], 30),
            ([bad, good, bad], None),  # lost again
            ([bad, bad, bad], None),
            ([good, good, math.nan], None),
        ]:
            assert example.solved_at(task, counts, np.asarray(scores)) == at


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--task=sorting"], ["--task", "sorting", "copy", "adding", "digits"]),
        (["--cells", "transformer"], ["--cells", "transformer", "lru"]),
        (["--task=copy", "--cells", "cornn"], ["cornn", "none of them is tried on copy"]),
        (["--steps=5"], ["--steps 5 is not in 20"]),
        (["--seeds=0"], ["--seeds 0 is not in 1"]),
        (["--updates=-1"], ["--updates -1 is not in 1"]),
        (["--method=magic"], ["--method", "magic", "parallel"]),
        (["--task=copy", "--out=file"], ["file"]),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_said_in_one_line(argv, words, capsys):
    Path("file").write_text("")
    assert example.main(argv) == 2
    err = capsys.readouterr().err
    assert err.startswith("long_range: error: ")
    assert err.count("\n") == 1
    for word in words:
        assert word in err
    assert not Path("runs").exists()


def test_without_scikit_learn_the_digits_are_refused(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert example.main(["--task=digits"]) == 2
    assert "pip install scikit-learn" in capsys.readouterr().err
    assert example.main(["--task=copy", "--cells", "cornn"]) == 2  # others do not need it
    assert "scikit" not in capsys.readouterr().err
