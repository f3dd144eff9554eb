"""Checkpoints: what comes back is what went in, bit for bit, or it is refused and the former taken."""

import gc
import json
import pickle
import shutil
import time
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrnn import train

# Where an array cannot be read, TensorStore's threads still report those after it, to nobody.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

OPTIMIZER = optax.adam(0.05)
PARAMS = {
    "layers": [jnp.zeros(3), jnp.ones((3, 2), jnp.bfloat16)],
    "none": jnp.zeros((0, 4)),
    "table": jax.random.normal(jax.random.key(0), (64, 32)),
}


def data(n):
    return jax.random.normal(jax.random.fold_in(jax.random.key(1), n), (4, 3))


def loss(params, batch, key, memory):
    first, second = params["layers"]
    noise = jax.random.normal(key, (4,))
    value = jnp.mean((batch @ (first - 1) + noise) ** 2) + jnp.sum(second.astype(float) ** 2)
    value += jnp.mean(params["table"] ** 2)
    return value, {"size": jnp.sum(first)}, (memory[0] + 1, jax.random.fold_in(memory[1], 0))


MEMORY = (jnp.zeros((), jnp.int32), jax.random.key(5, impl="rbg"))


def validate(params):
    return jnp.sum((params["layers"][0] - 0.3) ** 2)


def fit(
    folder=None, *, updates=40, resume=False, params=PARAMS, loss=loss, memory=MEMORY, **options
):
    saving = {}
    if folder is not None:
        saving = {"checkpoints": train.Checkpoints(folder, about={"seed": 1}), "resume": resume}
    options = {"validate": validate, "every": 10, "chunk": 4, "memory": memory, **saving, **options}
    return train.fit(loss, params, OPTIMIZER, data, updates=updates, **options)


def bits(tree):
    def leaf(a):
        if isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            return str(a.dtype), np.asarray(jax.random.key_data(a)).tobytes()
        return str(np.asarray(a).dtype), np.asarray(a).shape, np.asarray(a).tobytes()

    return jax.tree.structure(tree), [leaf(a) for a in jax.tree.leaves(tree)]


@pytest.fixture(scope="module")
def whole():
    return fit()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with the checkpoints of updates 10, 20, 30. Not to be written to."""
    folder = tmp_path_factory.mktemp("saved") / "run"
    fit(folder, updates=30)
    return folder


@pytest.fixture(scope="module", autouse=True)
def late_reports():
    yield
    gc.collect()
    time.sleep(0.2)


@pytest.fixture
def folder(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "run"))


@pytest.fixture(scope="module")
def like():
    state = train.init(PARAMS, OPTIMIZER, memory=MEMORY)
    return train.Result(state, None, train.History({}, []), "")


def test_a_run_in_two_parts_is_the_run_in_one(whole, folder):
    result = fit(folder, resume=True)
    assert bits(result) == bits(whole)
    best = whole.history.validations[whole.history.best()]["count"]
    assert set(train.Checkpoints(folder).steps()) == {20, 30, 40, best}


def test_what_comes_back_is_what_went_in(saved, like):
    restored = train.Checkpoints(saved).restore(like)
    expected = fit(updates=30)
    assert bits(restored._replace(stopped="finished")) == bits(expected)
    assert restored.state.memory[1].dtype == MEMORY[1].dtype
    assert train.Checkpoints(saved).read_about() == {"seed": 1}


def test_arrays_come_back_where_they_are_wanted(saved, like):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    place = jax.sharding.NamedSharding(mesh, jax.P(None, "data"))
    first, second = like.state.params["layers"]
    params = {**like.state.params, "layers": [first, jax.device_put(second, place)]}
    placed = like._replace(state=like.state._replace(params=params))
    restored = train.Checkpoints(saved).restore(placed)
    assert restored.state.params["layers"][1].sharding == place
    assert bits(restored) == bits(train.Checkpoints(saved).restore(like))


def test_the_last_and_the_best_are_kept(tmp_path):
    values = iter([5.0, 4.0, 1.0, 3.0, 3.5, 3.4, 3.3])
    checkpoints = train.Checkpoints(tmp_path / "run", keep=2)
    options = {"checkpoints": checkpoints, "validate": lambda p: next(values), "updates": 60}
    result = fit(**options)
    assert checkpoints.steps() == [20, 50, 60]
    assert bits(result.best) == bits(fit(updates=20).state.params)


def test_an_interval_of_its_own(tmp_path):
    checkpoints = train.Checkpoints(tmp_path, keep=9, every=6)
    fit(checkpoints=checkpoints, updates=20, validate=None)
    assert checkpoints.steps() == [6, 12, 18, 20]


def test_the_best_goes_on(tmp_path):
    """What was best before a resumption is best after it, if nothing better came."""
    values = iter([5.0, 1.0, 3.0, 2.0, 2.0])
    first = fit(tmp_path, updates=20, validate=lambda p: next(values))
    second = fit(tmp_path, updates=40, validate=lambda p: next(values), resume=True, patience=3)
    assert second.stopped == "finished"
    assert bits(first.best) == bits(second.best)
    assert [v["loss"] for v in second.history.validations] == [5, 1, 3, 2, 2]


# ---- damage --------------------------------------------------------------------------------------


def files(step: Path) -> list[Path]:
    return sorted(path for path in step.rglob("*") if path.is_file())


def flip(path: Path, byte: int, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[byte] ^= 1 << bit
    path.write_bytes(bytes(content))


def kinds(step: Path) -> dict[str, Path]:
    """One file of each kind, the longest."""
    found = {}
    for path in sorted(files(step), key=lambda p: p.stat().st_size):
        parts = path.relative_to(step).parts
        name = "/".join(parts[:-1] + (("data",) if parts[-2:-1] == ("d",) else parts[-1:]))
        found[name] = path
    return found


def restored_or_refused(folder, like, originals):
    """Damage is noticed, or it is in what no number depends on. Nothing else may come back.

    The update whose checkpoint came back, and why not the last one's.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        result = train.Checkpoints(folder).restore(like)
    said = [str(w.message) for w in said if issubclass(w.category, train.CheckpointWarning)]
    step = int(result.state.count)
    assert bits(result) == originals[step]
    assert len(said) == (step != 30)
    if said:
        assert f"checkpoint {folder / '30'} is refused" in said[0]
        assert f"taking that of update {step}" in said[0]
    return step, "".join(said)


@pytest.fixture(scope="module")
def originals(saved, like, tmp_path_factory):
    found = {30: bits(train.Checkpoints(saved).restore(like))}
    other = Path(shutil.copytree(saved, tmp_path_factory.mktemp("other") / "run"))
    for step, below in ((30, 20), (20, 10)):
        shutil.rmtree(other / str(step))
        found[below] = bits(train.Checkpoints(other).restore(like))
    return found


def test_there_are_many_kinds_of_files(saved):
    assert len(kinds(saved / "30")) >= 8


def test_flipped_bits_never_come_back(saved, folder, like, originals):
    draw = np.random.default_rng(0)
    steps = []
    for path in kinds(folder / "30").values():
        whole = path.read_bytes()
        for _ in range(3 if whole else 0):
            flip(path, draw.integers(len(whole)), draw.integers(8))
            steps.append(restored_or_refused(folder, like, originals)[0])
            path.write_bytes(whole)
    assert steps.count(20) > len(steps) / 3
    assert restored_or_refused(folder, like, originals) == (30, "")


def test_every_bit_of_a_number_counts(folder, like, originals):
    """In the file of the arrays, of which Orbax notices little; some of it holds no number."""
    path = max(files(folder / "30"), key=lambda p: p.stat().st_size)
    whole = path.read_bytes()
    reasons = []
    for byte in np.random.default_rng(1).integers(len(whole), size=8):
        flip(path, byte, 2)
        reasons.append(restored_or_refused(folder, like, originals)[1])
        path.write_bytes(whole)
    assert sum("it is damaged: the checksum of " in reason for reason in reasons) >= 4


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_truncated_files_are_refused(keep, folder, like, originals):
    steps = []
    for path in kinds(folder / "30").values():
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * keep)])
        steps.append(restored_or_refused(folder, like, originals)[0])
        path.write_bytes(whole)
    assert 20 in steps


def test_a_file_that_is_missing_is_noticed(folder, like, originals):
    for path in files(folder / "30"):
        whole = path.read_bytes()
        path.unlink()
        restored_or_refused(folder, like, originals)
        path.write_bytes(whole)


def change_manifest(step: Path, change) -> None:
    [path] = [p for p in (step / "manifest").iterdir() if "success" not in p.name]
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def swap(content):
    leaves = content["body"]["leaves"]
    names = "state/moments/0/mu/layers/0", "state/params/layers/0"
    leaves[names[0]], leaves[names[1]] = leaves[names[1]], leaves[names[0]]


MANIFESTS = {
    "swapped leaves": (swap, "its manifest is damaged: the checksum is wrong"),
    "of somebody else": (lambda c: c.clear(), "it was not written by jaxrnn.train"),
    "of another format": (
        lambda c: c.update(newer(c["body"])),
        "its format is 2, this version of jaxrnn reads 1; jaxrnn .* wrote it",
    ),
}


def newer(body):
    from jaxrnn.train import manifest

    body = {**body, "format": 2}
    return {"body": body, "sha256": manifest._seal(body)}


@pytest.mark.parametrize("case", MANIFESTS)
def test_manifests_are_read_with_care(case, folder, like):
    change, message = MANIFESTS[case]
    change_manifest(folder / "30", change)
    with pytest.warns(train.CheckpointWarning, match=f"30 is refused: {message}"):
        result = train.Checkpoints(folder).restore(like)
    assert int(result.state.count) == 20


def test_an_older_leaf_mixed_in_is_refused(folder, like):
    shutil.rmtree(folder / "30" / "arrays")
    shutil.copytree(folder / "20" / "arrays", folder / "30" / "arrays")
    with pytest.warns(train.CheckpointWarning, match="it is damaged: the checksum of"):
        assert int(train.Checkpoints(folder).restore(like).state.count) == 20


def test_a_pickle_is_no_checkpoint(folder, like):
    shutil.rmtree(folder / "30")
    (folder / "30" / "arrays").mkdir(parents=True)
    (folder / "30" / "manifest").mkdir()
    (folder / "30" / "manifest" / "metadata").write_bytes(pickle.dumps({"state": 1}))
    with pytest.warns(train.CheckpointWarning, match="its manifest cannot be read"):
        assert int(train.Checkpoints(folder).restore(like).state.count) == 20


def test_training_goes_on_from_the_one_before(folder, whole):
    flip(kinds(folder / "30")["manifest/metadata"], 40, 0)
    before = {path.name: path.read_bytes() for path in files(folder / "30")}
    with pytest.warns(train.CheckpointWarning, match="taking that of update 20"):
        result = fit(folder, resume=True)
    assert bits(result) == bits(whole)
    best = whole.history.validations[whole.history.best()]["count"]
    assert set(train.Checkpoints(folder).steps()) == {20, 30, 40, best}
    aside = folder / "refused-30-0"  # nothing is lost
    assert {path.name: path.read_bytes() for path in files(aside)} == before


def test_if_none_is_sound_that_is_an_error(folder, like):
    for step in (10, 20, 30):
        change_manifest(folder / str(step), lambda c: c.clear())
    with pytest.raises(train.CheckpointError, match=r"no checkpoint to go on from: .*30.*20.*10"):
        fit(folder, resume=True)
    assert train.Checkpoints(folder).steps() == [10, 20, 30]


# ---- another model -------------------------------------------------------------------------------

OTHERS = {
    "another shape": (
        {**PARAMS, "layers": [jnp.zeros(3), jnp.ones((3, 5), jnp.bfloat16)]},
        r"best/layers/1 is bfloat16\[3, 2\], not bfloat16\[3, 5\]",
    ),
    "another dtype": (
        {**PARAMS, "layers": [jnp.zeros(3), jnp.ones((3, 2))]},
        r"best/layers/1 is bfloat16\[3, 2\], not float32\[3, 2\]",
    ),
    "one more": ({**PARAMS, "more": jnp.ones(1)}, "it has no best/more"),
    "one less": (
        {name: leaf for name, leaf in PARAMS.items() if name != "none"},
        "it has best/none, which is not wanted",
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_the_checkpoint_of_another_model_is_refused(case, saved):
    params, message = OTHERS[case]
    before = {path: path.read_bytes() for path in files(saved)}
    with pytest.raises(train.CheckpointError, match="it is of another model: " + message):
        fit(saved, resume=True, params=params)
    assert {path: path.read_bytes() for path in files(saved)} == before


# ---- folders -------------------------------------------------------------------------------------


def test_a_run_is_not_written_over(saved):
    with pytest.raises(
        ValueError, match="holds checkpoints of a run, the last of update 30: pass res"
    ):
        fit(saved)
    assert train.Checkpoints(saved).steps() == [10, 20, 30]


def test_resuming_an_empty_folder_is_a_beginning(tmp_path, whole, like):
    assert train.Checkpoints(tmp_path / "run").restore(like) is None
    assert not (tmp_path / "run").exists()
    assert train.Checkpoints(tmp_path / "run").read_about() is None
    assert bits(fit(tmp_path / "run", resume=True)) == bits(whole)


def test_a_folder_that_is_a_file_is_refused_before_training(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(
        train.CheckpointError, match=r"cannot write the checkpoint .*run.* folder that"
    ):
        fit(tmp_path / "run", loss=lambda *_: 1 / 0)
    assert (tmp_path / "run").read_text() == "mine"


def test_what_is_about_must_be_json(tmp_path):
    with pytest.raises(TypeError, match="about must be JSON"):
        train.Checkpoints(tmp_path, about={"key": jax.random.key(0)})
    with pytest.raises(ValueError, match="keep must be an integer of at least 1, got 0"):
        train.Checkpoints(tmp_path, keep=0)


def test_a_disk_that_fills_up(tmp_path, monkeypatch):
    """Writing fails in the middle of the run: the error is clear, and nothing is lost."""
    import orbax.checkpoint as ocp

    usual, calls = ocp.CheckpointManager.save, []

    def save(self, step, **options):
        calls.append(step)
        if step == 20:
            raise OSError(28, "No space left on device")
        return usual(self, step, **options)

    monkeypatch.setattr(ocp.CheckpointManager, "save", save)
    with pytest.raises(
        train.CheckpointError, match=r"run/20: .*No space left .* MiB are free"
    ) as e:
        fit(tmp_path / "run")
    assert calls == [10, 20]
    assert bits(e.value.result.state) == bits(fit(updates=20).state)
    assert train.Checkpoints(tmp_path / "run").steps() == [10]
