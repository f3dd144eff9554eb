"""Params through safetensors: what comes back is what went in, or it is refused by name."""

import json
import os
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from jaxrnn import cells, train
from jaxrnn.train import weights

CELL = cells.lstm(4)
PARAMS = {
    "layers": [CELL.init(jax.random.key(0), jnp.ones(3))],
    "half": jnp.arange(3, dtype=jnp.bfloat16),
    "count": jnp.int32(7),
    "none": jnp.zeros((0, 2)),
}


@pytest.fixture
def path(tmp_path):
    train.save_weights(tmp_path / "model.safetensors", PARAMS)
    return tmp_path / "model.safetensors"


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        np.testing.assert_array_equal(x, y)


def test_what_comes_back_is_what_went_in(path):
    same(train.load_weights(path, PARAMS), PARAMS)
    shapes = jax.eval_shape(lambda: PARAMS)
    same(train.load_weights(path, shapes), PARAMS)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("dtype", sorted(set(weights.DTYPES.values()) - {"complex64"}))
def test_every_dtype_goes_through(dtype, tmp_path):
    with jax.enable_x64(True):
        array = jnp.arange(6).reshape(2, 3).astype(dtype)
        train.save_weights(tmp_path / "w", [array])
        same(train.load_weights(tmp_path / "w", [array]), [array])


def test_complex_numbers_go_through(tmp_path):
    array = jnp.array([1 + 2j, -3j], jnp.complex64)
    train.save_weights(tmp_path / "w", [array])
    same(train.load_weights(tmp_path / "w", [array]), [array])


def test_names_are_those_of_the_tree(path):
    names = set(safetensors.numpy.load_file(path))
    leaves = {"input", "recurrent", "bias"}
    assert names == {f"layers/0/{n}" for n in leaves} | {"half", "count", "none"}


def test_arrays_are_placed_as_the_template(path):
    mesh = jax.make_mesh((2,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    template = train.shard(PARAMS, mesh, [("recurrent", jax.P(None, "model"))])
    loaded = train.load_weights(path, template)
    assert loaded["layers"][0].recurrent.sharding == template["layers"][0].recurrent.sharding
    same(loaded, PARAMS)


def test_files_of_others_will_do(tmp_path):
    arrays = {"w": np.ones((2, 3), np.float32)}
    safetensors.numpy.save_file(arrays, tmp_path / "theirs")
    same(train.load_weights(tmp_path / "theirs", {"w": jnp.zeros((2, 3))}), {"w": jnp.ones((2, 3))})


def test_flipped_bits_never_come_back(path):
    whole, refused = path.read_bytes(), 0
    for byte in np.random.default_rng(0).integers(len(whole), size=60):
        broken = bytearray(whole)
        broken[byte] ^= 4
        path.write_bytes(bytes(broken))
        try:
            same(train.load_weights(path, PARAMS), PARAMS)  # as if in the name of the checksum
        except train.WeightsError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize(
    "content",
    [b"", b"abc", pickle.dumps({"w": 1}), b"\xff" * 64],
    ids=["empty", "text", "pickle", "huge"],
)
def test_what_is_no_file_of_ours_is_refused(content, path):
    path.write_bytes(content)
    with pytest.raises(train.WeightsError, match="damaged, or no safetensors file"):
        train.load_weights(path, PARAMS)


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_truncated_files_are_refused(keep, path):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(train.WeightsError, match="damaged"):
        train.load_weights(path, PARAMS)


OTHERS = {
    "missing": ({**PARAMS, "more": jnp.ones(1)}, "has no 'more'; it has"),
    "superfluous": (
        {n: p for n, p in PARAMS.items() if n != "half"},
        "has half, which the template",
    ),
    "misshaped": (
        {**PARAMS, "half": jnp.ones(4, jnp.bfloat16)},
        r"half as bfloat16\[3\], wanted .*\[4\]",
    ),
    "mistyped": ({**PARAMS, "half": jnp.ones(3)}, r"half as bfloat16\[3\], wanted is float32\[3\]"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_another_model_is_refused_by_name(case, path):
    template, message = OTHERS[case]
    with pytest.raises(train.WeightsError, match=message):
        train.load_weights(path, template)


def test_a_crash_leaves_the_former_file(path, monkeypatch):
    whole = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        train.save_weights(path, {"w": jnp.ones(3)})
    assert path.read_bytes() == whole
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_keys_and_python_numbers_are_no_weights(tmp_path):
    for leaf in (jax.random.key(0), 1.0):
        with pytest.raises(TypeError, match="w must be an array of numbers"):
            train.save_weights(tmp_path / "w", {"w": leaf})
    assert not (tmp_path / "w").exists()


def test_the_header_is_json_and_has_the_checksum(path):
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert len(header["__metadata__"]["sha256"]) == 64
