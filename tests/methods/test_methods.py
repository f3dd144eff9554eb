"""Methods are values: equal by what they do, named by how they were made, and they may refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import Cell, cells, methods
from jaxrnn.engine import eager

xs = jnp.ones((6, 2, 3))
cell = cells.elman(4)
params = cell.init(jax.random.key(0), xs[0])

noted = []


def noting(p, h, x):
    jax.debug.callback(noted.append, x[0, 0])
    return cell.step(p, h, x)


effectful = Cell(name="noting", init=cell.init, carry=cell.carry, step=noting)


def test_names_say_how_they_were_made():
    assert repr(methods.scan()) == "scan()"
    assert repr(methods.scan(chunk=8, remat=True)) == "scan(chunk=8, remat=True)"
    assert repr(methods.lax(unroll=2)) == "lax(unroll=2)"
    assert repr(methods.first(methods.scan(), methods.lax())) == "first(scan(), lax())"


def test_methods_are_equal_by_value():
    assert methods.scan(chunk=8) == methods.scan(chunk=8)
    assert hash(methods.scan(chunk=8)) == hash(methods.scan(chunk=8))
    assert methods.scan(chunk=8) != methods.scan(chunk=9)


def test_a_refusal_names_the_cell_the_line_and_the_remedy():
    with pytest.raises(NotImplementedError) as caught:
        jaxrnn.run(effectful, params, xs, method=methods.scan())
    text = str(caught.value)
    assert text.startswith("scan() moves the equations of a step about, and noting has one whose")
    assert "methods/test_methods.py:" in text
    assert text.endswith("Use methods.lax()")


def test_first_takes_the_first_that_can():
    both = methods.first(methods.scan(), methods.lax())
    got = jaxrnn.run(effectful, params, xs, method=both)
    want = jaxrnn.run(effectful, params, xs, method=methods.lax())
    np.testing.assert_array_equal(got[1], want[1])


def test_first_refuses_with_every_reason():
    none = methods.first(methods.scan(), methods.scan(chunk=2))
    with pytest.raises(NotImplementedError, match=r"(?s)scan\(\) moves.*scan\(chunk=2\) moves"):
        jaxrnn.run(effectful, params, xs, method=none)


def test_none_always_works_and_keeps_effects_in_order():
    noted.clear()
    steps = jnp.arange(6.0)[:, None, None] * xs
    carry, _ = jax.jit(lambda xs: jaxrnn.run(effectful, params, xs))(steps)
    jax.block_until_ready(carry)
    jax.effects_barrier()
    assert sorted(float(v) for v in noted) == [0, 1, 2, 3, 4, 5]


def test_a_method_of_ones_own():
    """Nothing but a `Problem` stands between a method and the recurrence."""

    def looped(problem, options):
        carry, ys = problem.carry, []
        for t in range(jax.tree.leaves(problem.xs)[0].shape[0]):
            carry, y = problem.step(carry, jax.tree.map(lambda a, t=t: a[t], problem.xs))
            ys.append(y)
        return carry, jnp.stack(ys)

    method = methods.Method(name="looped()", run=looped)
    got = jaxrnn.run(cell, params, xs, method=method, lengths=jnp.array([6, 2]))
    want = jaxrnn.run(cell, params, xs, lengths=jnp.array([6, 2]))
    np.testing.assert_allclose(got[1], want[1], rtol=1e-6)


def test_unrolling_everything_is_not_unrolling_nothing():
    assert methods.scan(unroll=True).name == "scan(unroll=True)"
    assert methods.lax(unroll=True).name == "lax(unroll=True)"
    assert methods.scan(unroll=True) != methods.scan()
    assert methods.lax(unroll=True) != methods.lax()

    def step(h, x):
        return h + x, h

    for unroll in (1, True):  # True == 1, and its program is another one
        jaxrnn.scan(step, jnp.zeros(2), jnp.ones((3, 2)), unroll=unroll)
    assert len(eager._programs[step]) == 2
