"""The example at toy size: it learns, shows a table and a picture, and refuses in one line."""

import csv
import importlib.util
from pathlib import Path

import jax
import matplotlib.image
import numpy as np
import pytest

SOURCE = Path(__file__).parents[2] / "examples" / "sweep.py"
spec = importlib.util.spec_from_file_location("sweep_example", SOURCE)
example = importlib.util.module_from_spec(spec)
spec.loader.exec_module(example)

TEXT = "the quick brown fox jumps over the lazy dog; " * 80
TOY = {"learning_rate": [0.01, 0.1], "features": [2, 5], "rate": 0.1, "seeds": 1}
TOY |= {"updates": 12, "batch": 4, "window": 8}


def flags(**given) -> list[str]:
    made = []
    for name, value in {**TOY, **given}.items():
        values = value if isinstance(value, list) else [value]
        made += [f"--{name.replace('_', '-')}", *map(str, values)]
    return made


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT)


def test_it_learns_and_shows_a_table_and_a_picture(capsys):
    assert example.main(flags(text="text.txt", cell="elman")) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "3,240 characters to train on" in out
    [head] = [line.split() for line in out.splitlines() if "learning_rate" in line]
    assert head == [
        *("learning_rate", "features", "rate", "seed"),
        *("loss", "validation", "best", "best_at", "skipped"),
    ]
    assert "4 settings in" in out
    with Path("runs/sweep-001/sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert {row["features"] for row in rows} == {"2", "5"}
    best = min(float(row["best"]) for row in rows)
    assert f"best: {best:.3f} bits per character" in out
    assert best < 6  # of 97 symbols: log2 is 6.6
    assert matplotlib.image.imread("runs/sweep-001/sweep.png").shape[2] == 4


def test_a_number_of_units_is_that_number():
    """The setting of few units in the wide arrays is a model of few units."""
    held_out = example.read(Path("text.txt"))[:33].reshape(-1, 3)
    make = example.maker(example.cells.gru, 6, held_out)
    (params, *_), _, validate = make(0.1, 2, 0.0, 0)
    few = example.around.stack(
        example.around.embed(97, 32), example.cells.gru(2), example.around.dense(97)
    )

    def first(leaf, rows, columns):
        leaf = leaf.reshape(*leaf.shape[:-1], -1, 6)[..., :columns] if columns else leaf
        leaf = leaf.reshape(*leaf.shape[:-2], -1) if columns else leaf
        return leaf[:rows] if rows else leaf

    embedding, inner, output = params
    inner = type(inner)(
        input=first(inner.input, None, 2),
        recurrent=first(inner.recurrent, 2, 2),
        bias=first(inner.bias, None, 2),
        recurrent_bias=first(inner.recurrent_bias, None, 2),
    )
    output = output._replace(kernel=output.kernel[:2])
    _, logits = example.jaxrnn.run(few, (embedding, inner, output), held_out[:-1])
    bits = example.train.cross_entropy(logits, held_out[1:]) / np.log(2)
    np.testing.assert_allclose(validate(params), bits, rtol=1e-5)
    q = inner.recurrent[:, :2]
    np.testing.assert_allclose(q @ q.T, np.eye(2), atol=1e-5)


def test_python_s_own_library_is_text():
    text = example.read(None)
    assert text.size > 10**5
    assert (np.bincount(text, minlength=97)[1:] > 0).sum() > 90
    assert jax.numpy.asarray(text).dtype == np.int32


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"text": "nowhere.txt"}, ["nowhere.txt"]),
        ({"text": "text.txt", "window": 4000}, ["has 3600 characters, too few for --window 4000"]),
        ({"learning_rate": 0}, ["--learning-rate 0.0 is not in 1e-09 ... 1000000000.0"]),
        ({"learning_rate": "high"}, ["--learning-rate", "high"]),
        ({"features": [4, 0]}, ["--features 0 is not in 1"]),
        ({"rate": 1}, ["--rate 1.0 is not in 0 ... 0.999"]),
        ({"seeds": 0}, ["--seeds 0"]),
        ({"updates": -1}, ["--updates -1"]),
        ({"at_once": 0}, ["--at-once 0"]),
        ({"cell": "jordan"}, ["--cell", "jordan", "gru", "lstm"]),
        ({"colour": "blue"}, ["--colour"]),
        ({"text": "text.txt", "out": "text.txt"}, ["text.txt"]),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_said_in_one_line(given, words, capsys):
    assert example.main(flags(**given)) == 2
    err = capsys.readouterr().err
    assert err.startswith("sweep: error: ")
    assert err.count("\n") == 1
    for word in words:
        assert word in err
    assert not Path("runs").exists()
