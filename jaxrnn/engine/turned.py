"""Products W · v with a weight on the left, as a feature-major loop has them, and their derivative.

Differentiated as it stands, W · v is transposed to Wᵀ · δ with W still lying the other way, for which
XLA:CPU has no fast kernel: ten times slower at W[2048, 512], v[512, 8]. So the derivative reads a
transposed copy of the weight, which the loop keeps beside it. The barrier keeps XLA from undoing
that: (dvᵀ · Wᵀ)ᵀ is as fast as the product of rows it is, and its transpose Wᵀ · δ is fast too.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
from jax import lax
from jax.custom_derivatives import SymbolicZero

from jaxrnn.engine.jaxprs import Eqn, Jaxpr, Var, apply, is_float, is_var, shape, value, written_at

_WEIGHT_LEFT = (((1,), (0,)), ((), ()))


def evaluate_products(jaxpr: Jaxpr, *values: Any) -> list[Any]:
    """As `evaluate`, its products by `apply_product`."""
    env = dict(zip(jaxpr.invars, values, strict=True))
    for eqn in jaxpr.eqns:
        env |= zip(eqn.outvars, apply_product(jaxpr, eqn, env), strict=True)
    return [value(env, v) for v in jaxpr.outvars]


def apply_product(jaxpr: Jaxpr, eqn: Eqn, env: Mapping[Var, Any]) -> list[Any]:
    """Runs an equation; a product with a matrix on the left gets the derivative made for it."""
    if not is_turned(eqn):
        return apply(jaxpr, eqn, env)
    bind = partial(eqn.primitive.bind, **eqn.params)
    product = jax.custom_jvp(bind)

    def rule(primals: Any, tangents: Any) -> Any:
        (weight, rows), (d_weight, d_rows) = primals, tangents
        terms = []
        if not isinstance(d_rows, SymbolicZero):
            both_first = (((0,), (0,)), ((), ()))
            turned = bind(d_rows, weight.T, dimension_numbers=both_first)
            terms.append(lax.optimization_barrier(turned).T)
        if not isinstance(d_weight, SymbolicZero):
            terms.append(product(d_weight, rows))
        return product(weight, rows), sum(terms[1:], start=terms[0])

    product.defjvp(rule, symbolic_zeros=True)
    with written_at(eqn):
        return [product(*(value(env, v) for v in eqn.invars))]


def is_turned(eqn: Eqn) -> bool:
    """On a CPU only: elsewhere a product reads its weight in either direction."""
    return (
        eqn.primitive.name == "dot_general"
        and jax.default_backend() == "cpu"
        and eqn.params["dimension_numbers"] == _WEIGHT_LEFT
        and eqn.params.get("out_sharding") is None
        and all(is_var(v) and is_float(v) and len(shape(v)) == 2 for v in eqn.invars)
    )
