"""Losses against NumPy and PyTorch, and padding that nothing of reaches value or gradient."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn import cells, train
from jaxrnn.train import losses

T, B, K = 6, 3, 5
draw = np.random.default_rng(0)
LOGITS = jnp.array(draw.normal(size=(T, B, K)), jnp.float32)
LABELS = jnp.array(draw.integers(0, K, (T, B)))
VALID = jnp.array(draw.random((T, B)) < 0.6)


def nats(logits, labels):
    logits = np.float64(logits)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return -np.log(np.take_along_axis(p, np.asarray(labels)[..., None], -1)[..., 0])


def test_cross_entropy():
    assert train.cross_entropy(LOGITS, LABELS) == pytest.approx(nats(LOGITS, LABELS).mean())
    expected = nats(LOGITS, LABELS)[np.asarray(VALID)].mean()
    assert train.cross_entropy(LOGITS, LABELS, VALID) == pytest.approx(expected)


def test_mean_squared_error():
    targets = jnp.array(draw.normal(size=(T, B, K)), jnp.float32)
    squares = np.asarray(LOGITS - targets) ** 2
    assert train.mean_squared_error(LOGITS, targets) == pytest.approx(squares.mean())
    expected = squares[np.asarray(VALID)].mean()
    assert train.mean_squared_error(LOGITS, targets, VALID) == pytest.approx(expected)


@pytest.mark.parametrize("label", [-1, K])
def test_a_label_that_does_not_exist_is_no_number(label):
    wrong = LABELS.at[0, 0].set(label)
    assert np.isnan(train.cross_entropy(LOGITS, wrong))
    valid = jnp.ones((T, B), bool).at[0, 0].set(False)
    assert np.isfinite(train.cross_entropy(LOGITS, wrong, valid))


def test_half_precision_is_summed_in_single():
    logits = LOGITS.astype(jnp.bfloat16)
    value = train.cross_entropy(logits, LABELS)
    assert value.dtype == jnp.float32
    assert value == pytest.approx(nats(logits.astype(jnp.float32), LABELS).mean(), rel=1e-6)
    assert jax.grad(train.cross_entropy)(logits, LABELS).dtype == jnp.bfloat16


MASKED = {
    "cross_entropy": lambda ys: train.cross_entropy(ys, LABELS, VALID),
    "mean_squared_error": lambda ys: train.mean_squared_error(ys, jnp.sin(LOGITS), VALID),
    "activation": lambda ys: train.activation(ys, 2.0, VALID),
    "temporal_activation": lambda ys: train.temporal_activation(ys, 2.0, VALID),
    "ctc": lambda ys: train.ctc(ys, LABELS[:2] % (K - 1) + 1, valid=RIGHT),
}
RIGHT = jnp.arange(T)[:, None] < jnp.array([6, 4, 5])


@pytest.mark.parametrize("name", MASKED)
def test_padding_is_inert(name):
    valid = np.asarray(RIGHT if name == "ctc" else VALID)
    both = jax.jit(jax.value_and_grad(MASKED[name]))
    value, gradient = both(LOGITS)
    np.testing.assert_array_equal(np.asarray(gradient)[~valid], 0)
    assert np.abs(gradient).max() > 0
    for padding in (np.nan, np.inf, 1e30):
        filled = np.where(valid[..., None], LOGITS, np.float32(padding))
        other, other_gradient = both(filled)
        assert float(value) == float(other)
        np.testing.assert_array_equal(gradient, other_gradient)


def test_nan_in_padded_targets_is_inert():
    targets = jnp.where(VALID[..., None], jnp.sin(LOGITS), jnp.nan)
    gradient = jax.grad(train.mean_squared_error)(LOGITS, targets, VALID)
    assert np.isfinite(gradient).all()


def test_nothing_valid_is_0():
    none = jnp.zeros((T, B), bool)
    for loss in (
        lambda ys: train.cross_entropy(ys, LABELS, none),
        lambda ys: train.activation(ys, 1.0, none),
        lambda ys: train.temporal_activation(ys[:1], 1.0),
    ):
        value, gradient = jax.value_and_grad(loss)(LOGITS)
        assert float(value) == 0
        assert not gradient.any()


def alignments(logits, label, blank):
    """-log of the sum over all paths that collapse to the label, one by one."""
    p = np.exp(np.float64(logits))
    p /= p.sum(-1, keepdims=True)
    total = 0.0
    for path in itertools.product(range(p.shape[1]), repeat=len(p)):
        if [k for k, _ in itertools.groupby(path) if k != blank] == list(label):
            total += np.prod(p[np.arange(len(p)), path])
    return -np.log(total)


@pytest.mark.parametrize("blank", [0, 2])
def test_ctc_sums_over_all_alignments(blank):
    logits, lengths = LOGITS[:5, :, :4], [5, 3, 4]
    others = [k for k in range(4) if k != blank]
    rows = [[others[0], others[0]], [others[1], others[2]], [others[2]]]
    labels = np.full((2, 3), 99)
    for b, row in enumerate(rows):
        labels[: len(row), b] = row
    expected = np.mean([alignments(logits[:n, b], rows[b], blank) for b, n in enumerate(lengths)])
    counts = jnp.array([len(row) for row in rows])
    value = partial(train.ctc, logits, jnp.array(labels), label_lengths=counts, blank=blank)
    assert value(lengths=jnp.array(lengths)) == pytest.approx(expected, rel=1e-5)
    valid = jnp.arange(5)[:, None] < jnp.array(lengths)
    assert value(valid=valid) == pytest.approx(expected, rel=1e-5)


def test_ctc_takes_any_batch_and_holes():
    ctc = jax.jit(train.ctc)
    labels = jnp.full((2, 3), 1).at[1].set(2)
    valid = jnp.ones((T, B), bool).at[2].set(False)
    kept = jnp.delete(LOGITS, 2, axis=0)
    expected = ctc(kept, labels)
    assert ctc(LOGITS, labels, valid=valid) == pytest.approx(float(expected), rel=1e-5)
    deep = ctc(kept[:, None], labels[:, None])
    assert float(deep) == pytest.approx(float(expected), rel=1e-6)
    one = ctc(kept[:, 0], labels[:, 0])
    rows = [ctc(kept[:, b], labels[:, b]) for b in range(B)]
    assert float(one) == pytest.approx(float(rows[0]))
    assert float(np.mean(rows)) == pytest.approx(float(expected), rel=1e-5)


def test_weights_are_regularised_and_biases_are_not():
    params = [cells.gru(3).init(jax.random.key(0), jnp.ones(2))]
    filled = jax.tree.map(lambda p: jnp.full_like(p, -2.0), params)
    weights = 2 * 9 + 3 * 9
    assert float(train.l1(filled, 0.5)) == 0.5 * 2 * weights
    assert float(train.l2(filled, 0.5)) == 0.5 * 4 * weights
    everything = weights + 9 + 3
    assert float(train.l2(filled, 1.0, lambda name, leaf: True)) == 4 * everything
    assert float(train.l1(filled, 1.0, lambda name, leaf: name == "0/bias")) == 2 * 9
    gradient = jax.grad(train.l2)(filled, 1.0)[0]
    assert (gradient.recurrent == -4).all()
    assert not gradient.bias.any()
    assert not gradient.recurrent_bias.any()


def test_activation_regularisers():
    ys = np.asarray(LOGITS)
    assert train.activation(LOGITS, 2.0) == pytest.approx(2 * (ys**2).mean())
    expected = 3 * ((ys[1:] - ys[:-1]) ** 2).mean()
    assert train.temporal_activation(LOGITS, 3.0) == pytest.approx(expected)
    pairs = np.asarray(VALID[1:] & VALID[:-1])
    expected = ((ys[1:] - ys[:-1]) ** 2)[pairs].mean()
    assert train.temporal_activation(LOGITS, 1.0, VALID) == pytest.approx(expected)


@pytest.mark.parametrize("promotion", ["raise"])
def test_no_rank_is_promoted(promotion):
    with jax.numpy_rank_promotion(promotion):
        for loss in MASKED.values():
            assert np.isfinite(jax.jit(loss)(LOGITS))


REFUSED = {
    "labels of another shape": (
        lambda: train.cross_entropy(LOGITS, LABELS.T),
        ValueError,
        r"labels must have the shape of logits without its last axis: \(6, 3\), got \(3, 6\)",
    ),
    "one-hot labels": (
        lambda: train.cross_entropy(LOGITS, LOGITS[..., 0]),
        TypeError,
        "labels must be integers, got float32; of one-hot rows take argmax",
    ),
    "valid of floats": (
        lambda: train.cross_entropy(LOGITS, LABELS, jnp.ones((T, B))),
        TypeError,
        "needs valid of bool, got float32",
    ),
    "valid of another shape": (
        lambda: train.activation(LOGITS, 1.0, VALID.T),
        ValueError,
        r"valid must have the shape of the leading axes, .*\(6, 3\), got \(3, 6\)",
    ),
    "targets of another shape": (
        lambda: train.mean_squared_error(LOGITS, LOGITS[..., :1]),
        ValueError,
        "targets must have the shape of ys",
    ),
    "lengths and valid": (
        lambda: train.ctc(LOGITS, LABELS, lengths=jnp.ones(B, int), valid=VALID),
        ValueError,
        "pass one",
    ),
    "batch-major labels": (
        lambda: train.ctc(LOGITS, jnp.ones((B, 2), int)),
        ValueError,
        r"labels must have the shape of \[N, \*batch\]",
    ),
    "a blank that is no class": (
        lambda: train.ctc(LOGITS, LABELS, blank=K),
        ValueError,
        "blank must be one of the 5 classes, got 5",
    ),
    "lengths of another shape": (
        lambda: train.ctc(LOGITS, LABELS, lengths=jnp.ones(B + 1, int)),
        ValueError,
        "lengths must have the shape",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(case):
    call, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        call()


def test_two_leaves_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two leaves are called 'a/b'"):
        losses.l1({"a/b": jnp.ones(1), "a": {"b": jnp.ones(1)}}, 1.0)
