"""The example at toy size: it learns, resumes to the bit, stops on Ctrl-C, and refuses in one line."""

import importlib.util
import inspect
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest

from jaxrnn import train

SOURCE = Path(__file__).parents[2] / "examples" / "char_lm.py"
spec = importlib.util.spec_from_file_location("char_lm", SOURCE)
lm = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lm)

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "sleeps"]
TOY = {"features": 8, "batch": 4, "window": 16, "updates": 30, "every": 10}
FILES = {lm.CHECKPOINTS, lm.BEST, lm.CURVE, lm.SAMPLE}


def prose(lines: int = 200, seed: int = 0) -> str:
    draw = random.Random(seed)
    return "".join(" ".join(draw.choices(WORDS, k=8)) + ".\n" for _ in range(lines))


def flags(**given) -> list[str]:
    named = {"learning_rate": 0.03, "sample": 40, **TOY, **given}
    return [f"--{name.replace('_', '-')}={value}" for name, value in named.items()]


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def steps(folder) -> list[int]:
    """After which updates there are checkpoints."""
    return train.Checkpoints(Path(folder) / lm.CHECKPOINTS).steps()


def leaves(folder) -> dict[str, str]:
    """A checksum of every leaf of the last checkpoint: state, best parameters, history."""
    return train.Checkpoints(Path(folder) / lm.CHECKPOINTS).fingerprint()


def restored(argv: list[str], folder) -> train.Result:
    """What the last checkpoint holds."""
    run = lm.start([*argv, f"--out={folder}", "--resume"])
    params = lm.initial(run.model, jax.random.key(0), run.text.frequencies)
    memory = run.model.carry(params, run.text.train[:, 0])
    state = train.init(params, lm.optimizer(run.args), memory=memory)
    empty = train.History({}, [])
    return run.checkpoints.restore(train.Result(state, None, empty, ""))


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("text") / "prose.txt"
    path.write_text(prose())
    return path


@pytest.fixture(scope="module")
def finished(text, tmp_path_factory) -> Path:
    """The folder of an uninterrupted run. Not to be written to."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert lm.main(flags(text=text, out=folder)) == 0
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def refused(capsys, argv: list[str], *words: str) -> None:
    """It says why in one line, and leaves every file as it was."""
    before = content(Path.cwd())
    assert lm.main(argv) not in (0, None)
    err = capsys.readouterr().err
    assert err.startswith("char_lm: error: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    for word in words:
        assert word in err
    assert content(Path.cwd()) == before


# ---- training ------------------------------------------------------------------------------------


def test_it_learns_draws_and_writes(text, capsys):
    argv = flags(text=text, out="run", updates=80, every=40, prompt="fox ", sample=60)
    assert lm.main(argv) == 0
    out = capsys.readouterr().out
    baselines = lm.prepare(str(text), 4, 16).baselines
    [line] = [line for line in out.splitlines() if line.startswith("best validation: ")]
    best, after = float(line.split()[2]), int(line.split()[8])
    assert best < baselines["unigram"]
    assert f"unigram {baselines['unigram']:.3f}, xz {baselines['xz']:.3f}" in line
    assert after in steps("run")
    assert steps("run")[-1] == 80
    assert "\x1b" not in out  # no progress bar where there is no terminal
    counts = [line.split("/")[0] for line in out.splitlines() if line.startswith("update ")]
    assert counts == ["update 25", "update 40", "update 50", "update 75", "update 80"]

    assert {path.name for path in Path("run").iterdir()} == FILES
    sample = (Path("run") / lm.SAMPLE).read_text()
    assert sample.startswith("fox ")
    assert len(sample) == 64
    assert sample in out
    picture = matplotlib.image.imread(Path("run") / lm.CURVE)
    assert picture.shape[:2] == (675, 1200)
    assert 0.01 < np.mean(picture[..., :3].min(axis=-1) < 0.9) < 0.5  # lines on a white ground


def test_the_best_file_holds_the_parameters_of_the_loss_reported(finished, text, tmp_path):
    result = restored(flags(text=text), shutil.copytree(finished, tmp_path / "run"))
    data = lm.prepare(str(text), 4, 16)
    model = lm.language_model(lm.FACTORIES["lstm"](8), 1, len(data.frequencies))
    like = lm.initial(model, jax.random.key(0), data.frequencies)
    best = train.load_weights(finished / lm.BEST, like)
    for a, b in zip(*map(jax.tree.leaves, (best, result.best)), strict=True):
        np.testing.assert_array_equal(a, b)
    least = min(v["loss"] for v in result.history.validations)
    assert lm.validator(model, data.valid, 16)(best) == pytest.approx(least, rel=1e-6)


@pytest.mark.parametrize("cell", ["gru", "indrnn"])
def test_cells_stack(cell, text, capsys):
    argv = flags(text=text, cell=cell, layers=2)
    assert lm.main([*argv, "--out=run"]) == 0
    result = restored(argv, "run")
    assert result.history.validations[-1]["loss"] < result.history.losses[0] - 0.2
    params = result.state.params
    assert params[2].input.shape[0] == TOY["features"]
    assert [layer.shape for layer in params[0]] == [(len(params[-1].bias), 64)]
    data = lm.prepare(str(text), 4, 16)
    model = lm.language_model(lm.FACTORIES[cell](8), 2, len(data.frequencies))
    first = lm.initial(model, jax.random.key(0), data.frequencies)
    for before, after in zip(*map(jax.tree.leaves, (first, params)), strict=True):
        assert (before != after).any()


def test_every_named_cell_is_offered():
    names = {"elman", "jordan", "lstm", "peephole_lstm", "gru", "gru_reset_before", "mgu", "indrnn"}
    assert names <= set(lm.CELLS)


def test_a_sample_is_what_the_model_finds_likely():
    model = lm.language_model(lm.FACTORIES["gru"](8), 2, 12)
    *layers, readout = lm.initial(model, jax.random.key(0), np.full(12, 1 / 12))
    kernel = jax.random.normal(jax.random.key(1), readout.kernel.shape)
    bias = readout.bias.at[lm.UNKNOWN].add(100.0)  # likely, and yet never written
    params = (*layers, readout._replace(kernel=kernel, bias=bias))
    keys = jax.random.split(jax.random.key(2), 15)
    drawn = lm.write(model, params, jnp.array([3, 1, 4]), 1e-6, keys)
    ids = [3, 1, 4]
    while len(ids) < 18:
        _, logits = lm.jaxrnn.run(model, params, jnp.array((ids + [0] * 18)[:18]))
        ids.append(1 + int(jnp.argmax(logits[len(ids) - 1, 1:])))
    assert drawn.tolist() == ids[3:]
    assert len(set(ids)) > 3
    assert lm.write(model, params, jnp.array([3, 1, 4]), 2.0, keys).tolist() != ids[3:]


# ---- text ----------------------------------------------------------------------------------------


def test_an_unknown_character_costs_the_bits_to_say_which(tmp_path):
    """The code of all Unicode characters is a code: its probabilities sum to 1."""
    path = tmp_path / "text.txt"
    path.write_text("ab" * 900 + "a\N{SNOWMAN}" * 100)  # the last 200 of 2000 are validated on
    text = lm.prepare(str(path), 4, 16)
    assert text.vocabulary == "ab"
    assert np.mean(text.valid == lm.UNKNOWN) == pytest.approx(0.5, abs=0.01)
    characters = sum(1 for point in range(0x110000) if not 0xD800 <= point < 0xE000)
    others = characters - len(text.vocabulary)
    assert others * 2 ** -lm.unknown_bits(3) == pytest.approx(1)

    p = np.array([1, 901, 901]) / 1803  # one more of each than there are
    costs = -np.log2(p) + np.array([math.log2(others), 0, 0])
    assert text.baselines["unigram"] == pytest.approx(costs[text.valid].mean())
    model = lm.language_model(lm.FACTORIES["lstm"](4), 1, 3)
    params = lm.initial(model, jax.random.key(0), text.frequencies)  # which are all they know
    expected = costs[text.valid[:, 1:]].mean()
    assert lm.validator(model, text.valid, 16)(params) == pytest.approx(expected, rel=1e-5)


def test_bytes_that_are_no_text_are_replaced(tmp_path, capsys):
    path = tmp_path / "broken.txt"
    path.write_bytes(prose().encode().replace(b"fox", b"f\xff\xfe\x80x") + b"\xc3")
    assert lm.main(flags(text=path, out="run", updates=2)) == 0
    about = train.Checkpoints(Path("run") / lm.CHECKPOINTS).read_about()
    assert "\N{REPLACEMENT CHARACTER}" in about["vocabulary"]
    (Path("run") / lm.SAMPLE).read_text("utf-8")


def test_the_split_is_by_file_and_blind_to_the_order_of_files(tmp_path):
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN"
    sums = set()
    for name, order in (("a", letters), ("b", letters[::-1])):
        for letter in order:
            path = tmp_path / name / f"{letter}_" / f"{letter}.txt"
            path.parent.mkdir(parents=True)
            path.write_text(letter * 100)
        (tmp_path / name / "picture.bin").write_bytes(b"\x89PNG\0" * 50)
        (tmp_path / name / ".hidden").write_text("!" * 100)
        (tmp_path / name / "empty.txt").write_text("")
        text = lm.prepare(str(tmp_path / name), 4, 16)
        sums.add(text.sha256)
        assert len(text.vocabulary) == 38  # two files of forty are validated on
        assert set(text.vocabulary) < set(letters)
        assert set(np.unique(text.valid)) == {lm.UNKNOWN}  # and their letters are in no other
    assert len(sums) == 1


def test_a_file_alone_is_validated_on_its_end(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("a" * 900 + "b" * 100)
    text = lm.prepare(str(path), 4, 16)
    assert text.vocabulary == "a"
    assert set(np.unique(text.valid)) == {lm.UNKNOWN}


def test_without_a_text_it_reads_the_library_of_python():
    texts = lm.read(None)
    assert len(texts) > 300
    assert inspect.getsource(json) in texts
    assert Path(os.__file__).read_text("utf-8") in texts
    tests = Path(os.__file__).parent / "test" / "test_json" / "test_float.py"
    if tests.exists():
        assert tests.read_text() not in texts


# ---- resuming ------------------------------------------------------------------------------------


def interrupt_at(monkeypatch, number: int, action) -> None:
    """Does `action` when so many updates are reported in this process."""
    reporter = lm.reporter

    def reporting(*args):
        usual = reporter(*args)

        def report(count, metrics):
            usual(count, metrics)
            if count == number:
                action()

        return report

    monkeypatch.setattr(lm, "reporter", reporting)


def same_run(folder: Path, other: Path) -> None:
    """Equal to the bit: state, best parameters, history, sample."""
    assert leaves(folder) == leaves(other)
    for name in (lm.BEST, lm.SAMPLE):
        assert (folder / name).read_bytes() == (other / name).read_bytes()


def test_a_crashed_run_resumes_to_the_bit(text, finished, monkeypatch, capsys):
    def crash():
        raise RuntimeError("the power went out")

    rows = lm.prepare(str(text), 4, 16).train
    assert (rows.shape[1] - 1) // 16 > 20  # the crash is in the middle of the text
    with monkeypatch.context() as patch:
        interrupt_at(patch, 20, crash)
        with pytest.raises(RuntimeError, match="power"):
            lm.main(flags(text=text, out="run"))
    assert steps("run")[-1] == 20
    assert lm.main(["--resume", "--out=run", "--sample=40"]) == 0
    same_run(Path("run"), finished)


def test_an_interrupted_run_reports_and_resumes_to_the_bit(text, monkeypatch, capsys):
    """Here the rows are read more than once, before the interrupt and after."""
    argv = flags(text=text, window=64, updates=60, every=30)
    assert (lm.prepare(str(text), 4, 64).train.shape[1] - 1) // 64 < 30
    assert lm.main([*argv, "--out=whole"]) == 0
    capsys.readouterr()
    with monkeypatch.context() as patch:
        interrupt_at(patch, 50, lambda: os.kill(os.getpid(), signal.SIGINT))
        assert lm.main([*argv, "--out=run"]) == 0
    out, err = capsys.readouterr()
    assert "stopped by Ctrl-C; to go on: --resume --out run\n" in out
    assert "best validation" in out
    assert err == ""
    assert {path.name for path in Path("run").iterdir()} == FILES
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert steps("run")[-1] == 50
    assert lm.main([*argv, "--out=run", "--resume"]) == 0
    same_run(Path("run"), Path("whole"))


def test_the_second_interrupt_aborts(text, monkeypatch, capsys):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    interrupt_at(monkeypatch, 20, twice)
    assert lm.main(flags(text=text, out="run")) == 130
    assert capsys.readouterr().err == "char_lm: aborted; what was saved is whole\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert steps("run")[-1] == 20


def test_ctrl_c_in_a_process(text):
    argv = [sys.executable, str(SOURCE), *flags(text=text, updates=10**8, every=10**8)]
    pipe = subprocess.PIPE
    env = os.environ | {"PYTHONPATH": str(SOURCE.parents[1])}
    with subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True, env=env) as process:
        while not (line := process.stdout.readline()).startswith("update 50/"):
            assert line, process.stderr.read()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert err == ""
    assert "stopped by Ctrl-C" in out
    assert {path.name for path in Path("runs/char_lm-001").iterdir()} == FILES


def test_runs_get_folders_and_the_last_one_resumes(text, capsys):
    for number in ("001", "002"):
        assert lm.main(flags(text=text, updates=4, every=2)) == 0
        assert {path.name for path in Path("runs", f"char_lm-{number}").iterdir()} == FILES
    saved = content(Path("runs"))
    assert lm.main(["--resume", "--prompt=fox", "--temperature=0.5"]) == 0
    assert "temperature 0.5\nfox" in capsys.readouterr().out
    changed = {path for path, after in content(Path("runs")).items() if saved[path] != after}
    assert changed == {Path("runs/char_lm-002", lm.SAMPLE)}


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"text": "nowhere"}, ["--text", "nowhere", "no such file or folder"]),
        ({"text": ""}, ["--text", "no such file or folder"]),
        ({"text": "~nobody-at-all/x"}, ["no such file or folder"]),
        ({"text": "/dev/null"}, ["there is no text in it"]),
        ({"text": "empty.txt"}, ["empty.txt", "it is empty"]),
        ({"text": "folder"}, ["folder", "there is no text in it"]),
        ({"text": "short.txt"}, ["too short", "--batch 4 --window 16 need 68 and 17"]),
        ({"text": "cjk.txt", "batch": 1, "window": 4}, ["no character occurs 10 times"]),
        ({"text": "prose.txt", "window": 2000}, ["too short", "need 8004 and 2001"]),
        ({"text": "prose.txt", "batch": 10**6}, ["too short"]),
        ({"features": 0}, ["--features 0"]),
        ({"features": -1}, ["--features -1"]),
        ({"features": "many"}, ["--features", "many"]),
        ({"features": 10**30}, ["--features 1000", "too large"]),
        ({"seed": -1}, ["--seed -1"]),
        ({"layers": 0}, ["--layers 0"]),
        ({"updates": 0}, ["--updates 0"]),
        ({"batch": 0}, ["--batch 0"]),
        ({"window": 0}, ["--window 0"]),
        ({"every": 0}, ["--every 0"]),
        ({"learning_rate": 0}, ["--learning-rate 0"]),
        ({"learning_rate": "nan"}, ["--learning-rate nan"]),
        ({"temperature": 0}, ["--temperature 0"]),
        ({"temperature": -0.5}, ["--temperature -0.5"]),
        ({"temperature": "inf"}, ["--temperature inf"]),
        ({"cell": "transformer"}, ["--cell", "transformer", "'lstm'", "'gru'", "'indrnn'"]),
        ({"colour": "blue"}, ["--colour"]),
        ({"text": "prose.txt", "out": "prose.txt"}, ["prose.txt"]),
        ({"text": "prose.txt", "out": "prose.txt/run"}, ["prose.txt"]),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_said_in_one_line(given, words, capsys):
    Path("empty.txt").write_text("")
    Path("short.txt").write_text("abc" * 20)
    Path("prose.txt").write_text(prose())
    Path("cjk.txt").write_text("".join(map(chr, range(0x4E00, 0x4F00))), "utf-8")
    Path("folder/sub").mkdir(parents=True)
    Path("folder/sub/picture.bin").write_bytes(b"\x89PNG\0\0")
    Path("folder/nothing.txt").write_text("")
    refused(capsys, flags(**given), *words)


def test_there_must_be_something_to_resume(capsys):
    refused(capsys, ["--resume"], "nothing to resume")
    Path("empty").mkdir()
    refused(capsys, ["--resume", "--out=empty"], "nothing to resume", "empty")
    assert not Path("runs").exists()


def test_a_run_is_not_written_over(finished, text, capsys):
    shutil.copytree(finished, "run")
    refused(capsys, flags(text=text, out="run"), "--out run", "--resume")
    shutil.rmtree(Path("run") / lm.CHECKPOINTS)  # the best parameters alone are worth keeping too
    refused(capsys, flags(text=text, out="run"), "--out run", "--resume")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"cell": "gru"}, "cell (lstm, not gru)"),
        ({"features": 16}, "features (8, not 16)"),
        ({"layers": 2}, "layers (1, not 2)"),
        ({"updates": 50}, "updates (30, not 50)"),
        ({"seed": 7, "batch": 2}, "seed (0, not 7), batch (4, not 2)"),
        ({"learning_rate": 0.5}, "learning_rate (0.03, not 0.5)"),
        ({"text": "other.txt"}, "another text"),
    ],
    ids=str,
)
def test_another_configuration_is_not_resumed(given, words, finished, text, capsys):
    shutil.copytree(finished, "run")
    Path("other.txt").write_text(prose(seed=1))
    argv = flags(**{"text": text, "out": "run", **given})
    refused(capsys, argv, "--resume")
    refused(capsys, [*argv, "--resume"], words)


def test_a_text_that_changed_is_not_resumed(finished, text, capsys):
    shutil.copytree(finished, "run")
    former = text.read_bytes()
    try:
        text.write_bytes(former[:-100] + b"x" * 100)
        refused(capsys, ["--resume", "--out=run"], "another text")
    finally:
        text.write_bytes(former)


def latest(folder: Path) -> Path:
    return folder / lm.CHECKPOINTS / str(steps(folder)[-1])


def flip_a_bit(folder: Path) -> None:
    path = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)


def test_a_damaged_checkpoint_is_refused_and_the_one_before_it_taken(finished, capsys):
    shutil.copytree(finished, "run")
    flip_a_bit(latest(Path("run")))
    with pytest.warns(train.CheckpointWarning, match="is refused"):
        assert lm.main(["--resume", "--out=run", "--sample=40"]) == 0
    same_run(Path("run"), finished)


def test_nothing_but_damaged_checkpoints_are_refused(finished, capsys):
    shutil.copytree(finished, "run")
    for step in steps("run"):
        for path in (Path("run") / lm.CHECKPOINTS / str(step)).rglob("*"):
            if path.is_file():
                path.write_bytes(b"")
    assert lm.main(["--resume", "--out=run"]) == 2
    assert "is damaged, or holds no checkpoints of char_lm" in capsys.readouterr().err


def test_a_checkpoint_that_cannot_be_written_is_said(text, monkeypatch, capsys):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    def break_it():
        monkeypatch.setattr("orbax.checkpoint.CheckpointManager.save", full)

    interrupt_at(monkeypatch, 10, break_it)
    assert lm.main(flags(text=text, out="run")) == 2
    err = capsys.readouterr().err
    assert err.startswith("char_lm: error: cannot write the checkpoint")
    assert "No space left on device" in err
    assert err.count("\n") == 1
    assert steps("run") == [10]


def test_losses_that_are_no_numbers_stop_the_run(text, monkeypatch, capsys):
    loss_of = lm.loss_of

    def broken(model):
        loss = loss_of(model)

        def nan(params, batch, key, carry):
            value, metrics, carry = loss(params, batch, key, carry)
            # The batches know no number, but the bias has moved after some updates.
            moved = jnp.abs(params[-1].kernel).max() > 0.05
            return jnp.where(moved, math.nan, value), metrics, carry

        return nan

    monkeypatch.setattr(lm, "loss_of", broken)
    assert lm.main(flags(text=text, out="run")) == 2
    err = capsys.readouterr().err
    assert err.startswith("char_lm: error: 10 updates in a row")
    assert "learning rate smaller" in err
    assert err.count("\n") == 1
