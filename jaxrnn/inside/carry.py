"""What happens to the carry between two steps: kept, slowed, clipped, learned."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.core import Cell
from jaxrnn.inside import parts
from jaxrnn.origin import factory


@factory
def zoneout(cell: Cell, rate: Any) -> Cell:
    """Keeps each unit of the carry as it was with probability `rate`.

        cₜ = m ∘ cₜ₋₁ + (1 − m) ∘ c̃ₜ          m ~ Bernoulli(rate), anew at each step
        cₜ = rate · cₜ₋₁ + (1 − rate) · c̃ₜ    without a key: the expectation over m

    where c̃ₜ is a leaf of the carry that `cell` makes. An output that is a carry leaf (y = h) is
    zoned out with it.

    Args:
      cell: the cell inside.
      rate: of each float leaf of the carry, 0 <= rate < 1; a number, or a tree like the carry with
        None for "not here": LSTMCarry(h=0.05, c=0.5). May be traced.

    Raises:
      ValueError: if a rate is not in [0, 1), or the tree is not like the carry.

    Reference: Krueger et al., Zoneout: regularizing RNNs by randomly preserving hidden activations,
    2016, arXiv:1606.01305.
    """
    parts.check_rate("zoneout", rate)

    def step(params, carry, x, key=None):
        own, inner = parts.split_key(key)
        after, y = cell.step(params, carry, x, *inner)

        def mix(rate, i, old, new):
            if own is None:
                r = jnp.asarray(rate, new.dtype)
                return r * old + (1 - r) * new
            kept = jax.random.bernoulli(jax.random.fold_in(own, i), rate, new.shape)
            return jnp.where(kept, old, new)

        return parts.change(mix, parts.leafwise("zoneout's rate", rate, after), carry, after, y)

    return parts.derived(cell, name=f"zoneout({cell}, {parts.shown(rate)})", step=step)


@factory
def leaky(cell: Cell, time_constant: Any) -> Cell:
    """Slows the carry down: a leaky integrator of what the cell makes.

        cₜ = cₜ₋₁ + (c̃ₜ − cₜ₋₁) / τ

    the Euler step of τ ċ = c̃ − c. An output that is a carry leaf follows it.

    Args:
      cell: the cell inside.
      time_constant: τ in steps, τ >= 1 for a stable mean; a number, an array [H] with one for each
        unit, or a tree of them like the carry, None for "not here". May be traced.

    Raises:
      ValueError: if a time constant is not positive, or the tree is not like the carry.

    Reference: Jaeger et al., Optimization and applications of echo state networks with
    leaky-integrator neurons, Neural Networks 20, 2007.
    """
    parts.check_positive("leaky", "a time_constant", time_constant)

    def step(params, carry, x, *key):
        after, y = cell.step(params, carry, x, *key)

        def integrate(tau, i, old, new):
            del i
            tau = jnp.asarray(tau, new.dtype)
            return old + (new - old) / jnp.expand_dims(tau, range(new.ndim - tau.ndim))

        constants = parts.leafwise("leaky's time_constant", time_constant, after)
        return parts.change(integrate, constants, carry, after, y)

    return parts.derived(cell, name=f"leaky({cell}, {parts.shown(time_constant)})", step=step)


@factory
def clip_carry(cell: Cell, limit: Any) -> Cell:
    """Clips the carry to [−limit, limit].

        cₜ = min(max(c̃ₜ, −limit), limit)

    An output that is a carry leaf is clipped with it.

    Args:
      cell: the cell inside.
      limit: of each float leaf of the carry, positive; a number, or a tree like the carry with None
        for "not here": LSTMCarry(h=None, c=10.0). May be traced.

    Raises:
      ValueError: if a limit is not positive, or the tree is not like the carry.

    Reference: `cell_clip` of Sak, Senior & Beaufays, Long short-term memory based recurrent neural
    network architectures for large vocabulary speech recognition, 2014, arXiv:1402.1128.
    """
    parts.check_positive("clip_carry", "a limit", limit)

    def step(params, carry, x, *key):
        after, y = cell.step(params, carry, x, *key)

        def clip(limit, i, old, new):
            del i, old
            limit = jnp.asarray(limit, new.dtype)
            return jnp.clip(new, -limit, limit)

        constants = parts.leafwise("clip_carry's limit", limit, after)
        return parts.change(clip, constants, carry, after, y)

    return parts.derived(cell, name=f"clip_carry({cell}, {parts.shown(limit)})", step=step)


class LearnedCarry(NamedTuple):
    cell: Any
    carry: Any  # one row of the carry: its leaves without batch axes, None for those that are no floats


@factory
def learned_carry(cell: Cell, *, feature_axes: int = 1) -> Cell:
    """Makes the carry before the first step a parameter, the same for every row.

        c₀ = θ

    It starts at the cell's own carry, and receives gradient at the start and at every reset.

    Args:
      cell: the cell inside.
      feature_axes: how many of the last axes of a carry leaf are features; the others are the batch.

    Raises:
      ValueError: if `feature_axes` is not a number of axes.

    Reference: Forcada & Carrasco, Learning the initial state of a second-order recurrent neural
    network during regular-language inference, Neural Computation 7, 1995.
    """
    if not isinstance(feature_axes, int) or feature_axes < 0:
        raise ValueError(f"learned_carry() needs feature_axes >= 0, got {feature_axes!r}")

    def init(key, x):
        params = cell.init(key, x)
        # x may be a shape alone, and its batch may be empty: what is learned is one row.
        some = jax.tree.map(lambda a: jnp.zeros([max(n, 1) for n in a.shape], a.dtype), x)
        own = cell.carry(params, some)
        return LearnedCarry(params, jax.tree.map(row, own))

    def row(leaf):
        features = leaf.shape[leaf.ndim - feature_axes :]
        return leaf.reshape(-1, *features)[0] if parts.is_float(leaf) else None

    def carry(params, x):
        leaves, tree = jax.tree.flatten(cell.carry(params.cell, x))
        learned = iter(jax.tree.leaves(params.carry))
        # Added to zeros of the cell's own, it varies over the mesh axes that x varies over.
        return tree.unflatten(
            [
                jnp.zeros_like(leaf)
                + jnp.broadcast_to(next(learned).astype(leaf.dtype), leaf.shape)
                if parts.is_float(leaf)
                else leaf
                for leaf in leaves
            ]
        )

    def step(params, carry, x, *key):
        return cell.step(params.cell, carry, x, *key)

    return parts.wrap(cell, name=f"learned_carry({cell})", init=init, carry=carry, step=step)
