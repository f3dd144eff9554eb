"""Step functions as users write them, plain ones and odd ones: `params, carry, x -> carry, y`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from tests.peers.agreement import Draws
from tests.peers.case import B, Case, D, H, T

V = 6  # tokens


def concatenated(draw: Draws) -> Case:
    def step(p, h, x):
        h = jnp.tanh(jnp.concatenate([h, x], axis=-1) @ p["W"] + p["b"])
        return h, h

    return Case(step, {"W": draw(H + D, H), "b": draw(H)}, draw(B, H), draw(T, B, D))


def matrix_first(draw: Draws) -> Case:
    """One sequence, no batch, and the matrix to the left as in the textbook."""

    def step(p, h, x):
        h = jnp.tanh(p["W"] @ x + p["R"] @ h + p["b"])
        return h, p["V"] @ h

    params = {"W": draw(H, D), "R": draw(H, H), "b": draw(H), "V": draw(4, H)}
    return Case(step, params, draw(H), draw(T, D))


def tied(draw: Draws) -> Case:
    """One matrix for the input, the recurrence and the output; a sum that is read twice."""

    def step(W, h, x):
        u = x @ W + h @ W
        return jnp.tanh(u), (u, jnp.tanh(u) @ W.T)

    return Case(step, draw(H, H), draw(B, H), draw(T, B, H))


def stacked(draw: Draws) -> Case:
    """Two layers in one step, a tuple of carries."""

    def step(p, carry, x):
        new = []
        for layer, h in zip(p, carry, strict=True):
            x = jnp.tanh(jnp.dot(x, layer["W"]) + jnp.einsum("bh,hk->bk", h, layer["R"]))
            new.append(x)
        return tuple(new), x + 1

    params = [{"W": draw(D, H), "R": draw(H, H)}, {"W": draw(H, 4), "R": draw(4, 4)}]
    return Case(step, params, (draw(B, H), draw(B, 4)), draw(T, B, D))


def counter_and_key(draw: Draws) -> Case:
    """The carry counts the steps and holds a PRNG key: dropout drawn within, as in Haiku."""

    def step(W, carry, x):
        key, now = jax.random.split(carry["key"])
        keep = jax.random.bernoulli(now, 0.7, (B, H))
        h = jnp.tanh(jnp.where(keep, x @ W["in"] + carry["h"] @ W["re"], 0.0))
        h = h / (1 + carry["count"])
        return {"h": h, "count": carry["count"] + 1, "key": key}, (h, carry["count"])

    carry = {"h": draw(B, H), "count": jnp.int32(0), "key": jax.random.key(3)}
    return Case(step, {"in": draw(D, H), "re": draw(H, H)}, carry, draw(T, B, D))


def keys_as_inputs(draw: Draws) -> Case:
    """One key a step, of a generator that draws other numbers under `vmap`."""

    def step(W, h, x):
        x, key = x
        noise = jax.random.normal(key, (B, H), W.dtype)
        h = jnp.tanh(x @ W[:D] + h @ W[D:] + noise)
        return h, noise

    keys = jax.random.split(jax.random.key(5, impl="rbg"), T)
    return Case(step, draw(D + H, H), draw(B, H), (draw(T, B, D), keys))


def control_flow(draw: Draws) -> Case:
    """A conditional, a loop of fixed length and one of a length that depends on the carry."""

    def step(p, carry, x):
        h, count = carry
        h = lax.cond(count % 2 == 0, lambda h: h @ p["R"], lambda h: jnp.sin(h), h) + x @ p["W"]
        h, _ = lax.scan(lambda h, k: (jnp.tanh(h @ p["R"] + k), None), h, p["ks"])
        h = lax.switch(count % 3, [jnp.sin, jnp.tanh, lambda h: h], h)
        doubled = lax.while_loop(lambda n: n < 10, lambda n: 2 * n, count + 1)
        h = h + lax.fori_loop(0, 2, lambda _, a: a * p["ks"].sum(), h) / doubled
        return (h, count + 1), h

    params = {"W": draw(D, H), "R": draw(H, H), "ks": draw(2, B, H)}
    return Case(step, params, (draw(B, H), jnp.int32(0)), draw(T, B, D))


@jax.custom_vjp
def clipped_gradient(h):
    return h


clipped_gradient.defvjp(lambda h: (h, None), lambda _, d: (jnp.clip(d, -0.1, 0.1),))


def custom_vjp(draw: Draws) -> Case:
    """Gradients clipped at every step; the input's product goes through it too."""

    def step(p, h, x):
        h = jnp.tanh(clipped_gradient(x @ p["W"]) + clipped_gradient(h) @ p["R"])
        return h, clipped_gradient(h)

    return Case(step, {"W": draw(D, H), "R": draw(H, H)}, draw(B, H), draw(T, B, D))


@jax.custom_jvp
def straight_through(h):
    return jnp.sign(h)


straight_through.defjvp(lambda h, d: (jnp.sign(h[0]), d[0] * (1 - h[0] ** 2)))


def checkpointed(draw: Draws) -> Case:
    """Rematerialised, jitted, with derivatives of its own."""

    @jax.checkpoint
    def step(p, h, x):
        h = jax.jit(lambda h, x: jnp.tanh(x @ p["W"] + h @ p["R"]) + straight_through(h))(h, x)
        return 0.5 * h, h

    return Case(step, {"W": draw(D, H), "R": draw(H, H)}, draw(B, H), draw(T, B, D))


def decoder(draw: Draws) -> Case:
    """Feeds its most probable token back: no inputs, only a number of steps."""

    def step(p, carry, _):
        h, token = carry
        h = jnp.tanh(p["embedding"][token] @ p["W"] + h @ p["R"])
        logits = h @ p["embedding"].T
        token = jnp.argmax(logits, axis=-1)
        return (h, token), (token, logits)

    params = {"embedding": draw(V, D), "W": draw(D, D), "R": draw(D, D)}
    return Case(step, params, (draw(B, D), jnp.zeros(B, jnp.argmax(params["W"]).dtype)), None, T)


def tokens(draw: Draws) -> Case:
    """Integer inputs, looked up in an embedding."""

    def step(p, h, token):
        h = jnp.tanh(p["embedding"][token] + h @ p["R"])
        return h, jax.nn.log_softmax(h @ p["V"])

    params = {"embedding": draw(V, H), "R": draw(H, H), "V": draw(H, V)}
    xs = jnp.arange(T * B).reshape(T, B) % V
    return Case(step, params, draw(B, H), xs)


def unchanged_leaf(draw: Draws) -> Case:
    """A leaf of the carry never changes, an output is constant, another is a parameter."""

    def step(p, carry, x):
        h = jnp.tanh(x @ p["W"] + carry["context"] @ p["C"] + carry["h"] * p["a"])
        return {"h": h, "context": carry["context"]}, (h, jnp.float32(3), p["a"], carry["context"])

    params = {"W": draw(D, H), "C": draw(4, H), "a": draw(H)}
    return Case(step, params, {"h": draw(B, H), "context": draw(B, 4)}, draw(T, B, D))


def exchanged_leaves(draw: Draws) -> Case:
    """Leaves of the carry change places; outputs are the input and the old carry; None and ()."""

    def step(p, carry, x):
        a, b, _ = carry
        return (b, a * p["decay"] + x["u"], None), (x["u"], x["v"], a, ())

    params = {"decay": draw(B, H), "unused": draw(4)}
    return Case(step, params, (draw(B, H), draw(B, H), None), {"u": draw(T, B, H), "v": draw(T)})


def parameters_in_carry(draw: Draws) -> Case:
    """The parameters come along as a carry, though they never change."""

    def step(_, carry, x):
        p, h = carry
        h = jnp.tanh(x @ p["W"] + h @ p["R"] + p["b"])
        return (p, h), h

    weights = {"W": draw(D, H), "R": draw(H, H), "b": draw(H)}
    return Case(step, (), (weights, draw(B, H)), draw(T, B, D))


def fast_weights(draw: Draws) -> Case:
    """The weights change with time (Hebbian learning): here a weight belongs in the carry."""

    def step(p, carry, x):
        A, h = carry
        h = jnp.tanh(x @ p["W"] + jnp.einsum("bh,bhk->bk", h, A))
        A = p["decay"] * A + p["rate"] * h[:, :, None] * h[:, None, :]
        return (A, h), h

    params = {"W": draw(D, H), "decay": draw(), "rate": draw()}
    return Case(step, params, (draw(B, H, H), draw(B, H)), draw(T, B, D))


def hyper(draw: Draws) -> Case:
    """The weights are made from x at every step."""

    def step(p, h, x):
        R = (x @ p["A"]).reshape(B, H, H)
        h = jnp.tanh(jnp.einsum("bh,bhk->bk", h, R) + h @ (p["R"] * p["scale"]))
        return h, h.sum(axis=-1)

    return Case(
        step,
        {"A": draw(D, H * H), "R": draw(H, H), "scale": draw()},
        draw(B, H),
        draw(T, B, D),
    )


def convolution(draw: Draws) -> Case:
    """A convolutional network over a line of 6 cells."""

    def convolve(image, kernel):
        dims = ("NWC", "WIO", "NWC")
        return lax.conv_general_dilated(image, kernel, (1,), "SAME", dimension_numbers=dims)

    def step(p, h, x):
        h = jnp.tanh(convolve(x, p["W"]) + convolve(h, p["R"]) + p["b"])
        return h, h.mean(axis=1)

    params = {"W": draw(3, 2, H), "R": draw(3, H, H), "b": draw(H)}
    return Case(step, params, draw(B, 6, H), draw(T, B, 6, 2))


def attention(draw: Draws) -> Case:
    """Looks at a memory that stays, and writes into a buffer at a moving place."""

    def step(p, carry, x):
        h, buffer, t = carry
        scores = jnp.einsum("bh,bsh->bs", h @ p["Q"], p["memory"])
        read = jnp.einsum("bs,bsh->bh", jax.nn.softmax(scores), p["memory"])
        h = jnp.tanh(x @ p["W"] + read)
        buffer = lax.dynamic_update_index_in_dim(buffer, h, t, axis=0)
        return (h, buffer, t + 1), read

    params = {"W": draw(D, H), "Q": draw(H, H), "memory": draw(B, 4, H)}
    return Case(step, params, (draw(B, H), draw(T, B, H), jnp.int32(0)), draw(T, B, D))


def affine(draw: Draws) -> Case:
    """Linear and diagonal, in complex numbers."""

    def step(p, h, x):
        h = jnp.exp(lax.complex(-jnp.abs(p["re"]), p["im"])) * h + x @ p["W"]
        return h, (h @ p["C"]).real

    params = {"re": draw(H), "im": draw(H), "W": draw(D, H)}
    params["C"] = lax.complex(draw(H, D), draw(H, D))
    return Case(step, params, lax.complex(draw(B, H), draw(B, H)), draw(T, B, D))


def resets(draw: Draws) -> Case:
    """Starts afresh where an episode ended, from an initial carry that is learned."""

    def step(p, h, x):
        h = jnp.where(x["first"][:, None], p["initial"], h)
        h = jax.nn.relu(x["seen"] @ p["W"] + h @ p["R"])
        return h, jnp.max(h, axis=-1)

    params = {"W": draw(D, H), "R": draw(H, H), "initial": draw(H)}
    first = jnp.arange(T)[:, None] % jnp.array([3, 4]) == 0
    return Case(step, params, draw(B, H), {"seen": draw(T, B, D), "first": first})


def no_weights(draw: Draws) -> Case:
    """Nothing to hoist, nothing to defer; the carry is a Python number."""

    def step(_, total, x):
        total = total + jnp.sin(x)
        return total, total * x

    return Case(step, (), 0.5, draw(T))


def no_carry(draw: Draws) -> Case:
    """A map: nothing belongs in the loop."""

    def step(W, carry, x):
        return carry, jnp.tanh(x @ W)

    return Case(step, draw(D, H), (), draw(T, B, D))


STEPS: dict[str, Callable[[Draws], Case]] = {
    make.__name__: make
    for make in (
        concatenated,
        matrix_first,
        tied,
        stacked,
        counter_and_key,
        keys_as_inputs,
        control_flow,
        custom_vjp,
        checkpointed,
        decoder,
        tokens,
        unchanged_leaf,
        exchanged_leaves,
        parameters_in_carry,
        fast_weights,
        hyper,
        convolution,
        attention,
        affine,
        resets,
        no_weights,
        no_carry,
    )
}
