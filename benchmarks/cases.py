"""What is measured: every case is a row of data. A new cell is one line in `CELLS`."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn


@dataclass(frozen=True)
class Case:
    """A cell and the shape it runs on: xs [length, batch, inputs]."""

    cell: str  # a name in jaxrnn.cells
    batch: int
    length: int
    features: int
    dtype: str = "float32"
    inputs: int | None = None  # as many as features if None

    @property
    def name(self) -> str:
        inputs = "" if self.inputs is None else f" D={self.inputs}"
        dtype = "" if self.dtype == "float32" else f" {self.dtype}"
        return f"{self.cell} B={self.batch} T={self.length} H={self.features}{inputs}{dtype}"

    def make_cell(self) -> jaxrnn.Cell | jaxrnn.Layer:
        return getattr(jaxrnn.cells, self.cell)(self.features)

    def arrays(self) -> tuple[Any, jax.Array]:
        """Parameters as the cell draws them and random inputs: zeros would flatter the hardware."""
        shape = (self.length, self.batch, self.inputs or self.features)
        drawn = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        xs = jnp.asarray(drawn, self.dtype)
        return self.make_cell().init(jax.random.key(0), xs[0]), xs


SMALL_BATCH = Case("lstm", batch=1, length=1000, features=128)
LARGE_WEIGHT = Case("lstm", batch=32, length=100, features=1024)
# So few steps that a case takes seconds, so many that a call is much longer than its dispatch.
_LENGTHS = {1: 512, 16: 128, 64: 64}
GRID = [Case("lstm", b, t, h) for b, t in _LENGTHS.items() for h in (64, 256, 512)]

SPEED = [SMALL_BATCH, LARGE_WEIGHT, *GRID]

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
]

MEMORY = [Case("lstm", 16, 4096, 128), Case("gru", 16, 4096, 128)]

# Rows of a step's product, bytes of its weight and bytes hoisted (16·B·T·H for an LSTM) decide. Most
# shapes hoist 16 MiB, which no cache here keeps; some hoist 2 MiB, where hoisting all is settled.
_SHAPES = [
    *((1, 2048, 64), (1, 16384, 64), (1, 4096, 256)),
    *((4, 128, 256), (4, 4096, 64), (4, 1024, 256), (4, 32, 1024)),
    *((8, 256, 64), (8, 2048, 64), (8, 512, 256)),
    *((16, 32, 256), (16, 1024, 64), (16, 256, 256), (16, 128, 512)),
    *((64, 32, 64), (64, 256, 64), (64, 64, 256), (64, 32, 512), (32, 32, 1024)),
]
CHOICE = [Case(cell, b, t, h) for cell in ("lstm", "gru", "elman") for b, t, h in _SHAPES]

# The least that the default method's gradient must gain over `lax`.
SPEED_TARGETS = {
    SMALL_BATCH.name: 1.5,
    LARGE_WEIGHT.name: 1.3,
    **{case.name: 0.95 for case in GRID},
}
# How many times less temporary memory the gradient under this method must hold.
MEMORY_TARGETS = {(MEMORY[0].name, "scan(chunk=32, remat=True)"): 8.0}


def quick(cases: list[Case]) -> list[Case]:
    """The first two cases, tiny: they say that everything works, nothing of speed."""
    return [replace(c, batch=1 + i, length=40, features=8) for i, c in enumerate(cases[:2])]
