"""PyTorch: `nn.LSTM`, `nn.GRU` and `nn.RNN`, time first; on JAX's kind of device."""

import time
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks import clock
from benchmarks.cases import Case
from benchmarks.entrants import Absent, InJax, Reference
from benchmarks.peers import gates
from jaxrnn.cells import ElmanParams, GRUParams, LSTMParams

LACKS = {"gru_reset_before": "PyTorch's GRU resets after the product"}
ORDER = "ifgo"
VERSION = f"torch {torch.__version__}"
RATE, EPSILON = 1e-3, 1e-3  # those of programs.OPTIMIZER
# OpenMP's threads spin for milliseconds after their last work, which makes PyTorch's next call faster,
# and would take the cores from whoever is timed next.
SECONDS_TO_SETTLE = 0.03


def enter(case: Case, params: Any, xs: jax.Array) -> "InTorch":
    make, native, ours = gates.found(MODULES, case.cell, "PyTorch", LACKS)
    return InTorch(
        version=VERSION,
        params=native(params),
        inputs=xs,
        apply=_run,
        ours=ours,
        make=make,
        device=_device(),
    )


@dataclass(frozen=True, kw_only=True)
class InTorch(InJax):
    """What is right is told as to any other entrant, from the parameters as arrays of JAX.

    `make` gives the module that has them, and `apply` runs it.
    """

    make: Any
    device: str

    def args(self, name: str) -> tuple[Any, ...]:
        # A new module each time: its optimiser changes it in place.
        w, r, *_ = self.params
        dtype = getattr(torch, self.inputs.dtype.name)
        module = self.make(w.shape[1], r.shape[1], device=self.device, dtype=dtype)
        with torch.no_grad():
            for own, leaf in zip(module.parameters(), self.params, strict=True):
                own.copy_(_tensor(leaf))
        xs = _tensor(self.inputs).to(self.device, dtype)
        match name:
            case "forward":
                return module, xs
            case "gradient":
                return module, xs.requires_grad_()
            case "update":
                return module, torch.optim.Adam(module.parameters(), lr=RATE, eps=EPSILON), xs
        raise ValueError(f"no pass is called {name!r}")

    def compiled(self, name: str) -> clock.Compiled:
        program = PROGRAMS[name]

        def run(*args: Any) -> Any:
            results = program(*args)
            if self.device == "cuda":
                torch.cuda.synchronize()
            return results

        def call(*args: Any) -> Any:
            return jax.tree.map(Readable, run(*args))

        return clock.Compiled(call, lambda *args: _settled(clock.stopwatch(run)(*args)))

    def expected(self, name: str, reference: Reference) -> Any:
        right = super().expected(name, reference)
        if name != "forward":
            return right
        loss, (carry, ys) = right
        return loss, (jax.tree.map(lambda leaf: leaf[None], carry), ys)  # an axis of layers


def _settled(watch: clock.Stopwatch) -> clock.Stopwatch:
    def seconds(calls: int) -> float:
        taken = watch(calls)
        time.sleep(SECONDS_TO_SETTLE)
        return taken

    return seconds


class Readable:
    """A tensor for NumPy, copied off its device when it is read, never when it is timed."""

    def __init__(self, tensor: torch.Tensor):
        self.tensor = tensor

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        own = self.tensor.detach().cpu()
        # NumPy has no bfloat16.
        array = (own.float() if own.dtype == torch.bfloat16 else own).numpy()
        return np.array(array, dtype, copy=copy)


def _run(module: Any, xs: Any) -> Any:
    ys, carry = module(xs)
    return carry, ys


def _loss(module: Any, xs: Any) -> Any:
    outputs = carry, ys = _run(module, xs)
    return sum(leaf.square().mean() for leaf in jax.tree.leaves((carry, ys))), outputs


def _forward(module: Any, xs: Any) -> Any:
    with torch.inference_mode():
        return _loss(module, xs)


def _gradient(module: Any, xs: Any) -> Any:
    loss, _ = _loss(module, xs)
    return torch.autograd.grad(loss, [*module.parameters(), xs])


def _update(module: Any, optimizer: Any, xs: Any) -> Any:
    optimizer.zero_grad()
    _loss(module, xs)[0].backward()
    optimizer.step()
    params = list(module.parameters())
    states = [optimizer.state[p] for p in params]
    step, *moments = ([s[n] for s in states] for n in ("step", "exp_avg", "exp_avg_sq"))
    return params, step[0], moments


PROGRAMS = {"forward": _forward, "gradient": _gradient, "update": _update}


def _tensor(leaf: jax.Array) -> torch.Tensor:
    return torch.from_numpy(np.array(leaf, np.float32))


def _device() -> str:
    if jax.default_backend() != "gpu":
        return "cpu"
    if not torch.cuda.is_available():
        raise Absent("this PyTorch sees no GPU, on which the others run")
    # As JAX: float32 products in TF32 unless asked for better.
    better = jax.config.jax_default_matmul_precision in ("highest", "float32")
    torch.backends.cudnn.allow_tf32 = not better
    return "cuda"


def _lstm(p: LSTMParams) -> Any:
    w, r, b = (gates.reordered(leaf, gates.LSTM, ORDER) for leaf in p)
    return w.T, r.T, b, jnp.zeros_like(b)


def _our_lstm(p: Any) -> LSTMParams:
    w, r, b, c = p
    return LSTMParams(*(gates.reordered(a, ORDER, gates.LSTM) for a in (w.T, r.T, b + c)))


def _gru(p: GRUParams) -> Any:
    n = p.recurrent_bias
    return p.input.T, p.recurrent.T, p.bias, jnp.pad(n, (2 * n.size, 0))


def _our_gru(p: Any) -> GRUParams:
    w, r, b, c = p
    return gates.one_bias(w.T, r.T, b, c)


def _elman(p: ElmanParams) -> Any:
    return p.input.T, p.recurrent.T, p.bias, jnp.zeros_like(p.bias)


def _our_elman(p: Any) -> ElmanParams:
    w, r, b, c = p
    return ElmanParams(w.T, r.T, b + c)


MODULES = {
    "lstm": (torch.nn.LSTM, _lstm, _our_lstm),
    "gru": (torch.nn.GRU, _gru, _our_gru),
    "elman": (torch.nn.RNN, _elman, _our_elman),
}
