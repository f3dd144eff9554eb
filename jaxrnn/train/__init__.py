"""Training as pure functions over Optax.

    state = train.init(params, optimizer)           everything an update needs: a pytree of arrays
    update = train.step(loss, optimizer, clip=1.0)  loss(params, batch, key) -> value
    state, metrics = update(state, batch)

It needs what `pip install jaxrnn[train]` brings: Optax, Orbax, rich, safetensors.
"""

from jaxrnn.train.state import State as State
from jaxrnn.train.state import init as init
from jaxrnn.train.step import step as step
