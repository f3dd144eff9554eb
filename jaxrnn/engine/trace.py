"""Reads a step: traces it as `jax.lax.scan` does and puts it in normal form.

The scan itself is traced, not only the step, so `jax.lax.scan` does the checking, and says what is
wrong in its own words: of the carry's type, of weak types, of lengths, of what varies over a mesh. What
comes out is its jaxpr with one `scan` equation, which the engine then runs in its own way.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
from jax import core, lax
from jax.extend import core as jex
from jax.extend.core import primitives

from jaxrnn.engine.jaxprs import (
    Eqn,
    Jaxpr,
    Var,
    apply,
    dtype,
    is_var,
    part,
    shape,
    subjaxprs,
    value,
)
from jaxrnn.engine.recurrence import steps_of
from jaxrnn.engine.rewrite import Needs, normal_form
from jaxrnn.engine.split import Parts, split

Step = Callable[[Any, Any], tuple[Any, Any]]


@dataclass(frozen=True, eq=False)
class Loop:
    """A scan equation: its step and how many times it runs."""

    step: Jaxpr  # consts, carry, x -> carry, y
    num_consts: int
    num_carry: int
    length: int

    @cached_property
    def parts(self) -> Parts:
        """The step taken apart: what runs once, before, during and after the loop."""
        return split(self.step, self.num_consts, self.num_carry)

    @cached_property
    def unhoisted(self) -> Parts:
        """The step taken apart, with all that needs x or the carry left in the loop."""
        return split(self.step, self.num_consts, self.num_carry, hoist=False)


class Traced(NamedTuple):
    """A scan, read but not yet run."""

    jaxpr: (
        jex.ClosedJaxpr
    )  # init, xs -> carry, ys; the scan and what little `lax.scan` puts around it
    loop: Loop | None  # None where there is none that the engine may take apart
    constants: list[Any]  # of the loop's consts those that functions called by the step close over
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
                results = execute(self.loop, [*self.constants, *values])
                results = map(_as_weak, eqn.outvars, results)
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
        given = [known.get(v) if is_var(v) else None for v in eqn.invars]
        return [*(consts.get(id(c)) for c in self.constants), *given]

    @property
    def values(self) -> list[Any]:
        """All that a run depends on: what the step closes over, the first carry and xs."""
        return [*self.jaxpr.consts, *self.constants, *self.inputs]

    def given(self, values: Sequence[Any]) -> "Traced":
        """The same scan of other values of the same types."""
        n, m = len(self.jaxpr.consts), len(self.jaxpr.consts) + len(self.constants)
        return self._replace(
            jaxpr=jex.ClosedJaxpr(self.jaxpr.jaxpr, list(values[:n])),
            constants=list(values[n:m]),
            inputs=list(values[m:]),
        )

    def run_as_traced(self, unroll: int | bool | None = None) -> tuple[Any, Any]:
        """Leaves the scan to JAX; `unroll` as in `jax.lax.scan`, None as it was traced."""
        closed = self.jaxpr
        if unroll is not None:
            eqns = [_unrolled(eqn, unroll) for eqn in closed.jaxpr.eqns]
            closed = jex.ClosedJaxpr(closed.jaxpr.replace(eqns=eqns), closed.consts)
        outs = jex.jaxpr_as_fun(closed)(*self.inputs)
        return jax.tree.unflatten(self.out_tree, outs)


def trace(
    f: Step,
    init: Any,
    xs: Any,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
) -> Traced:
    """Traces `jax.lax.scan(f, init, xs, length, reverse, unroll)` and puts its step in normal form."""

    def scan(init: Any, xs: Any) -> tuple[Any, Any]:
        return lax.scan(f, init, xs, length, reverse, unroll)

    jaxpr, out = jax.make_jaxpr(scan, return_shape=True)(init, xs)
    inputs, out_tree = jax.tree.leaves((init, xs)), jax.tree.structure(out)
    scans = [eqn for eqn in jaxpr.jaxpr.eqns if eqn.primitive.name == "scan"]
    # Under `jax.disable_jit` JAX unrolls the scan in Python.
    if len(scans) != 1 or not _is_of_arrays(scans[0]):
        return Traced(jaxpr, None, [], inputs, out_tree)
    [eqn], [step] = scans, subjaxprs(scans[0])
    num_xs = len(jax.tree.leaves(xs))
    # Carries that never change are consts by now. What is stacked has an axis more outside.
    pairs = zip(step.outvars, eqn.outvars, strict=True)
    num_carry = sum(len(shape(v)) == len(shape(out)) for v, out in pairs)
    num_consts = len(eqn.invars) - num_carry - num_xs
    step = part(step, [*step.constvars, *step.invars], step.outvars, step.eqns)
    constants: list[Any] = []
    if not step.effects:  # the engine moves equations, and no effects
        kinds = (Needs.NOTHING,) * num_consts + (Needs.CARRY,) * num_carry + (Needs.X,) * num_xs
        step, constants = normal_form(step, kinds)
    loop = Loop(step, num_consts + len(constants), num_carry, eqn.params["length"])
    return Traced(jaxpr, loop, constants, inputs, out_tree)


def _unrolled(eqn: Eqn, unroll: int | bool) -> Eqn:
    if eqn.primitive is not primitives.scan_p:
        return eqn
    steps = steps_of(unroll, eqn.params["length"])
    return eqn.replace(params={**eqn.params, "unroll": steps})


def _as_weak(v: Var, result: Any) -> Any:
    """A result of a weak type, as constants of Python have, where the scan gives one."""
    if not getattr(v.aval, "weak_type", False) or jax.typeof(result).weak_type:
        return result
    weak = {"new_dtype": dtype(v), "weak_type": True, "sharding": None}
    return primitives.convert_element_type_p.bind(result, **weak)


def _is_of_arrays(scan: Eqn) -> bool:
    """Whether all values of a scan are arrays: JAX has other types too, and knows how to scan them."""
    [step] = subjaxprs(scan)
    atoms = [*scan.invars, *step.invars, *(v for eqn in step.eqns for v in eqn.outvars)]
    return all(isinstance(v.aval, core.ShapedArray) for v in atoms)
