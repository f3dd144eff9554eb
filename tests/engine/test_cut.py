"""The minimum cut, against every cut of small random graphs."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrnn.engine.cut import minimum_cuts
from jaxrnn.engine.jaxprs import is_var, producers
from jaxrnn.engine.split import between


def graph(choices):
    """A jaxpr of sums of earlier values, as the choices say."""

    def f(*inputs):
        values = list(inputs)
        for i, j in choices:
            values.append(values[i % len(values)] * values[j % len(values)] + 1.0)
        return values[-1]

    return jax.make_jaxpr(f)(*(jnp.ones(()) for _ in range(3))).jaxpr


def separates(jaxpr, cut, wanted, made_by):
    """Whether `wanted` can be recomputed from `cut`: no path reaches it around the cut."""
    stack, seen = [v for v in wanted if v not in cut], set()
    while stack:
        v = stack.pop()
        if v in seen:
            continue
        seen.add(v)
        if v not in made_by:
            return False
        stack += [u for u in made_by[v].invars if is_var(u) and u not in cut]
    return True


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=4),
    st.integers(0, 2**32 - 1),
)
def test_no_cut_is_cheaper(choices, seed):
    jaxpr = graph(choices)
    rng = np.random.default_rng(seed)
    made_by = producers(jaxpr.eqns)
    nodes = [*jaxpr.invars, *made_by]
    cost = {v: int(rng.integers(0, 5)) for v in nodes}
    wanted = [v for v in jaxpr.outvars if is_var(v)]
    cuts = minimum_cuts(wanted, made_by, cost.__getitem__)
    best = min(
        sum(cost[v] for v in subset)
        for n in range(len(nodes) + 1)
        for subset in itertools.combinations(nodes, n)
        if separates(jaxpr, set(subset), wanted, made_by)
    )
    for cut in cuts:
        assert sum(cost[v] for v in cut) == best


def test_the_early_cut_recomputes_more_than_the_late_one():
    jaxpr = jax.make_jaxpr(lambda x: jnp.negative(jnp.abs(x)) * 2)(jnp.ones(3)).jaxpr
    cuts = minimum_cuts(jaxpr.outvars, producers(jaxpr.eqns), lambda v: 1)
    assert cuts.early == set(jaxpr.invars)
    assert cuts.late == set(jaxpr.outvars)
    assert len(between(jaxpr.eqns, cuts.early, jaxpr.outvars)) == 3
    assert between(jaxpr.eqns, cuts.late, jaxpr.outvars) == []
