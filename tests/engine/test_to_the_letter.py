"""`jaxrnn.scan` where `jax.lax.scan` is known by more than its numbers: words, references, names."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.extend import core as jex
from jax.interpreters import mlir

import jaxrnn
from tests.reading import loops

three, steps = jnp.zeros(3), jnp.ones((2, 3))
W = jnp.eye(4) * 0.5


def outcome(call):
    """What a call comes to, as text: its numbers or its error, word by word."""
    try:
        return str(jax.tree.map(np.asarray, call()))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def my_step(state, x):
    return state.astype(jnp.complex64), x


class Step:
    def __call__(self, state, x):
        return state.astype(jnp.int32), x


def emit(state, x):
    return state, x


WRONG = {
    "another dtype": lambda scan: scan(my_step, three, steps),
    "another tree": lambda scan: scan(lambda state, x: ((state, state), x), three, steps),
    "no pair": lambda scan: scan(lambda state, x: state, three, steps),
    "no function": lambda scan: scan(3, three, steps),
    "a partial": lambda scan: scan(partial(lambda p, s, x: my_step(s, x), 1.0), three, steps),
    "a callable object": lambda scan: scan(Step(), three, steps),
    "another length": lambda scan: scan(emit, three, steps, length=3),
    "xs of two lengths": lambda scan: scan(emit, three, (steps, three)),
    "neither xs nor length": lambda scan: scan(emit, three),
    "a scalar for xs": lambda scan: scan(emit, three, 3.0),
    "text to carry": lambda scan: scan(emit, "a", steps),
    "text for xs": lambda scan: scan(emit, three, ["a"]),
    "a negative unroll": lambda scan: scan(emit, three, steps, unroll=-1),
    "a branch on a tracer": lambda scan: scan(lambda s, x: (s if s > 0 else x, x), 1.0, three),
    "an integer that becomes a float": lambda scan: scan(
        lambda s, x: (s + 0.5, x), jnp.int32(1), three
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_as_jax_says_it(name):
    want = outcome(lambda: WRONG[name](lax.scan))
    assert "Error: " in want
    assert outcome(lambda: WRONG[name](jaxrnn.scan)) == want
    under_jit = outcome(jax.jit(lambda: WRONG[name](jaxrnn.scan)))
    assert under_jit == outcome(jax.jit(lambda: WRONG[name](lax.scan)))


def ref_twice(scan):
    ref = jax.new_ref(three)
    return scan(emit, (ref, ref), steps)


def ref_closed_over_and_carried(scan):
    ref = jax.new_ref(three)

    def step(state, x):
        ref[...] += x
        return state, x

    return scan(step, ref, steps)


def ref_closed_over_and_scanned(scan):
    ref = jax.new_ref(steps)

    def step(state, x):
        ref[0] += 1
        return state, None

    return scan(step, 1.0, ref)


def ref_returned(scan):
    ref = jax.new_ref(three)
    return scan(lambda state, x: (state, ref), 1.0, steps)


def ref_written(scan):
    ref = jax.new_ref(three)

    def step(state, x):
        ref[...] += x * state
        return state + 1, ref[...]

    return scan(step, 1.0, steps), ref[...]


def ref_carried(scan):
    ref = jax.new_ref(three)

    def step(state, x):
        state[...] += x
        return state, None

    scan(step, ref, steps)
    return ref[...]


def ref_scanned(scan):
    ref = jax.new_ref(steps)

    def step(state, x):
        x[...] += state
        return state + 1, None

    scan(step, 1.0, ref)
    return ref[...]


REFERENCES = [
    ref_twice,
    ref_closed_over_and_carried,
    ref_closed_over_and_scanned,
    ref_returned,
    ref_written,
    ref_carried,
    ref_scanned,
]


@pytest.mark.parametrize("of", REFERENCES, ids=lambda f: f.__name__)
def test_references_to_mutable_arrays(of):
    assert outcome(lambda: of(jaxrnn.scan)) == outcome(lambda: of(lax.scan))


def reused_across_steps(scan, key):
    return scan(lambda s, x: (s + jax.random.normal(key, s.shape), x), three, steps)


def reused_within_a_step(scan, key):
    def step(s, k):
        return s + jax.random.normal(k, s.shape) + jax.random.uniform(k, s.shape), None

    return scan(step, three, jax.random.split(key, 2))


def used_again_after(scan, key):
    keys = jax.random.split(key, 2)
    scan(lambda s, k: (s + jax.random.normal(k, s.shape), None), three, keys)
    return jax.random.normal(keys[0], (3,))


def used_once(scan, key):
    keys = jax.random.split(key, 2)
    return scan(lambda s, k: (s + jax.random.normal(k, s.shape), None), three, keys)


@pytest.mark.parametrize("of", [reused_across_steps, reused_within_a_step, used_again_after])
def test_the_reuse_of_a_key_is_seen_though_the_draw_is_hoisted(of):
    with jax.debug_key_reuse(True), pytest.raises(jax.errors.KeyReuseError):
        of(jaxrnn.scan, jax.random.key(0))


def test_a_key_that_is_used_once_is_not_reused():
    with jax.debug_key_reuse(True):
        used_once(jaxrnn.scan, jax.random.key(0))


@jax.jit
def activated(z):
    with jax.named_scope("innermost"):
        return jnp.tanh(z)


def scoped(h, x):
    with jax.named_scope("projection"):
        a = x @ W
    with jax.named_scope("recurrence"):
        b = h @ W
    with jax.named_scope("total"):
        total = b + (a + 1.0)  # regrouped
    with jax.named_scope("gate"):
        h = activated(total)
    with jax.named_scope("readout"):
        return h, jnp.sin(h) @ W


def scopes_of(function, *args):
    text = jax.jit(function).lower(*args).as_text(debug_info=True)
    wanted = "projection|recurrence|total|gate|innermost|readout"
    return set(re.findall(wanted, " ".join(re.findall(r'"([^"]*)"', text))))


@pytest.mark.parametrize(
    "options",
    [{}, {"feature_major": True}, {"chunk": 3, "remat": True}, {"hoist": False}],
    ids=repr,
)
def test_name_scopes_reach_the_compiled_program(options):
    h, xs = jnp.zeros((2, 4)), jnp.ones((6, 2, 4))

    def run(scan, h, xs, W):
        return scan(scoped, h, xs)[1].sum()

    ours = partial(run, partial(jaxrnn.scan, **options))
    for transform in (lambda f: f, jax.grad):
        want = scopes_of(transform(partial(run, lax.scan)), h, xs, W)
        assert want >= {"projection", "recurrence", "gate", "innermost", "readout"}
        assert scopes_of(transform(ours), h, xs, W) >= want


policies = jax.checkpoint_policies
POLICIES = {
    "none": None,
    "nothing": policies.nothing_saveable,
    "everything": policies.everything_saveable,
    "products": policies.dots_saveable,
    "the name of a product": policies.save_only_these_names("recurrent"),
    "the name of the state": policies.save_only_these_names("h"),
}


@pytest.mark.parametrize("inside", [False, True], ids=["around", "inside"])
@pytest.mark.parametrize("remat3", [False, True], ids=["", "remat3"])
@pytest.mark.parametrize("name", POLICIES)
def test_policies_of_checkpoint_keep_and_recompute_the_same_products(name, remat3, inside):
    if not hasattr(jax.config, "jax_remat3"):
        pytest.skip("this JAX has one jax.checkpoint only")
    h, xs = jnp.zeros((2, 4)), jnp.ones((6, 2, 4))

    def products(scan):
        def step(W, V, h, x):
            a = checkpoint_name(x @ V, "input")
            b = checkpoint_name(h @ W, "recurrent")
            h = checkpoint_name(jnp.tanh(a + b), "h")
            return h, jnp.sin(h)

        def loss(W, V):
            checkpointed = partial(jax.checkpoint, policy=POLICIES[name])
            one = partial(step, W, V)
            run = lambda: scan(checkpointed(one) if inside else one, h, xs)[1].sum()  # noqa: E731
            return run() if inside else checkpointed(run)()

        return len(list(loops.products(jax.make_jaxpr(jax.grad(loss, (0, 1)))(W, W).jaxpr)))

    before = jax.config.jax_remat3
    jax.config.update("jax_remat3", remat3)
    try:
        ours, theirs = products(jaxrnn.scan), products(lax.scan)
        # Under remat3 the program of `lax.scan` holds one product more, which ours need not have.
        assert ours in ((theirs - 1, theirs) if remat3 else (theirs,))
    finally:
        jax.config.update("jax_remat3", before)


def test_a_primitive_that_vmap_does_not_know_stays_in_the_loop():
    doubling = jex.Primitive("doubling")
    doubling.def_abstract_eval(lambda x: x)
    doubling.def_impl(lambda x: 2 * x)
    mlir.register_lowering(doubling, mlir.lower_fun(lambda x: 2 * x, multiple_results=False))

    def step(h, x):
        return h + doubling.bind(x), h

    got, want = (scan(step, three, steps) for scan in (jaxrnn.scan, lax.scan))
    jax.tree.map(np.testing.assert_array_equal, got, want)


WEAK = {
    "a number": lambda h, x: (h, 1.0),
    "numbers": lambda h, x: (h, (1, 2.0, True)),
    "a product of numbers": lambda h, x: (h, h * 2.0),
    "a number with x": lambda h, x: (h + 1.0, (h, x * 2.0)),
}


@pytest.mark.parametrize("init", [0.0, 1, jnp.zeros(2, jnp.bfloat16)], ids=["0.0", "1", "bfloat16"])
@pytest.mark.parametrize("name", WEAK)
def test_numbers_of_python_stay_as_weak_as_they_are(name, init):
    step = WEAK[name]
    if name == "a number with x" and isinstance(init, int):
        return  # an integer carry cannot take a float
    for given in (init, jnp.asarray(init)):
        want = lax.scan(step, given, jnp.arange(3.0))
        assert jax.tree.map(jax.typeof, jaxrnn.scan(step, given, jnp.arange(3.0))) == jax.tree.map(
            jax.typeof, want
        )
