"""Traces what is public with every annotation checked.

    python -m tests.annotated

In a process of its own: the checks wrap every function, so that what the other tests run would not
be what users run, and would take a fifth longer.
"""

from jaxtyping import TypeCheckError, install_import_hook

CHECK = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"

with install_import_hook("jaxrnn", CHECK):
    import jaxrnn
    from jaxrnn import around, cells, inside, linen, methods, nnx, train

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import optax  # noqa: E402
from flax import nnx as flax_nnx  # noqa: E402

from tests.tables import CELLS, METHODS, REPRESENTATIVES  # noqa: E402

KEY = jax.random.key(0)
TOKENS = jnp.zeros((6, 2), int)
LAYERS = [
    (
        around.stack(
            around.embed(7, 5), around.dropout(0.1), cells.lstm(6), around.residual(cells.gru(6))
        ),
        TOKENS,
    ),
    (around.bidirectional(cells.gru(4)), jnp.zeros((6, 2, 3))),
    (around.stack(around.embed(7, 5), around.causal_conv(4, 3), around.downsample(2)), TOKENS),
]
COMBINED = {
    "zoneout": inside.zoneout(cells.lstm(4), 0.2),
    "dropout": inside.recurrent_dropout(inside.drop_connect(cells.gru(4), 0.2), 0.1),
    "learned": inside.learned_carry(inside.clip_carry(inside.leaky(cells.elman(4), 2.0), 1.0)),
    "narrow": inside.narrow(inside.residual(cells.lstm(4)), 3),
}


def trace(model, xs, method=None, *, gradient=False) -> None:
    """The first parameters, and a run of sequences of several lengths."""
    lengths = jnp.arange(1, 1 + xs.shape[1])

    def loss(params, xs):
        carry, ys = jaxrnn.run(model, params, xs, lengths=lengths, key=KEY, method=method)
        return sum(jnp.sum(jnp.real(leaf)) for leaf in jax.tree.leaves((carry, ys)))

    params = jax.eval_shape(model.init, KEY, xs[0])
    jax.eval_shape(jax.grad(loss) if gradient else loss, params, xs)


def trace_cells() -> None:
    for name, cell in (CELLS | COMBINED).items():
        trace(cell, jnp.zeros((5, 2, 4)), gradient=name in REPRESENTATIVES)
    cell, alone = cells.lstm(5), jnp.zeros((5, 4))
    jax.eval_shape(lambda xs: jaxrnn.run(cell, cell.init(KEY, xs[0]), xs), alone)


def trace_methods() -> None:
    several = {**METHODS, "backward": methods.scan(backward="associative")}
    for method in several.values():
        trace(cells.gru(3), jnp.zeros((5, 2, 4)), method, gradient=True)
    for method in (methods.associative(chunk=2), methods.associative(block=2)):
        trace(cells.lru(3, state=4), jnp.zeros((5, 2, 4)), method, gradient=True)


def trace_layers() -> None:
    for layer, xs in LAYERS:
        params = layer.init(KEY, xs[0])
        jax.eval_shape(lambda p, xs, layer=layer: jaxrnn.run(layer, p, xs, key=KEY), params, xs)
        jaxrnn.explain(layer, params, xs)


def trace_training() -> None:
    cell, xs, labels = cells.lstm(3), jnp.zeros((5, 2, 4)), jnp.zeros((5, 2), int)

    def loss(params, batch, key):
        _, ys = jaxrnn.run(cell, params, batch)
        value = train.cross_entropy(ys, labels) + train.l2(params, 0.1) + train.activation(ys, 0.1)
        return value + train.mean_squared_error(ys, ys)

    result = train.fit(loss, cell.init(KEY, xs[0]), optax.sgd(0.1), lambda n: xs, updates=2)
    assert result.state.count == 2


def trace_modules() -> None:
    xs = jnp.zeros((2, 5, 4))
    jax.eval_shape(linen.RNN(cells.gru(3)).init, KEY, xs)
    nnx.RNN(cells.gru(3), xs[:, 0], rngs=flax_nnx.Rngs(0))(xs)


def check_the_checks() -> None:
    cell = cells.elman(3)
    params = cell.init(KEY, jnp.zeros(4))
    for wrong in (
        lambda: cells.elman("3"),
        lambda: cell.step(params, jnp.zeros((2, 3)), jnp.zeros(4)),
    ):
        try:
            wrong()
        except TypeCheckError:
            continue
        raise AssertionError("annotations are not checked")


if __name__ == "__main__":
    check_the_checks()
    trace_cells()
    trace_methods()
    trace_layers()
    trace_training()
    trace_modules()
    print("annotations hold")
