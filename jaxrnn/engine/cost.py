"""What an equation costs: floating-point operations and bytes, counted from its shapes."""

import math
from collections.abc import Iterable
from typing import NamedTuple

from jaxrnn.engine.jaxprs import LIGHT, Eqn, assumed, count, reads, shape, size, subjaxprs

PRODUCTS = frozenset(["dot_general", "conv_general_dilated"])
# Moves or renames elements and computes nothing.
_MOVES = LIGHT & frozenset(
    [
        "broadcast_in_dim",
        "concatenate",
        "convert_element_type",
        "copy",
        "copy_p",
        "expand_dims",
        "iota",
        "reshape",
        "rev",
        "slice",
        "split",
        "squeeze",
        "stop_gradient",
    ]
) | frozenset(["transpose", "gather", "dynamic_slice", "pvary"])


class Cost(NamedTuple):
    """Of one time step."""

    equations: int = 0
    products: int = 0
    flops: int = 0
    bytes: int = 0  # read and written, if nothing were fused

    @classmethod
    def of(cls, eqns: Iterable[Eqn]) -> "Cost":
        eqns = list(eqns)
        return cls(
            equations=len(eqns),
            products=sum(map(products, eqns)),
            flops=sum(map(flops, eqns)),
            bytes=sum(map(size, {v: None for e in eqns for v in (*reads(e), *e.outvars)})),
        )


def products(eqn: Eqn) -> int:
    if eqn.primitive.name in PRODUCTS:
        return 1
    return sum(products(e) for sub in subjaxprs(eqn) for e in sub.eqns)


def flops(eqn: Eqn) -> int:
    """2·M·N·K for a product, one for each element of anything else that computes."""
    name = eqn.primitive.name
    if name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        sizes = assumed(shape(eqn.invars[0]))
        return 2 * count(eqn.outvars[0]) * math.prod(sizes[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel, features = eqn.invars[1], eqn.params["dimension_numbers"].rhs_spec[0]
        return 2 * count(eqn.outvars[0]) * count(kernel) // assumed(shape(kernel))[features]
    if inner := subjaxprs(eqn):
        each = [sum(map(flops, sub.eqns)) for sub in inner]
        # Of the branches of a cond one runs; a nested scan runs its length.
        return max(each) if name == "cond" else sum(each) * eqn.params.get("length", 1)
    return 0 if name in _MOVES else sum(map(count, eqn.outvars))
