"""Reads a step: traces it as `jax.lax.scan` would and puts it in normal form.

The scan itself is traced, not only the step, so `jax.lax.scan` does the checking: of the carry's
type, of weak types, of lengths, of what varies over a mesh. What comes out is its jaxpr with one
`scan` equation, which the engine then runs in its own way.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax import lax
from jax.extend import core as jex

from jaxrnn.engine.jaxprs import Jaxpr, apply, is_var, part, shape, subjaxprs, value
from jaxrnn.engine.rewrite import Needs, Value, normalise

Step = Callable[[Any, Any], tuple[Any, Any]]


class Loop(NamedTuple):
    """A scan equation: its step and the values it runs on."""

    step: Jaxpr  # consts, carry, x -> carry, y
    num_consts: int
    num_carry: int
    length: int

    @property
    def num_ys(self) -> int:
        return len(self.step.outvars) - self.num_carry


class Traced(NamedTuple):
    """A scan, read but not yet run."""

    jaxpr: (
        jex.ClosedJaxpr
    )  # init, xs -> carry, ys; the scan and what little `lax.scan` puts around it
    loop: Loop | None  # None under `jax.disable_jit`, where JAX unrolls the scan in Python
    inputs: list[Any]
    out_tree: Any

    def run(self, execute: Callable[[Loop, Sequence[Any]], Sequence[Any]]) -> tuple[Any, Any]:
        """Runs the scan equation by `execute` and all else as it stands."""
        jaxpr = self.jaxpr.jaxpr
        env = dict(zip(jaxpr.constvars, self.jaxpr.consts, strict=True))
        env |= zip(jaxpr.invars, self.inputs, strict=True)
        for eqn in jaxpr.eqns:
            if self.loop is not None and eqn.primitive.name == "scan":
                values = [value(env, v) for v in eqn.invars]
                results = execute(self.loop, values)
            else:
                results = apply(jaxpr, eqn, env)
            env |= zip(eqn.outvars, results, strict=True)
        outs = [value(env, v) for v in jaxpr.outvars]
        return jax.tree.unflatten(self.out_tree, outs)

    def labels(self, inputs: Sequence[str], consts: Mapping[int, str]) -> list[str | None]:
        """What the loop is given, by the labels of the inputs and, by `id`, of closed-over values."""
        jaxpr = self.jaxpr.jaxpr
        closed_over = zip(jaxpr.constvars, self.jaxpr.consts, strict=True)
        known = {v: consts.get(id(c)) for v, c in closed_over}
        known |= zip(jaxpr.invars, inputs, strict=True)
        [eqn] = [e for e in jaxpr.eqns if e.primitive.name == "scan"]
        return [known.get(v) if is_var(v) else None for v in eqn.invars]

    def run_as_traced(self) -> tuple[Any, Any]:
        outs = jex.jaxpr_as_fun(self.jaxpr)(*self.inputs)
        return jax.tree.unflatten(self.out_tree, outs)


def trace(
    f: Step,
    init: Any,
    xs: Any,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
) -> Traced:
    """Traces `jax.lax.scan(f, init, xs, length, reverse, unroll)` with `f` in normal form."""

    def scan(init: Any, xs: Any) -> tuple[Any, Any]:
        return lax.scan(normal_form(f), init, xs, length, reverse, unroll)

    jaxpr, out = jax.make_jaxpr(scan, return_shape=True)(init, xs)
    loop = None
    for eqn in jaxpr.jaxpr.eqns:
        if eqn.primitive.name == "scan":
            [step] = subjaxprs(eqn)
            # Carries that never change are consts by now. What is stacked has an axis more outside.
            pairs = zip(step.outvars, eqn.outvars, strict=True)
            num_carry = sum(len(shape(v)) == len(shape(out)) for v, out in pairs)
            num_xs = len(jax.tree.leaves(xs))
            loop = Loop(
                step=part(step, [*step.constvars, *step.invars], step.outvars, step.eqns),
                num_consts=len(eqn.invars) - num_carry - num_xs,
                num_carry=num_carry,
                length=eqn.params["length"],
            )
    return Traced(jaxpr, loop, jax.tree.leaves((init, xs)), jax.tree.structure(out))


def normal_form(f: Step) -> Step:
    """The same step, which traces to a jaxpr in normal form (`engine.rewrite`)."""

    def step(carry: Any, x: Any) -> tuple[Any, Any]:
        traced, out = jax.make_jaxpr(f, return_shape=True)(carry, x)
        inputs = [Value(v, Needs.CARRY) for v in jax.tree.leaves(carry)]
        inputs += [Value(v, Needs.X) for v in jax.tree.leaves(x)]
        return jax.tree.unflatten(jax.tree.structure(out), normalise(traced, inputs))

    return step
