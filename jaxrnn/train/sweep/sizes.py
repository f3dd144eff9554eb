"""The sizes that decide how to run a sweep, read from the program of one update."""

import math
from collections.abc import Iterator
from typing import NamedTuple

from jaxrnn.engine.cost import flops
from jaxrnn.engine.jaxprs import Eqn, Jaxpr, count, is_var, shape, size, subjaxprs

# XLA's CPU runtime runs these on a worker of the pool whose other workers they then wait for. Batched,
# several at a time can wait for each other for ever (JAX 0.10.2: `vmap` of four QRs, two cores).
BLOCKING = frozenset(
    [
        "cholesky",
        "eig",
        "eigh",
        "fft",
        "hessenberg",
        "householder_product",
        "lu",
        "qr",
        "schur",
        "svd",
        "triangular_solve",
        "tridiagonal",
    ]
)


class Product(NamedTuple):
    """A product of matrices [rows, k]·[k, columns]."""

    rows: int
    k: int
    columns: int

    @property
    def flops(self) -> int:
        return 2 * self.rows * self.k * self.columns

    def __str__(self) -> str:
        return f"[{self.rows}, {self.k}]·[{self.k}, {self.columns}]"


def heaviest(jaxpr: Jaxpr) -> Product | None:
    """The product that most work goes into: of those in a loop over time, if there are any."""
    found = list(_products(jaxpr, 1, False))
    looped = [(work, product) for work, product, loop in found if loop]
    candidates = looped or [(work, product) for work, product, _ in found]
    return max(candidates, key=lambda c: c[0])[1] if candidates else None


def _products(jaxpr: Jaxpr, times: int, loop: bool) -> Iterator[tuple[int, Product, bool]]:
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            yield times * flops(eqn), _product(eqn), loop
        # How often a `while` runs cannot be read; a scan says it.
        inside = loop or eqn.primitive.name in ("scan", "while")
        for sub in subjaxprs(eqn):
            yield from _products(sub, times * eqn.params.get("length", 1), inside)


def _product(eqn: Eqn) -> Product:
    (contracted, _), (batch, _) = eqn.params["dimension_numbers"]
    left = shape(eqn.invars[0])
    k = math.prod(left[axis] for axis in contracted)
    each = math.prod(left[axis] for axis in batch)
    rows = math.prod(left) // max(1, k * each)
    return Product(rows, k, count(eqn.outvars[0]) // max(1, rows * each))


def blocking(jaxpr: Jaxpr) -> str | None:
    """The name of an equation that may wait for ever where it is batched, if there is one."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name in BLOCKING:
            return eqn.primitive.name
        for sub in subjaxprs(eqn):
            if (found := blocking(sub)) is not None:
                return found
    return None


def peak_bytes(jaxpr: Jaxpr) -> int:
    """At most so much is alive at once beside the inputs, if nothing is fused."""
    last = {v: i for i, eqn in enumerate(jaxpr.eqns) for v in eqn.invars if is_var(v)}
    last |= {v: len(jaxpr.eqns) for v in jaxpr.outvars if is_var(v)}
    ending: dict[int, int] = {}
    alive = peak = 0
    for i, eqn in enumerate(jaxpr.eqns):
        made = [v for v in eqn.outvars if v in last]
        alive += sum(map(size, made))
        for v in made:
            ending[last[v]] = ending.get(last[v], 0) + size(v)
        peak = max(peak, alive + max(map(peak_bytes, subjaxprs(eqn)), default=0))
        alive -= ending.get(i, 0)
    return peak
