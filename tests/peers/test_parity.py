"""The cells compute what textbooks print and what PyTorch computes: values and every gradient."""

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import cells
from jaxrnn.core import Cell
from tests.peers.agreement import Draws, assert_close, quickly

T, B, D, H = 5, 3, 2, 4
LENGTHS = [5, 2, 4]
TOLERANCE = 1e-9
pytestmark = pytest.mark.usefixtures("x64")


def ours(function: Callable[..., Any], args: Any, cotangents: Any) -> tuple[Any, Any]:
    """Values, and gradients with respect to `args`."""

    @quickly
    def both(args, cotangents):
        out, pull = jax.vjp(function, *args)
        return out, pull(cotangents)

    return both(args, cotangents)


# Textbooks: one sequence, one step, vectors. Written so that NumPy's complex numbers go through.


def sigmoid(u):
    return 1 / (1 + np.exp(-u))


def relu(u):
    return np.where(u.real > 0, u, 0)


def elman(phi):
    def step(p, h, x):
        h = phi(x @ p.input + h @ p.recurrent + p.bias)
        return h, h

    return step


def jordan(p, y, x):
    h = np.tanh(x @ p.input + y @ p.recurrent + p.bias)
    y = np.tanh(h @ p.output + p.output_bias)
    return y, y


def lstm(p, carry, x):
    h, c = carry
    i, f, o, g = np.split(x @ p.input + h @ p.recurrent + p.bias, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return cells.LSTMCarry(h, c), h


def peephole_lstm(p, carry, x):
    h, c = carry
    i, f, o, g = np.split(x @ p.input + h @ p.recurrent + p.bias, 4)
    p_i, p_f, p_o = np.split(p.peephole, 3)
    c = sigmoid(f + p_f * c) * c + sigmoid(i + p_i * c) * np.tanh(g)
    h = sigmoid(o + p_o * c) * np.tanh(c)
    return cells.LSTMCarry(h, c), h


def gru(p, h, x):
    W_r, W_z, W_n = np.split(p.input, 3, axis=1)
    R_r, R_z, R_n = np.split(p.recurrent, 3, axis=1)
    b_r, b_z, b_n = np.split(p.bias, 3)
    r = sigmoid(x @ W_r + h @ R_r + b_r)
    z = sigmoid(x @ W_z + h @ R_z + b_z)
    n = np.tanh(x @ W_n + b_n + r * (h @ R_n + p.recurrent_bias))
    h = (1 - z) * n + z * h
    return h, h


def gru_reset_before(p, h, x):
    W_r, W_z, W_n = np.split(p.input, 3, axis=1)
    R_r, R_z, R_n = np.split(p.recurrent, 3, axis=1)
    b_r, b_z, b_n = np.split(p.bias, 3)
    r = sigmoid(x @ W_r + h @ R_r + b_r)
    z = sigmoid(x @ W_z + h @ R_z + b_z)
    n = np.tanh(x @ W_n + b_n + (r * h) @ R_n)
    h = (1 - z) * n + z * h
    return h, h


def mgu(p, h, x):
    W_f, W_n = np.split(p.input, 2, axis=1)
    R_f, R_n = np.split(p.recurrent, 2, axis=1)
    b_f, b_n = np.split(p.bias, 2)
    f = sigmoid(x @ W_f + h @ R_f + b_f)
    n = np.tanh(x @ W_n + (f * h) @ R_n + b_n)
    h = (1 - f) * h + f * n
    return h, h


def indrnn(p, h, x):
    h = relu(x @ p.input + p.recurrent * h + p.bias)
    return h, h


class Textbook(NamedTuple):
    cell: Cell
    step: Callable[..., Any]


TEXTBOOK = {
    "elman": Textbook(cells.elman(H), elman(np.tanh)),
    "elman, relu": Textbook(cells.elman(H, activation=jax.nn.relu), elman(relu)),
    "jordan": Textbook(cells.jordan(H), jordan),
    "jordan, narrow": Textbook(cells.jordan(H, outputs=3), jordan),
    "lstm": Textbook(cells.lstm(H), lstm),
    "peephole_lstm": Textbook(cells.peephole_lstm(H), peephole_lstm),
    "gru": Textbook(cells.gru(H), gru),
    "gru_reset_before": Textbook(cells.gru_reset_before(H), gru_reset_before),
    "mgu": Textbook(cells.mgu(H), mgu),
    "indrnn": Textbook(cells.indrnn(H), indrnn),
}


def in_numpy(step: Callable[..., Any], params: Any, carry: Any, xs: Any, reverse: bool) -> Any:
    """Row after row, step after step; the output is 0 where a row has ended."""
    lasts, ys = [], []
    for b, length in enumerate(LENGTHS):
        state = jax.tree.map(lambda leaf: leaf[b], carry)  # noqa: B023
        outs = {}
        for t in reversed(range(length)) if reverse else range(length):
            state, outs[t] = step(params, state, xs[t, b])
        lasts.append(state)
        zero = np.zeros_like(outs[0])
        ys.append([outs.get(t, zero) for t in range(T)])
    return jax.tree.map(lambda *rows: np.stack(rows), *lasts), np.stack(ys, axis=1)


def complex_step(function: Callable[..., Any], args: Any, cotangents: Any) -> Any:
    """The gradient to rounding: Im f(a + iε)/ε with ε = 1e-30, one entry at a time."""
    leaves, tree = jax.tree.flatten(jax.tree.map(np.asarray, args))
    weights = jax.tree.leaves(cotangents)

    def slope(index: int, entry: int) -> float:
        moved = [leaf.astype(complex) for leaf in leaves]
        moved[index].flat[entry] += 1e-30j
        outs = jax.tree.leaves(function(*jax.tree.unflatten(tree, moved)))
        return sum(np.sum(w * out.imag) for w, out in zip(weights, outs, strict=True)) / 1e-30

    gradients = [
        np.reshape([slope(i, entry) for entry in range(leaf.size)], leaf.shape)
        for i, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(tree, gradients)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("name", TEXTBOOK)
def test_textbook(name, reverse):
    cell, step = TEXTBOOK[name]
    draw = Draws("float64")
    xs = draw(T, B, D)
    params = draw.like(jax.eval_shape(cell.init, jax.random.key(0), xs[0]))
    carry = draw.like(cell.carry(params, xs[0]))
    args = params, carry, xs

    def run(params, carry, xs):
        lengths = jnp.array(LENGTHS)
        return jaxrnn.run(cell, params, xs, carry, lengths=lengths, reverse=reverse)

    def reference(params, carry, xs):
        return in_numpy(step, params, carry, xs, reverse)

    want = reference(*jax.tree.map(np.asarray, args))
    cotangents = draw.like(want)
    got, gradients = ours(run, args, cotangents)
    assert_close(got, want, TOLERANCE)
    assert_close(gradients, complex_step(reference, args, cotangents), TOLERANCE)


# PyTorch, whose weights are [gates, features] and whose gates stand in another order.


@pytest.fixture(scope="module")
def torch() -> ModuleType:
    return pytest.importorskip(
        "torch",
        reason="parity with PyTorch is not checked: it is not installed (pip install torch==2.13.0)",
    )


def of_torch_rnn(w):
    return cells.ElmanParams(w["weight_ih"].T, w["weight_hh"].T, w["bias_ih"] + w["bias_hh"])


def of_torch_lstm(w):
    def reordered(rows):
        i, f, g, o = jnp.split(rows, 4)
        return jnp.concatenate([i, f, o, g]).T

    bias = reordered(w["bias_ih"] + w["bias_hh"])
    return cells.LSTMParams(reordered(w["weight_ih"]), reordered(w["weight_hh"]), bias)


def of_torch_gru(w):
    b_rz, b_n = jnp.split(w["bias_hh"], [2 * H])
    bias = w["bias_ih"] + jnp.pad(b_rz, (0, H))
    return cells.GRUParams(w["weight_ih"].T, w["weight_hh"].T, bias, b_n)


class Torch(NamedTuple):
    module: str
    options: dict[str, str]
    cell: Cell
    params: Callable[..., Any]


TORCH = {
    "rnn": Torch("RNN", {}, cells.elman(H), of_torch_rnn),
    "rnn, relu": Torch(
        "RNN", {"nonlinearity": "relu"}, cells.elman(H, activation=jax.nn.relu), of_torch_rnn
    ),
    "lstm": Torch("LSTM", {}, cells.lstm(H), of_torch_lstm),
    "gru": Torch("GRU", {}, cells.gru(H), of_torch_gru),
}


def in_torch(
    torch: ModuleType, module: Any, direction: int, carry: Any, xs: Any, lengths: list[int] | None
) -> tuple[Any, Any]:
    """One direction of a bidirectional module: its inputs, and its last carry and outputs."""
    inputs = jax.tree.map(lambda a: torch.tensor(np.asarray(a), requires_grad=True), (carry, xs))
    states = [torch.stack([leaf, leaf]) for leaf in jax.tree.leaves(inputs[0])]
    sequence = inputs[1]
    if lengths is not None:
        sequence = torch.nn.utils.rnn.pack_padded_sequence(sequence, lengths, enforce_sorted=False)
    is_lstm = len(states) == 2
    ys, last = module(sequence, tuple(states) if is_lstm else states[0])
    if lengths is not None:
        ys, _ = torch.nn.utils.rnn.pad_packed_sequence(ys, total_length=T)
    last = [leaf[direction] for leaf in (last if is_lstm else [last])]
    last = jax.tree.unflatten(jax.tree.structure(carry), last)
    return inputs, (last, ys.chunk(2, dim=-1)[direction])


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "backward half"])
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "packed"])
@pytest.mark.parametrize("name", TORCH)
def test_pytorch(name, lengths, reverse, torch):
    case, draw = TORCH[name], Draws("float64")
    torch.manual_seed(0)
    make = getattr(torch.nn, case.module)
    module = make(D, H, bidirectional=True, dtype=torch.float64, **case.options)
    suffix = "_l0_reverse" if reverse else "_l0"
    theirs = {
        name: getattr(module, name + suffix)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }
    weights = jax.tree.map(lambda w: jnp.asarray(w.detach().numpy()), theirs)
    xs = draw(T, B, D)
    carry = draw.like(case.cell.carry(case.params(weights), xs[0]))

    inputs, outs = in_torch(torch, module, int(reverse), carry, xs, lengths)
    want = jax.tree.map(lambda out: out.detach().numpy(), outs)
    cotangents = draw.like(want)
    slopes = jax.tree.map(lambda c: torch.tensor(np.asarray(c)), jax.tree.leaves(cotangents))
    torch.autograd.backward(jax.tree.leaves(outs), slopes)
    want_gradients = jax.tree.map(lambda leaf: leaf.grad.numpy(), (theirs, *inputs))

    def run(weights, carry, xs):
        rows = None if lengths is None else jnp.array(lengths)
        params = case.params(weights)
        return jaxrnn.run(case.cell, params, xs, carry, lengths=rows, reverse=reverse)

    got, gradients = ours(run, (weights, carry, xs), cotangents)
    assert_close(got, want, TOLERANCE)
    assert_close(gradients, want_gradients, TOLERANCE)
