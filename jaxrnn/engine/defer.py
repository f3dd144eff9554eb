"""Weight gradients, taken out of the backward loop.

In the loop stands u = v·W with a weight W that never changes. Differentiated as written, every step
of the backward loop adds a W-shaped product to its carry. But in the tangent

    du = dv·W + v·dW

the second term (a *tap*) needs no tangent of the carry: it is computed for all t at once and enters
the tangent loop as an input. Transposed, that is dW = Σₜ vₜᵀ·δuₜ, one product after the backward loop.
The rule is a `custom_jvp` made of ordinary JAX, so forward mode, reverse mode, higher derivatives and
`vmap` all go through it.
"""

from collections.abc import Sequence
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from jaxrnn.engine.jaxprs import Var, evaluate, is_float, shape
from jaxrnn.engine.linearise import Inputs, linearise
from jaxrnn.engine.recurrence import Recurrence, plain
from jaxrnn.engine.taps import Tap, taps_of
from jaxrnn.engine.timewise import apply_all_times


def deferred(
    loop: Recurrence, invariant: Sequence[Any], init: Sequence[Any], xs: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """Runs the loop; the gradients of the weights it multiplies by are computed after it.

    Not where `jax.checkpoint` is the one of `jax_remat3`, which cannot be transposed as yet: the tangent
    loop needs it to compute anew what it does not keep.
    """
    if not taps_of(loop) or loop.length == 0 or getattr(jax.config, "jax_remat3", False):
        return plain(loop, invariant, init, xs)
    run = jax.custom_jvp(partial(plain, loop))
    run.defjvp(partial(_tangent_rule, loop), symbolic_zeros=True)
    return run(list(invariant), list(init), list(xs))


def _tangent_rule(loop: Recurrence, primals: Any, tangents: Any) -> Any:
    _, init, xs = primals
    all_tangents = [d for group in tangents for d in group]
    moving = {
        v: d
        for v, d in zip(loop.step.invars, all_tangents, strict=True)
        if not isinstance(d, SymbolicZero) and is_float(v)
    }
    taps = [tap for tap in taps_of(loop) if tap.weight in moving]
    wrt = Inputs.of(loop, taps, moving)
    line = linearise(loop, taps, wrt, primals)

    # The loop, which keeps what its tangent will need.
    forward = loop._replace(step=line.forward, num_invariant=len(line.invariant))
    last, kept = plain(forward, line.invariant, init, xs)
    num_ys = len(loop.step.outvars) - loop.num_carry
    stacked = dict(zip(line.kept, kept[num_ys:], strict=True)) | dict(zip(line.xs, xs, strict=True))

    # The taps, for all time steps at once.
    def tap_all(tap: Tap, variables: Sequence[Var]) -> Any:
        if tap.is_bias:  # the same at all times: stretched by the sum with a product's tangent
            return moving[tap.weight][None]
        env = {v: stacked[kept] for v, kept in zip(tap.operands, variables, strict=True)}
        env[tap.weight] = moving[tap.weight]
        [product] = apply_all_times(loop.step, tap.eqn, env, set(tap.operands))
        return product

    # Tangents that end in the same sum are one input of the tangent loop, and one output of its
    # transpose: that keeps the cotangent of the sum once, not once for each term.
    added = {v: [] for v in wrt.sums}
    for tap, variables in zip(taps, line.operands, strict=True):
        added[tap.sum].append(tap_all(tap, variables))
    for v in wrt.summed_x:
        added[wrt.sum_of(v)].append(moving[v])
    totals = [(v, reduce(jnp.add, terms)) for v, terms in added.items()]
    added = [jnp.broadcast_to(total, (loop.length, *shape(v))) for v, total in totals]

    # The tangent loop.
    d_carry = [
        moving[v] if v in moving else jnp.zeros_like(c)
        for v, c in zip(wrt.all_carry, init, strict=True)
        if is_float(v)
    ]
    small = [moving[v] for v in wrt.small]

    def push(d_carry: list[Any], x: Any) -> tuple[list[Any], list[Any]]:
        d_x, added, kept = x
        residuals = evaluate(line.recompute, *line.invariant, *kept)
        out = evaluate(line.tangent, *residuals, *d_carry, *d_x, *small, *added)
        return out[: len(d_carry)], out[len(d_carry) :]

    if line.recompute.eqns:
        # What is known to be recomputable must not be computed early, and kept after all.
        push = jax.checkpoint(push, prevent_cse=False)
    d_xs = [moving[v] for v in wrt.x]
    d_last, d_ys = loop.scan(
        push, d_carry, (d_xs, added, [stacked[v] for v in line.recompute_from])
    )
    outs = (last, kept[:num_ys])
    tangent = iter([*d_last, *d_ys])
    return outs, jax.tree.map(
        lambda v: (
            next(tangent) if is_float(jax.typeof(v)) else np.zeros(jnp.shape(v), jax.dtypes.float0)
        ),
        outs,
    )
