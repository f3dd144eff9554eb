"""A recurrent layer as a module of Flax NNX. It needs `pip install jaxrnn[flax]`."""

from typing import Any

import jax

from jaxrnn import batch_major, named
from jaxrnn.core import Cell, Layer
from jaxrnn.methods import Method

try:
    from flax import nnx
except ImportError as error:
    raise ImportError("jaxrnn.nnx needs Flax: pip install 'jaxrnn[flax]'") from error


class RNN(nnx.Module):
    """Runs a cell or a layer of jaxrnn over a sequence [*batch, T, *features].

    `params` holds what `layer.init(key, x)` makes of one key of `rngs.params`, each array an
    `nnx.Param`, by name: `model.params["recurrent"]` of a cell, `model.params["0"]["recurrent"]` of
    the first layer of a stack. Nothing else in the module changes.

    Args:
      layer: a `Cell` or a `Layer`.
      x: one time step, [*batch, *features] with any batch axes; an array or a `jax.ShapeDtypeStruct`.
      time_major: inputs, outputs, mask and resets are [T, *batch, ...].
      return_carry: returns (carry, outputs), not outputs alone.
      reverse: runs from T-1 down to 0; outputs stay aligned with inputs.
      feature_axes: how many of the last axes of inputs are features; if None, 1, and 0 of integers.
      method: one of `jaxrnn.methods`; None chooses.

    Examples:
      >>> import jax.numpy as jnp
      >>> from flax.nnx import Rngs
      >>> from jaxrnn import cells, nnx
      >>> model, inputs = nnx.RNN(cells.lstm(8), jnp.ones(3), rngs=Rngs(0)), jnp.ones((2, 5, 3))
      >>> model(inputs, lengths=jnp.array([5, 3])).shape                   # [B, T, H]
      (2, 5, 8)
      >>> model.params["recurrent"].shape
      (8, 32)
    """

    def __init__(
        self,
        layer: Cell | Layer,
        x: Any,
        *,
        time_major: bool = False,
        return_carry: bool = False,
        reverse: bool = False,
        feature_axes: int | None = None,
        method: Method | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        batch_major.check_layer(layer, "nnx.RNN")
        self.layer, self.method, self.feature_axes = layer, method, feature_axes
        self.time_major, self.return_carry, self.reverse = time_major, return_carry, reverse
        params = layer.init(rngs.params(), x)
        self.structure = jax.tree.structure(params)
        self.params = nnx.data(jax.tree.map(nnx.Param, named.nested(params)))

    def __call__(
        self,
        inputs: Any,
        *,
        initial_carry: Any = None,
        lengths: Any = None,
        mask: Any = None,
        resets: Any = None,
        rngs: Any = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
    ) -> Any:
        """Outputs, or (carry, outputs). The last three are as the module was made if None.

        `initial_carry`, `lengths` [*batch], `mask` and `resets` [*batch, T] are those of `jaxrnn.run`;
        `rngs`, an `nnx.Rngs` with a stream "dropout" or a key, is for noise.
        """
        time_major = self.time_major if time_major is None else time_major
        reverse = self.reverse if reverse is None else reverse
        axis = batch_major.time_axis(inputs, time_major, self.feature_axes)
        params = named.restored(self.structure, self.params, str(self.layer))
        params = jax.tree.map(lambda p: p[...], params, is_leaf=lambda p: isinstance(p, nnx.Param))
        key = _dropout_key(rngs)
        options = {"lengths": lengths, "mask": mask, "resets": resets, "method": self.method}
        carry, outputs = batch_major.run(
            self.layer, params, inputs, initial_carry, axis, key=key, reverse=reverse, **options
        )
        wanted = self.return_carry if return_carry is None else return_carry
        return (carry, outputs) if wanted else outputs


def _dropout_key(rngs: Any) -> Any:
    if isinstance(rngs, nnx.Rngs) and not {"dropout", "default"} & {*rngs}:
        raise ValueError(f"rngs needs a stream 'dropout', nnx.Rngs(dropout=0); it has {[*rngs]}")
    return rngs.dropout() if isinstance(rngs, nnx.Rngs) else rngs
