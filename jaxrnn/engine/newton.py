"""Newton's method over time: the states of all time steps are one unknown.

    sₜ = f(sₜ₋₁)

is solved by

    sₜ ← Jₜ · sₜ₋₁ + (f(s̃ₜ₋₁) − Jₜ · s̃ₜ₋₁)        s̃ the guess before, Jₜ = f′(s̃ₜ₋₁)

a linear recurrence for each iteration. After i iterations the first i states are exact; where the
recurrence forgets, far fewer iterations are enough for all. Where it does not, the products of Jacobians
explode on the way: they are damped by a factor k ≤ 1, which is halved while the residual grows, and an
iteration that overflows is not taken. k = 0 is plain iteration of f.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from jaxrnn.engine.linear import before, linear_recurrence
from jaxrnn.engine.prefix import Way, times
from jaxrnn.engine.trajectory import Dynamics, step_by_step


class Newton(NamedTuple):
    """When to stop, and how to solve what is linear."""

    tolerance: float | None
    max_iterations: int
    way: Way

    def tolerance_of(self, dtype: Any) -> float:
        """That of the dtype if none is given: 1.4e-5 in float32, 1.1e-11 in float64."""
        return float(jnp.finfo(dtype).eps) ** 0.7 if self.tolerance is None else self.tolerance


class Solution(NamedTuple):
    """What the iteration came to: states [T, ...] and how well they obey the recurrence."""

    states: Any
    iterations: Any
    residual: Any  # max |sₜ − f(sₜ₋₁)| / (1 + |sₜ|)


def iterate(newton: Newton, dynamics: Dynamics, inputs: Sequence[Any], start: Any) -> Solution:
    """Iterates until every state is the next of the one before, to within the tolerance."""
    reverse, matrix = dynamics.loop.reverse, dynamics.frame.matrix
    tolerance = newton.tolerance_of(start.dtype)
    # With an exact Jacobian a residual that grows a little has often been on its way to convergence.
    patience = 1 if dynamics.frame.diagonal else 2

    def residual(states: Any) -> Any:
        value = dynamics.next(inputs, before(states, start, reverse))
        error = jnp.abs(states - value) / (1 + jnp.abs(states))
        # XLA's maximum on a CPU may lose a NaN.
        return jnp.max(jnp.where(jnp.isfinite(error), error, jnp.inf), initial=0.0)

    def unfinished(state: Any) -> Any:
        iteration, _, error, _ = state
        return ~(error <= tolerance) & (iteration < newton.max_iterations)

    def improve(state: Any) -> Any:
        iteration, states, error, damping = state
        old = before(states, start, reverse)
        value, jacobian = dynamics.linearise(inputs, old)
        a = damping * jacobian
        b = value - times(a, old, matrix)
        new = linear_recurrence(a, b, start, matrix=matrix, reverse=reverse, way=newton.way)
        found = residual(new)
        damping = jnp.where(found <= patience * error, jnp.minimum(2 * damping, 1), damping / 2)
        usable = jnp.isfinite(found)
        new, found = jnp.where(usable, new, states), jnp.where(usable, found, error)
        return iteration + 1, new, found, damping

    guess = dynamics.next(
        inputs, jnp.broadcast_to(start[None], (dynamics.loop.length, *start.shape))
    )
    error = residual(guess)
    first = jnp.zeros((), jnp.int32), guess, error, jnp.ones_like(error)
    iterations, states, error, _ = lax.while_loop(unfinished, improve, first)
    return Solution(states, iterations, error)


def solve(newton: Newton, dynamics: Dynamics, inputs: Sequence[Any], start: Any) -> Any:
    """The states; where the iteration does not converge, the loop finds them, in the same program."""
    found = iterate(newton, dynamics, inputs, start)
    return lax.cond(
        found.residual <= newton.tolerance_of(start.dtype),
        lambda: found.states,
        lambda: step_by_step(dynamics, inputs, start),
    )


def lyapunov(dynamics: Dynamics, inputs: Sequence[Any], start: Any, states: Any) -> Any:
    """The largest Lyapunov exponent: the mean growth of log |v| under v ← Jₜ · v, for each row."""
    old = before(states, start, dynamics.loop.reverse)
    _, jacobian = dynamics.linearise(inputs, old)
    matrix = dynamics.frame.matrix
    v = jnp.ones_like(start) + 0.1 * jnp.cos(jnp.arange(start.size, dtype=start.dtype)).reshape(
        start.shape
    )

    def grow(v: Any, a: Any) -> tuple[Any, Any]:
        v = times(a, v, matrix)
        norm = jnp.linalg.norm(v, axis=-1, keepdims=True) if matrix else jnp.abs(v)
        return v / jnp.where(norm > 0, norm, 1), jnp.log(norm)

    _, growth = lax.scan(grow, v, jacobian, reverse=dynamics.loop.reverse)
    return growth.mean(0)
