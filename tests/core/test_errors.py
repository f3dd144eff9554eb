"""Bad input is refused before anything runs, and the message says what, what came, and what to do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import Cell, around, cells, inside, methods
from jaxrnn.checks import check_run

T, B, D, H = 4, 3, 5, 6
xs = jnp.ones((T, B, D))
cell = cells.lstm(H)
params = cell.init(jax.random.key(0), xs[0])
carry = cell.carry(params, xs[0])


def replaced(**fields):
    base = {"name": "mine", "init": cell.init, "carry": cell.carry, "step": cell.step}
    return Cell(**(base | fields))


def run(cell=cell, params=params, xs=xs, *args, **options):
    return jaxrnn.run(cell, params, xs, *args, **options)


def widening(p, c, x):
    c, y = cell.step(p, c, x)
    return c._replace(h=c.h.astype(jnp.complex64)), y


def growing(p, c, x):
    c, y = cell.step(p, c, x)
    return (c.h, c.c, y), y


wrong_size = cells.lstm(H).init(jax.random.key(0), jnp.ones((B, D + 2)))

CASES = {
    "a method by name": (
        lambda: run(method="scan"),
        TypeError,
        r"method must be one that jaxrnn.methods makes, such as methods.scan\(\), .* got 'scan'",
    ),
    "a method that was not made": (
        lambda: run(method=methods.scan),
        TypeError,
        r"such as methods.scan\(\), or None; got <function scan",
    ),
    "a direction in words": (
        lambda: run(reverse="no"),
        TypeError,
        r"reverse must be True or False, got 'no'",
    ),
    "a layer inside": (
        lambda: inside.zoneout(around.dense(3), 0.1),
        TypeError,
        r"zoneout\(dense\(3\), 0.1\) needs a cell inside, got dense\(3\): only a cell has a step",
    ),
    "a factory inside": (
        lambda: inside.learned_carry(cells.gru),
        TypeError,
        r"needs a cell inside, got <function gru.*: call it, as it makes one",
    ),
    "wrong feature size": (
        lambda: run(xs=jnp.ones((T, B, D + 2))),
        ValueError,
        r"lstm\(6\) got x with 7 features \(shape \[3, 7\]\), but its params.input is \[5, 24\] and not",
    ),
    "no time axis": (
        lambda: run(xs=jnp.float32(1.0)),
        ValueError,
        r"xs has no time axis: got a scalar, need \[T, \*batch, \.\.\.\]",
    ),
    "no feature axis left": (
        lambda: run(xs=jnp.ones(T)),
        ValueError,
        r"needs x of shape \[\*batch, D\], got a scalar; is the time axis missing\?",
    ),
    "leaves that differ in T": (
        lambda: run(xs={"a": jnp.ones((3, 1)), "b": jnp.ones((4, 1))}),
        ValueError,
        r"the leaves of xs differ in T, the leading axis: .*'b'.*4",
    ),
    "no arrays": (lambda: run(xs={}), ValueError, "xs holds no array"),
    "strings": (lambda: run(xs=np.array(["a"])), TypeError, "xs must be an array of numbers"),
    "a list of steps": (lambda: run(xs=[1.0, 2.0]), TypeError, r"jnp\.stack"),
    "carry of another tree": (
        lambda: run(carry=carry.h),
        TypeError,
        r"the carry of lstm\(6\) has the structure .*LSTMCarry",
    ),
    "carry of another shape": (
        lambda: run(carry=carry._replace(c=jnp.ones((B, H + 1)))),
        ValueError,
        r"the carry of lstm\(6\) differs at carry\.c: shape \[3, 7\], .* has \[3, 6\]",
    ),
    "carry of another dtype": (
        lambda: run(carry=carry._replace(h=jnp.ones((B, H), jnp.bfloat16))),
        TypeError,
        r"differs at carry\.h: bfloat16, .* has float32; pass a carry that run\(\) returned",
    ),
    "lengths beyond T": (
        lambda: run(lengths=jnp.array([1, T + 1, 2])),
        ValueError,
        r"lengths must lie in 0\.\.T=4, got \[5\]",
    ),
    "negative lengths": (
        lambda: run(lengths=jnp.array([1, -1, 2])),
        ValueError,
        r"lengths must lie in 0\.\.T=4, got \[-1\]",
    ),
    "lengths that are no integers": (
        lambda: run(lengths=jnp.ones(B)),
        TypeError,
        "lengths must be integers, got float32",
    ),
    "lengths of another shape": (
        lambda: run(lengths=jnp.ones(B + 1, int)),
        ValueError,
        r"lengths has batch axes \[4\], but xs is \[4, 3, 5\]",
    ),
    "lengths and mask": (
        lambda: run(lengths=jnp.ones(B, int), mask=jnp.ones((T, B), bool)),
        ValueError,
        "got lengths and mask; pass one",
    ),
    "a mask that is no bool": (
        lambda: run(mask=jnp.ones((T, B))),
        TypeError,
        "mask must be bool, got float32",
    ),
    "a mask without time": (
        lambda: run(mask=jnp.ones((B,), bool)),
        ValueError,
        r"mask must be \[T, \*batch\] with T=4, got \[3\]",
    ),
    "resets of another batch": (
        lambda: run(resets=jnp.ones((T, B + 1), bool)),
        ValueError,
        r"resets has batch axes \[4\]",
    ),
    "integers into a float cell": (
        lambda: run(xs=jnp.ones((T, B, D), int)),
        TypeError,
        r"lstm\(6\) multiplies x by a weight and needs floating-point x, got int32",
    ),
    "a legacy key": (
        lambda: run(key=jnp.zeros(2, jnp.uint32)),
        TypeError,
        r"key must be a typed JAX key, got uint32\[2\]; wrap it with jax.random.wrap_key_data",
    ),
    "a seed for a key": (
        lambda: run(key=0),
        TypeError,
        r"key must be a typed JAX key, got int; make one with jax.random.key\(seed\)",
    ),
    "many keys": (
        lambda: run(key=jax.random.split(jax.random.key(0), T)),
        ValueError,
        "key must be a single key",
    ),
    "a step that changes its carry's dtype": (
        lambda: run(replaced(step=widening)),
        TypeError,
        r"the carry that mine.step returns differs at carry\.h: complex64, .* has float32; the step"
        r" must return the type it takes",
    ),
    "a step that changes its carry's tree": (
        lambda: run(replaced(step=growing)),
        TypeError,
        "the carry that mine.step returns has the structure",
    ),
    "init and step that disagree": (
        lambda: run(replaced(step=cells.gru(H).step)),
        TypeError,
        r"(?s)mine.step fails on these params, carry and x: .*params must be made by mine.init",
    ),
    "not a cell": (
        # Under the tests' type checker run() itself is never reached.
        lambda: check_run(lambda p, c, x: (c, x), params, xs, None, None, None, None, None),
        TypeError,
        r"run\(\) takes a Cell or a Layer",
    ),
    "a carry that all rows share": (
        lambda: run(
            replaced(carry=lambda p, x: jnp.zeros(()), step=lambda p, c, x: (c + 1, x)),
            lengths=jnp.ones(B, int),
        ),
        ValueError,
        r"carry is \[\] and has not the batch axes \[3\]",
    ),
    "no features": (
        lambda: cells.lstm(0),
        ValueError,
        r"lstm\(0\) needs a positive number of features, got 0",
    ),
    "bool features": (lambda: cells.gru(True), ValueError, "got True"),
    "an initialiser without features": (
        lambda: cell.init(jax.random.key(0), jnp.float32(1)),
        ValueError,
        "is the time axis missing",
    ),
    "chunk of 0": (
        lambda: methods.scan(chunk=0),
        ValueError,
        "chunk must be a positive number of steps or None, got 0",
    ),
    "remat without chunk": (
        lambda: methods.scan(remat=True),
        ValueError,
        "remat=True recomputes one chunk at a time and needs chunk=",
    ),
    "a negative chunk in scan": (
        lambda: jaxrnn.scan(lambda c, x: (c, x), 0.0, xs, chunk=-2),
        ValueError,
        "chunk must be a positive number",
    ),
    "first of nothing": (
        lambda: methods.first(),
        ValueError,
        r"first\(\) needs at least one method",
    ),
    "first of a name": (
        lambda: methods.first("scan"),
        TypeError,
        "takes methods such as",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_message(name):
    call, error, text = CASES[name]
    with pytest.raises(error, match=text):
        call()


def test_jax_scan_explains_a_changing_carry_itself():
    """What is wrong with a bare step function is said by `jax.lax.scan`, in its own words."""
    with pytest.raises(TypeError, match="carry"):
        jaxrnn.scan(lambda c, x: (c.astype(jnp.complex64), x), jnp.zeros(3), jnp.ones((2, 3)))


def test_lengths_under_jit_are_not_read():
    ys = jax.jit(lambda n: run(lengths=n)[1])(jnp.array([1, 9, 2]))
    assert ys.shape == (T, B, H)
