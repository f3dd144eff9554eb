"""The linear recurrence as a primitive of its own: what every method that is parallel in time solves.

    hₜ = aₜ ∘ hₜ₋₁ + bₜ        a diagonal, or
    hₜ = Aₜ · hₜ₋₁ + bₜ        a matrix for each time step

It is linear in b and h₀, and its derivative in a is the same recurrence with another b. So its tangent
and its transpose are linear recurrences again, of the same a, one of them running backwards: no
derivative of any order keeps more than a and h, and each takes as many steps as the recurrence itself.
"""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core as jex
from jax.interpreters import ad, batching, mlir
from jax.sharding import NamedSharding, PartitionSpec

from jaxrnn.engine import meshes
from jaxrnn.engine.prefix import DEFAULT, Way, solve, times


def linear_recurrence(
    a: Any, b: Any, h0: Any, *, matrix: bool = False, reverse: bool = False, way: Way = DEFAULT
) -> Any:
    """Solves hₜ = aₜ · hₜ₋₁ + bₜ for all t.

    Args:
      a: [T, *S] (a diagonal), or with `matrix` [T, *S, N, N]. A size of 1 stands for any: [1, *S] is
        an a that never changes.
      b: [T, *S], with `matrix` [T, *S, N].
      h0: [*S], with `matrix` [*S, N]: what comes before the first step; after the last if `reverse`.
      way: how to solve it.

    Returns:
      h, as b. Where a is 0, what was before is dropped, NaN too.
    """
    dtype = jnp.result_type(a, b, h0)
    a, b, h0 = _varying_alike(*(jnp.asarray(v, dtype) for v in (a, b, h0)))
    if way.mesh is not None and not meshes.is_set():
        # JAX looks for the devices of a program in its equations, and not in what they are lowered to.
        anyhow = NamedSharding(way.mesh, PartitionSpec(*[PartitionSpec.UNCONSTRAINED] * h0.ndim))
        h0 = lax.with_sharding_constraint(h0, anyhow)
    return linear_recurrence_p.bind(a, b, h0, matrix=matrix, reverse=reverse, way=way)


def _varying_alike(*values: Any) -> list[Any]:
    """Inside `jax.shard_map`, values that vary over the same mesh axes: those of all of them."""
    nothing = sum(jnp.zeros_like(v, shape=()) for v in values)
    return [v + nothing for v in values]


def before(h: Any, h0: Any, reverse: bool) -> Any:
    """hₜ₋₁ for each t: what each step starts from."""
    ends = [h0[None], h[:-1]] if not reverse else [h[1:], h0[None]]
    return jnp.concatenate(ends)


linear_recurrence_p = jex.Primitive("linear_recurrence")
linear_recurrence_p.def_abstract_eval(lambda _a, b, _h0, **_: b)


@cache
def _compiled(matrix: bool, reverse: bool, way: Way) -> Any:
    return jax.jit(partial(solve, matrix=matrix, reverse=reverse, way=way))


@linear_recurrence_p.def_impl
def _run(a: Any, b: Any, h0: Any, **settings: Any) -> Any:
    return _compiled(**settings)(a, b, h0)


def _tangent(primals: Any, tangents: Any, **settings: Any) -> Any:
    a, _, h0 = primals
    da, db, dh0 = tangents
    h = linear_recurrence_p.bind(*primals, **settings)
    if all(isinstance(d, ad.Zero) for d in tangents):
        return h, ad.Zero(jax.typeof(h).to_tangent_aval())
    if not isinstance(da, ad.Zero):
        old = before(h, h0, settings["reverse"])
        # What a 0 has dropped, though it be NaN, has no influence.
        old = jnp.where(jnp.isfinite(old), old, jnp.zeros_like(old))
        through_a = times(da, old, settings["matrix"])
        db = through_a if isinstance(db, ad.Zero) else db + through_a
    db, dh0 = ad.instantiate_zeros(db), ad.instantiate_zeros(dh0)
    return h, linear_recurrence_p.bind(a, db, dh0, **settings)


def _transpose(ct: Any, a: Any, b: Any, h0: Any, *, matrix: bool, reverse: bool, way: Way) -> Any:
    """λₜ = aᵀₜ₊₁ · λₜ₊₁ + δhₜ: the recurrence backwards, whose a is one step late."""
    if isinstance(ct, ad.Zero):
        return None, *(ad.Zero(v.aval) if ad.is_undefined_primal(v) else None for v in (b, h0))
    turned = jnp.swapaxes(a, -1, -2) if matrix else a
    if a.shape[0] == 1:
        late, edge = turned, turned[0]
    elif reverse:
        late, edge = jnp.concatenate([turned[:1], turned[:-1]]), turned[-1]
    else:
        late, edge = jnp.concatenate([turned[1:], turned[-1:]]), turned[0]
    settings = {"matrix": matrix, "reverse": not reverse, "way": way}
    ct_b = linear_recurrence_p.bind(late, ct, jnp.zeros_like(ct[0]), **settings)
    ct_h0 = times(edge, ct_b[-1 if reverse else 0], matrix)
    return None, ct_b, ct_h0


def _batched(args: Any, axes: Any, *, matrix: bool, reverse: bool, way: Way) -> Any:
    """Another axis after time; an a without it has it with size 1."""
    size = next(v.shape[axis] for v, axis in zip(args, axes, strict=True) if axis is not None)

    def moved(value: Any, axis: int | None, to: int, count: int) -> Any:
        if axis is not None:
            return jnp.moveaxis(value, axis, to)
        value = jnp.expand_dims(value, to)
        return jnp.broadcast_to(value, (*value.shape[:to], count, *value.shape[to + 1 :]))

    a, b, h0 = (
        moved(v, x, to, n)
        for v, x, to, n in zip(args, axes, (1, 1, 0), (1, size, size), strict=True)
    )
    return linear_recurrence_p.bind(a, b, h0, matrix=matrix, reverse=reverse, way=way), 1


ad.primitive_jvps[linear_recurrence_p] = _tangent
ad.primitive_transposes[linear_recurrence_p] = _transpose
batching.primitive_batchers[linear_recurrence_p] = _batched
mlir.register_lowering(linear_recurrence_p, mlir.lower_fun(solve, multiple_results=False))
