"""A small training that is killed by the tests: python job.py FOLDER [--resume]."""

import sys
import time

import jax
import jax.numpy as jnp
import optax

import jaxrnn
from jaxrnn import cells, train

cell = cells.elman(8)
table = jnp.sin(jnp.arange(1600.0) / 7).reshape(20, 20, 4, 1)
params = (cell.init(jax.random.key(0), table[0, 0]), jnp.full((8, 1), 0.1))


def loss(params, batch, key, carry):
    noise = 0.1 * jax.random.normal(key, batch.shape)
    carry, ys = jaxrnn.run(cell, params[0], batch + noise, carry)
    return train.mean_squared_error(ys[:-1] @ params[1], batch[1:]), {}, carry


def report(count, metrics):
    print("update", count, metrics["loss"], flush=True)
    time.sleep(0.04)  # so that there is time to be killed in


result = train.fit(
    loss,
    params,
    optax.adam(optax.cosine_decay_schedule(0.01, 100)),
    lambda n: table[n % 20],
    updates=100,
    key=jax.random.key(3),
    memory=cell.carry(params[0], table[0, 0]),
    validate=lambda params: jnp.sum(params[1] ** 2),
    every=10,
    chunk=4,
    checkpoints=train.Checkpoints(sys.argv[1], keep=2),
    resume="--resume" in sys.argv,
    report=report,
)
print(result.stopped, int(result.state.count))
