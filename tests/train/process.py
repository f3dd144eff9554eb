"""One of the processes of a sharded training: python process.py FOLDER PROCESSES PROCESS PORT."""

import sys

import jax

folder, (processes, process, port) = sys.argv[1], map(int, sys.argv[2:])
jax.config.update("jax_num_cpu_devices", 4 // processes)
if processes > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", processes, process)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

from jaxrnn import train  # noqa: E402

P = jax.P
AUTO = (jax.sharding.AxisType.Auto,) * 2
mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=AUTO)
params = {"w": jnp.ones((4, 6)), "b": jnp.zeros(6)}
params = train.shard(params, mesh, [("w", P(None, "model"))])
rows = np.random.default_rng(0).normal(size=(7, 8, 4)).astype(np.float32)
part = 8 // processes
mine = list(rows[:, process * part : (process + 1) * part])


def loss(params, batch, key):
    noise = 0.1 * jax.random.normal(key, (8, 6))
    return jnp.mean((jnp.tanh(batch @ params["w"] + params["b"]) - 0.3 + noise) ** 2)


def fit(name, updates, resume=False):
    train.fit(
        loss,
        params,
        optax.adam(0.05),
        mine,
        updates=updates,
        every=5,
        chunk=3,
        sharding=jax.sharding.NamedSharding(mesh, P("data")),
        checkpoints=train.Checkpoints(f"{folder}/{name}"),
        resume=resume,
        validate=lambda params: jnp.sum(params["b"] ** 2),
    )


fit("whole", 15)
fit("parts", 10)
fit("parts", 15, resume=True)
