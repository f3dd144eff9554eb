"""Equations on arrays whose batch axis lies last: which axis each parameter then names.

A value [B, F] is held as an array [F, B]. For each primitive here a rule binds it to such arrays,
with its parameters permuted to match, and says which axis of the result is the batch. Nothing but
names of axes changes, so a rule is exact. A rule gives None for what it does not cover.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from jax import lax

from jaxrnn.engine.jaxprs import Eqn, shape
from jaxrnn.engine.structure import ELEMENTWISE


def order(ndim: int, batch: int | None) -> list[int]:
    """The axes of a value in the order in which its array has them: the batch last."""
    axes = [axis for axis in range(ndim) if axis != batch]
    return axes if batch is None else [*axes, batch]


def transposed(array: Any, perm: Sequence[int]) -> Any:
    return array if list(perm) == sorted(perm) else lax.transpose(array, perm)


class Laid(NamedTuple):
    """An array, and which axis of the value it stands for it has last; None: it is as the value."""

    array: Any
    batch: int | None = None

    @property
    def order(self) -> list[int]:
        return order(self.array.ndim, self.batch)

    def place(self, axis: int) -> int:
        """Where the array has an axis of the value."""
        return self.order.index(axis)

    def with_last(self, batch: int | None) -> "Laid":
        """The same value, with another of its axes last."""
        perm = [self.place(axis) for axis in order(self.array.ndim, batch)]
        return Laid(transposed(self.array, perm), batch)


def translate(eqn: Eqn, operands: Sequence[Laid]) -> list[Laid] | None:
    """The results of an equation on arrays as they lie; None if its axes cannot be followed."""
    if eqn.params.get("sharding") is not None or eqn.params.get("out_sharding") is not None:
        return None
    name = eqn.primitive.name
    rule = _elementwise if name in _POINTWISE else _RULES.get(name)
    return None if rule is None else rule(eqn, operands)


def _bind(eqn: Eqn, batch: int | None, *arrays: Any, **changed: Any) -> list[Laid]:
    out = eqn.primitive.bind(*arrays, **{**eqn.params, **changed})
    return [Laid(a, batch) for a in (out if eqn.primitive.multiple_results else [out])]


_POINTWISE = ELEMENTWISE | {
    "add",
    "add_any",
    "convert_element_type",
    "copy",
    "copy_p",
    "div",
    "mul",
    "neg",
    "pcast",
    "pvary",
    "select_n",
    "sub",
}


def _aligned(operands: Sequence[Laid], ndim: int) -> tuple[int, list[Any]]:
    """The operands with one and the same axis last; scalars as they are."""
    [batch, *_] = [v.batch for v in operands if v.batch is not None and v.array.ndim == ndim]
    return batch, [v.with_last(batch).array if v.array.ndim else v.array for v in operands]


def _elementwise(eqn: Eqn, operands: Sequence[Laid]) -> list[Laid]:
    batch, arrays = _aligned(operands, len(shape(eqn.outvars[0])))
    return _bind(eqn, batch, *arrays)


def _concatenate(eqn: Eqn, operands: Sequence[Laid]) -> list[Laid]:
    batch, arrays = _aligned(operands, len(shape(eqn.outvars[0])))
    at = order(arrays[0].ndim, batch).index(eqn.params["dimension"])
    return _bind(eqn, batch, *arrays, dimension=at)


def _dot_general(eqn: Eqn, operands: Sequence[Laid]) -> list[Laid] | None:
    """A weight times a value: what is contracted lies last in the one, the batch in the other."""
    contracting, stacked = eqn.params["dimension_numbers"]
    [side, *others] = [i for i, v in enumerate(operands) if v.batch is not None]
    rows, weight = operands[side], operands[1 - side]
    if others or stacked[0] or rows.batch is None or rows.batch in contracting[side]:
        return None
    over = contracting[1 - side]
    free = [axis for axis in range(weight.array.ndim) if axis not in over]
    turned = transposed(weight.array, [*free, *over])
    dims = (
        (tuple(range(len(free), turned.ndim)), tuple(map(rows.place, contracting[side]))),
        ((), ()),
    )
    [out] = _bind(eqn, None, turned, rows.array, dimension_numbers=dims)
    kept = rows.array.ndim - len(over)  # axes of the result that come from the rows
    before = sum(axis not in contracting[side] for axis in range(rows.batch))
    if side == 1:
        return [Laid(out.array, len(free) + before)]
    n = len(free)  # the rows' own axes come first in the value, the batch stays last
    array = transposed(out.array, [*range(n, n + kept - 1), *range(n), n + kept - 1])
    return [Laid(array, before)]


def _broadcast_in_dim(eqn: Eqn, operands: Sequence[Laid]) -> list[Laid]:
    [x], dims, sizes = operands, eqn.params["broadcast_dimensions"], eqn.params["shape"]
    axes = order(len(sizes), dims[x.batch])
    return _bind(
        eqn,
        dims[x.batch],
        x.array,
        shape=tuple(sizes[axis] for axis in axes),
        broadcast_dimensions=tuple(axes.index(dims[axis]) for axis in x.order),
    )


def _reshape(eqn: Eqn, operands: Sequence[Laid]) -> list[Laid] | None:
    """A reshape of what stands before the batch and of what stands after it."""
    [x], old, new = operands, shape(eqn.invars[0]), eqn.params["new_sizes"]
    if x.batch is None:
        return None
    for axis, size in enumerate(new):
        if size == old[x.batch] and math.prod(new[:axis]) == math.prod(old[: x.batch]):
            sizes = tuple(new[i] for i in order(len(new), axis))
            return _bind(eqn, axis, x.array, new_sizes=sizes)
    return None


def _transpose(eqn: Eqn, operands: Sequence[Laid]) -> list[Laid]:
    [x], perm = operands, eqn.params["permutation"]
    batch = perm.index(x.batch)
    places = [x.place(perm[axis]) for axis in order(len(perm), batch)]
    return [Laid(transposed(x.array, places), batch)]


def _without(eqn: Eqn, operands: Sequence[Laid], name: str) -> list[Laid]:
    """A value less some of its axes; without its batch it is as it is."""
    [x], gone = operands, eqn.params[name]
    batch = x.batch
    if batch is not None:
        batch = None if batch in gone else batch - sum(axis < batch for axis in gone)
    return _bind(eqn, batch, x.array, **{name: tuple(sorted(map(x.place, gone)))})


def _named(eqn: Eqn, operands: Sequence[Laid], name: str) -> list[Laid]:
    """What keeps the axes of its first operand and has a parameter for one or some of them."""
    x, *rest = operands
    given = eqn.params[name]
    at = tuple(map(x.place, given)) if isinstance(given, tuple) else x.place(given)
    return _bind(eqn, x.batch, x.array, *(v.array for v in rest), **{name: at})


def _per_axis(eqn: Eqn, operands: Sequence[Laid], names: Sequence[str]) -> list[Laid] | None:
    """What keeps the axes of its first operand and has parameters for each of them."""
    x, *rest = operands
    if x.batch is None:
        return None
    given = {name: eqn.params[name] for name in names if eqn.params[name] is not None}
    changed = {name: tuple(each[axis] for axis in x.order) for name, each in given.items()}
    return _bind(eqn, x.batch, x.array, *(v.array for v in rest), **changed)


_REDUCTIONS = ("sum", "max", "min", "prod", "and", "or")
_RULES: dict[str, Callable[[Eqn, Sequence[Laid]], list[Laid] | None]] = {
    "broadcast_in_dim": _broadcast_in_dim,
    "concatenate": _concatenate,
    "dot_general": _dot_general,
    "pad": partial(_per_axis, names=("padding_config",)),
    "reshape": _reshape,
    "rev": partial(_named, name="dimensions"),
    "slice": partial(_per_axis, names=("start_indices", "limit_indices", "strides")),
    "split": partial(_named, name="axis"),
    "squeeze": partial(_without, name="dimensions"),
    "transpose": _transpose,
    **{f"reduce_{kind}": partial(_without, name="axes") for kind in _REDUCTIONS},
}
