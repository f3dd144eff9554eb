"""A recurrent layer as a module of Flax Linen. It needs `pip install jaxrnn[flax]`."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn import batch_major, named
from jaxrnn.core import Cell, Layer
from jaxrnn.methods import Method

try:
    from flax import linen as nn
except ImportError as error:
    raise ImportError("jaxrnn.linen needs Flax: pip install 'jaxrnn[flax]'") from error


class RNN(nn.Module):
    """Runs a cell or a layer of jaxrnn over a sequence [*batch, T, *features].

    The collection "params" holds what `layer.init(key, x)` makes of one key of the stream "params", by
    name: params/recurrent of a cell, params/0/recurrent of the first layer of a stack. Noise is drawn
    if `apply` is given the stream "dropout".

    Attributes:
      layer: a `Cell` or a `Layer`.
      time_major: inputs, outputs, mask and resets are [T, *batch, ...].
      return_carry: returns (carry, outputs), not outputs alone.
      reverse: runs from T-1 down to 0; outputs stay aligned with inputs.
      feature_axes: how many of the last axes of inputs are features; if None, 1, and 0 of integers.
      method: how to run, one of `jaxrnn.methods`; None chooses.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> from jaxrnn import cells, linen
      >>> model, inputs = linen.RNN(cells.lstm(8)), jnp.ones((2, 5, 3))      # [B, T, D]
      >>> variables = model.init(jax.random.key(0), inputs)
      >>> model.apply(variables, inputs, lengths=jnp.array([5, 3])).shape
      (2, 5, 8)
      >>> jax.tree.map(jnp.shape, variables["params"])
      {'bias': (32,), 'input': (3, 32), 'recurrent': (8, 32)}
    """

    layer: Cell | Layer
    time_major: bool = False
    return_carry: bool = False
    reverse: bool = False
    feature_axes: int | None = None
    method: Method | None = None

    def __post_init__(self) -> None:
        batch_major.check_layer(self.layer, "linen.RNN")
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        inputs: Any,
        *,
        initial_carry: Any = None,
        lengths: Any = None,
        mask: Any = None,
        resets: Any = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
    ) -> Any:
        """Outputs, or (carry, outputs). The last three are as the attributes say if None.

        `initial_carry`, `lengths` [*batch], `mask` and `resets` [*batch, T] are those of `jaxrnn.run`.
        """
        return_carry = self.return_carry if return_carry is None else return_carry
        time_major = self.time_major if time_major is None else time_major
        reverse = self.reverse if reverse is None else reverse
        axis = batch_major.time_axis(inputs, time_major, self.feature_axes)
        params = self._params(batch_major.one_step(inputs, axis))
        key = self.make_rng("dropout") if self.has_rng("dropout") else None
        if key is not None and not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
            key = jax.random.wrap_key_data(key)  # of jax.random.PRNGKey
        options = {"lengths": lengths, "mask": mask, "resets": resets, "method": self.method}
        carry, outputs = batch_major.run(
            self.layer, params, inputs, initial_carry, axis, key=key, reverse=reverse, **options
        )
        return (carry, outputs) if return_carry else outputs

    def _params(self, x: Any) -> Any:
        """Those of the collection; drawn where there are none yet, all with one key."""
        types = jax.eval_shape(self.layer.init, jax.random.key(0), x)
        names = list(named.nested(types))
        known = all(self.has_variable("params", name) for name in names)
        if not known and self.is_mutable_collection("params"):
            drawn = named.nested(self.layer.init(self.make_rng("params"), x))
            found = {name: self.param(name, lambda _, v=v: v) for name, v in drawn.items()}
        else:
            found = nn.unbox(self.variables.get("params", {}))
        return named.restored(jax.tree.structure(types), found, str(self.layer))
