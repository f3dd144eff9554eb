"""What is measured: every case is a row of data. A new cell is one line in `CELLS`."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from jaxrnn import around

Passes = tuple[str, ...]
BOTH: Passes = ("forward", "gradient")


@dataclass(frozen=True)
class Case:
    """A cell and the shape it runs on: xs [length, batch, inputs]."""

    cell: str  # a name in jaxrnn.cells
    batch: int
    length: int
    features: int
    dtype: str = "float32"
    inputs: int | None = None  # as many as features if None
    layers: int = 1
    passes: Passes = BOTH

    @property
    def name(self) -> str:
        inputs = "" if self.inputs is None else f" D={self.inputs}"
        layers = "" if self.layers == 1 else f" L={self.layers}"
        dtype = "" if self.dtype == "float32" else f" {self.dtype}"
        shape = f"B={self.batch} T={self.length} H={self.features}"
        return f"{self.cell} {shape}{inputs}{layers}{dtype}"

    @property
    def columns(self) -> dict[str, Any]:
        """What a row says of the case beside its name and shape."""
        return {}

    def tiny(self, batch: int) -> "Case":
        """The same in small: it says that everything works, nothing of speed."""
        return replace(self, batch=batch, length=12, features=8)

    def make_cell(self) -> jaxrnn.Cell | jaxrnn.Layer:
        cell = getattr(jaxrnn.cells, self.cell)(self.features)
        return cell if self.layers == 1 else around.stack(*[cell] * self.layers)

    def arrays(self) -> tuple[Any, jax.Array]:
        """Parameters as the cell draws them and random inputs: zeros would flatter the hardware."""
        shape = (self.length, self.batch, self.inputs or self.features)
        drawn = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        xs = jnp.asarray(drawn, self.dtype)
        return self.make_cell().init(jax.random.key(0), xs[0]), xs


@dataclass(frozen=True)
class Scaled(Case):
    """A case among others that differ from it along one axis."""

    axis: str = "T"  # T, B, H, layers or devices
    devices: int = 1  # that share the batch

    @property
    def name(self) -> str:
        on = "" if self.axis != "devices" else f" on {self.devices}"
        return f"{self.axis}: {super().name}{on}"

    @property
    def columns(self) -> dict[str, Any]:
        sizes = {"T": self.length, "B": self.batch, "H": self.features}
        sizes |= {"layers": self.layers, "devices": self.devices}
        return {"axis": self.axis, "size": sizes[self.axis]}


# For each batch size the lengths and features: as many steps as make a call much longer than its
# dispatch, so few that a case takes seconds.
_LSTM = {
    1: {512: (32, 64, 128, 256), 128: (512,), 32: (1024,)},
    8: {512: (32, 128), 128: (64, 256), 32: (512, 1024)},
    32: {512: (32,), 128: (64, 128), 32: (256, 512, 1024)},
    128: {128: (32,), 32: (64, 128, 256, 512)},
}
_OTHERS = {
    1: {512: (64, 256), 32: (1024,)},
    8: {512: (32,), 128: (128,), 32: (512,)},
    32: {128: (64,), 32: (256,)},
    128: {128: (32,), 32: (128,)},
}


def _grid(cell: str, shapes: dict[int, dict[int, tuple[int, ...]]]) -> list[Case]:
    return [Case(cell, b, t, h) for b, at in shapes.items() for t, hs in at.items() for h in hs]


_STEP_TOO = {Case("lstm", 8, 128, 64), Case("lstm", 32, 128, 128), Case("gru", 8, 128, 128)}
PEERS = [
    replace(case, passes=(*BOTH, "update")) if case in _STEP_TOO else case
    for case in (
        *_grid("lstm", _LSTM),
        *_grid("gru", _OTHERS),
        *_grid("elman", _OTHERS),
        # What Haiku calls a GRU.
        *_grid("gru_reset_before", {1: {512: (128,)}, 8: {128: (128,)}, 32: {128: (128,)}}),
    )
]

CELLS = [
    Case("elman", 16, 128, 128),
    Case("jordan", 16, 128, 128),
    Case("lstm", 16, 128, 128),
    Case("peephole_lstm", 16, 128, 128),
    Case("gru", 16, 128, 128),
    Case("gru_reset_before", 16, 128, 128),
    Case("mgu", 16, 128, 128),
    Case("indrnn", 16, 128, 128),
    Case("layer_norm_lstm", 16, 128, 128),
    Case("layer_norm_gru", 16, 128, 128),
    *(
        Case(cell, 16, 128, 128)
        for cell in (
            *("janet", "cfn", "li_gru", "ctrnn", "cornn", "lmu"),
            *("antisymmetric_rnn", "gated_antisymmetric_rnn"),
            *("sru", "sru_v1", "qrnn", "causal_conv", "min_gru", "min_lstm", "hgrn", "real_hgrn"),
            *("lru", "s4d", "s5", "selective_ssm", "rg_lru", "slstm", "mlstm"),
            *("linear_attention", "retention", "gated_linear_attention"),
            *("delta_net", "gated_delta_net"),
        )
    ),
]
MEMORY = [Case(cell, 16, 4096, 128, passes=("gradient",)) for cell in ("lstm", "gru")]

# Linear recurrences, and for Newton's method nonlinear ones.
LONG = [
    *(Case(cell, 1, 65536, 64) for cell in ("min_gru", "rg_lru", "lru", "s5")),
    *(Case("gru", 1, 4096, h) for h in (8, 16, 32)),
    Case("indrnn", 1, 65536, 64),
]

# XLA takes minutes over a gradient of 64 steps in a row: one case shows it.
UNROLL = [
    *(Case("lstm", b, 32, h) for b, h in ((1, 64), (8, 64), (8, 256), (32, 128))),
    *(Case(cell, b, 32, h) for cell in ("gru", "elman") for b, h in ((1, 64), (8, 128))),
    Case("lstm", 1, 64, 64),
]

SCALING = [
    *(Scaled("lstm", 8, t, 128, axis="T") for t in (32, 128, 512, 2048)),
    *(Scaled("lstm", b, 64, 128, axis="B") for b in (1, 4, 16, 64, 256)),
    *(Scaled("lstm", 8, 64, h, axis="H") for h in (32, 64, 128, 256, 512, 1024)),
    *(Scaled("lstm", 8, 64, 64, layers=n, axis="layers") for n in (1, 2, 4, 8)),
    *(
        Scaled("lstm", b, 64, h, axis="devices", devices=n)
        for b, h in ((32, 256), (128, 128))
        for n in (1, 2)
    ),
]

# Rows of a step's product, bytes of its weight and bytes hoisted (16·B·T·H for an LSTM) decide. Most
# shapes hoist 16 MiB, which no cache here keeps; some hoist 2 MiB, where hoisting all is settled.
_SHAPES = [
    *((1, 4096, 256), (4, 1024, 256), (8, 256, 64), (8, 128, 256), (8, 32, 512)),
    *((16, 1024, 64), (16, 256, 256), (32, 32, 512), (64, 256, 64), (64, 64, 256)),
]
CHOICE = [
    *(Case(cell, b, t, h) for cell in ("lstm", "gru") for b, t, h in _SHAPES),
    # Weights that no cache keeps: which loops are faster feature-major?
    *(Case(cell, b, 32, 1024) for cell in ("lstm", "gru", "elman") for b in (8, 16, 32)),
]

# How many times less temporary memory the gradient under this method must hold.
MEMORY_TARGETS = {(MEMORY[0].name, "scan(chunk=32, remat=True)"): 8.0}
