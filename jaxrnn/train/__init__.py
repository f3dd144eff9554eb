"""Training as pure functions over Optax.

    state = train.init(params, optimizer)           everything an update needs: a pytree of arrays
    update = train.step(loss, optimizer, clip=1.0)  loss(params, batch, key) -> value
    state, metrics = update(state, batch)

It needs what `pip install jaxrnn[train]` brings: Optax, Orbax, rich, safetensors.
"""

from jaxrnn.train.checkpoints import CheckpointError as CheckpointError
from jaxrnn.train.checkpoints import Checkpoints as Checkpoints
from jaxrnn.train.checkpoints import CheckpointWarning as CheckpointWarning
from jaxrnn.train.fit import fit as fit
from jaxrnn.train.history import Diverged as Diverged
from jaxrnn.train.history import History as History
from jaxrnn.train.history import Result as Result
from jaxrnn.train.losses import activation as activation
from jaxrnn.train.losses import cross_entropy as cross_entropy
from jaxrnn.train.losses import ctc as ctc
from jaxrnn.train.losses import l1 as l1
from jaxrnn.train.losses import l2 as l2
from jaxrnn.train.losses import mean_squared_error as mean_squared_error
from jaxrnn.train.losses import temporal_activation as temporal_activation
from jaxrnn.train.sharding import shard as shard
from jaxrnn.train.state import State as State
from jaxrnn.train.state import init as init
from jaxrnn.train.step import step as step
from jaxrnn.train.sweep import Table as Table
from jaxrnn.train.sweep import Trial as Trial
from jaxrnn.train.sweep import sweep as sweep
from jaxrnn.train.tbptt import tbptt as tbptt
from jaxrnn.train.weights import WeightsError as WeightsError
from jaxrnn.train.weights import load_weights as load_weights
from jaxrnn.train.weights import save_weights as save_weights
