"""Whether the rows of a carry live apart: then its Jacobian is one block for each of them."""

import jax
import jax.numpy as jnp

from jaxrnn.engine.axes import Laid, translate
from jaxrnn.engine.jaxprs import Eqn, apply, dtype, is_var, reads, shape, value
from jaxrnn.engine.recurrence import Recurrence


def rows_of(loop: Recurrence) -> int | None:
    """The length of the first axis of all carry leaves, if no row of the next carry sees another row.

    None if there is no such axis, or if an equation stands in the way that is not understood.
    """
    step, n, m = loop.step, loop.num_invariant, loop.num_carry
    carry, new = step.invars[n : n + m], step.outvars[:m]
    counts = {shape(v)[:1] for v in carry}
    if len(counts) != 1 or counts == {()}:
        return None
    apart: list[bool] = []

    def walk(*values: jax.Array) -> list[jax.Array]:
        env = {
            v: Laid(jnp.moveaxis(array, 0, -1), 0) if v in carry else Laid(array)
            for v, array in zip(step.invars, values, strict=True)
        }
        for eqn in step.eqns:
            operands = [
                env[v] if is_var(v) else Laid(jnp.asarray(value(env, v), dtype(v)))
                for v in eqn.invars
            ]
            found = {v.batch for v in operands if v.batch is not None}
            results = None
            if len(found) == 1 and not _moves_rows(eqn, *found):
                results = translate(eqn, operands)
            if results is None or any(r.batch is None for r in results):
                apart.append(not found)
                inputs = {v: env[v].with_last(None).array for v in reads(eqn)}
                results = [Laid(array) for array in apply(step, eqn, inputs)]
            env |= zip(eqn.outvars, results, strict=True)
        ends = [env[v].batch if is_var(v) and v in env else None for v in new]
        apart.extend(end in (0, None) for end in ends)
        return []

    jax.eval_shape(walk, *(jax.ShapeDtypeStruct(shape(v), dtype(v)) for v in step.invars))
    [(count, *_)] = counts
    return count if all(apart) else None


def _moves_rows(eqn: Eqn, axis: int) -> bool:
    """Whether an equation, of which only the names of axes are known to be in order, shifts rows."""
    params, size = eqn.params, max(shape(v)[axis] for v in eqn.invars if len(shape(v)) > axis)
    moves = {
        "concatenate": lambda: params["dimension"] == axis,
        "pad": lambda: params["padding_config"][axis] != (0, 0, 0),
        "rev": lambda: axis in params["dimensions"],
        "slice": lambda: params["limit_indices"][axis] - params["start_indices"][axis] != size,
        "split": lambda: params["axis"] == axis,
        "broadcast_in_dim": lambda: params["shape"][params["broadcast_dimensions"][axis]] != size,
    }
    return bool(moves.get(eqn.primitive.name, lambda: False)())
