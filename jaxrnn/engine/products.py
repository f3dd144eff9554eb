"""The recurrent products of a step: where what the carry holds is multiplied by a weight.

    h @ R          (r * h) @ R[:, 2H:]          jnp.concatenate([x, h]) @ W

A step is read to find them, so what acts on recurrent connections (dropout of h where it meets R,
dropout of R itself) needs no word about any particular cell.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxrnn.engine.jaxprs import (
    Eqn,
    Jaxpr,
    Var,
    apply,
    dtype,
    is_float,
    is_var,
    needed,
    part,
    producers,
    reads,
    shape,
    value,
)
from jaxrnn.engine.rewrite import Needs, normal_form
from jaxrnn.engine.split import PRODUCTS, levels

Step = Callable[..., Any]  # params, carry, x -> carry, y


class Product(NamedTuple):
    eqn: Eqn
    operand: Var  # what comes from the carry
    weight: Var  # what comes from the parameters alone


class Read(NamedTuple):
    """A step in normal form, and its recurrent products."""

    jaxpr: Jaxpr  # what it closes over, params, carry, x -> carry, y
    closed_over: list[Any]
    params: list[Var]
    products: list[Product]
    outputs: Any  # the structure of carry, y

    @property
    def operands(self) -> list[Var]:
        """What is multiplied, each value once however often it is."""
        return list(dict.fromkeys(p.operand for p in self.products))


def read(step: Step, params: Any, carry: Any, x: Any) -> Read:
    """Reads a step for arguments of these types."""
    traced, out = jax.make_jaxpr(step, return_shape=True)(params, carry, x)
    whole = traced.jaxpr
    kinds = ((whole.constvars, Needs.NOTHING), (params, Needs.NOTHING))
    kinds += ((carry, Needs.CARRY), (x, Needs.X))
    needs = [need for tree, need in kinds for _ in jax.tree.leaves(tree)]
    open_ = part(whole, [*whole.constvars, *whole.invars], whole.outvars, whole.eqns)
    jaxpr, constants = normal_form(open_, needs)
    closed_over = [*constants, *traced.consts]
    invars = list(jaxpr.invars[len(closed_over) :])
    after_params = len(jax.tree.leaves(params))
    num_carry = len(jax.tree.leaves(carry))
    carried, xs = invars[after_params:][:num_carry], invars[after_params + num_carry :]
    level = levels(jaxpr.eqns, xs, carried)
    # A readout multiplies the carry too, but nothing comes back from there.
    recurrent = needed(jaxpr.eqns, jaxpr.outvars[:num_carry])
    found = [_product(e, level) for e in recurrent if e.primitive.name in PRODUCTS]
    products = [p for p in found if p is not None]
    return Read(jaxpr, closed_over, invars[:after_params], products, jax.tree.structure(out))


def _product(eqn: Eqn, level: Callable[[Var], Needs]) -> Product | None:
    for a, b in (eqn.invars, reversed(eqn.invars)):
        if is_var(a) and is_var(b) and level(a) is Needs.CARRY and level(b) is Needs.NOTHING:
            return Product(eqn, a, b)
    return None


def recurrent_operands(step: Step, params: Any, carry: Any, x: Any) -> list[jax.ShapeDtypeStruct]:
    """The types of what the carry is multiplied as, in the order of the step."""
    found = read(step, params, carry, x).operands
    return [jax.ShapeDtypeStruct(shape(v), dtype(v)) for v in found]


def recurrent_weights(step: Step, params: Any, carry: Any, x: Any) -> list[bool]:
    """For each leaf of `params`, whether it makes a weight that the carry is multiplied by."""
    step_read = read(step, params, carry, x)
    made_by = producers(step_read.jaxpr.eqns)
    seen: set[Var] = set()
    pending = [p.weight for p in step_read.products]
    while pending:
        var = pending.pop()
        if var not in seen:
            seen.add(var)
            pending += reads(made_by[var]) if var in made_by else []
    return [v in seen and is_float(v) and len(shape(v)) >= 2 for v in step_read.params]


def with_operands(step: Step, change: Callable[[int, Any], Any]) -> Step:
    """The same step, in which what the carry is multiplied as is changed, at its products only.

    `change(i, value)` gives what the i-th of `recurrent_operands` is replaced by.
    """

    def changed(params: Any, carry: Any, x: Any) -> Any:
        step_read = read(step, params, carry, x)
        jaxpr = step_read.jaxpr
        values = [*step_read.closed_over, *jax.tree.leaves((params, carry, x))]
        env = dict(zip(jaxpr.invars, values, strict=True))
        number = {v: i for i, v in enumerate(step_read.operands)}
        operand_of = {id(p.eqn): p.operand for p in step_read.products}
        replaced: dict[Var, Any] = {}
        for eqn in jaxpr.eqns:
            inputs = env
            if id(eqn) in operand_of:
                v = operand_of[id(eqn)]
                if v not in replaced:
                    replaced[v] = change(number[v], env[v])
                inputs = {**env, v: replaced[v]}
            env |= zip(eqn.outvars, apply(jaxpr, eqn, inputs), strict=True)
        outs = [value(env, v) for v in jaxpr.outvars]
        return jax.tree.unflatten(step_read.outputs, outs)

    return changed
