"""One setting as a program, and the program of many: `make` is traced, and all is compiled once."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import core
from jax.extend import core as jex
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxrnn.engine.jaxprs import needed
from jaxrnn.train.data import OnDevice
from jaxrnn.train.state import State
from jaxrnn.train.sweep import checks
from jaxrnn.train.sweep.plan import Plan
from jaxrnn.train.sweep.settings import Setting

AXIS = "settings"


class Trial(NamedTuple):
    """What `make` returns for a setting: the state to begin with, and what to do with it."""

    state: State  # of `jaxrnn.train.init`
    update: Callable[[State, Any], tuple[State, dict[str, Any]]]  # of `jaxrnn.train.step`
    validate: Callable[[Any], Any] | None = None  # params -> loss, or a dict with a "loss"


class Part(NamedTuple):
    """A traced function. The arrays it closes over are arguments, not constants in a program."""

    jaxpr: jex.Jaxpr
    consts: list[Any]
    tree: Any
    shape: Any  # what it returns, as shapes and dtypes

    @classmethod
    def of(cls, function: Callable[..., Any], *args: Any) -> "Part":
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
        consts = [jnp.asarray(c) for c in closed.consts]
        # `make` is traced for each part, and most of what it makes is for another one.
        jaxpr = closed.jaxpr.replace(eqns=needed(closed.jaxpr.eqns, closed.jaxpr.outvars))
        return cls(jaxpr, consts, jax.tree.structure(shape), shape)

    def __call__(self, consts: list[Any], *args: Any) -> Any:
        return self.tree.unflatten(core.eval_jaxpr(self.jaxpr, consts, *jax.tree.leaves(args)))


class Single(NamedTuple):
    """One setting, read."""

    begin: Part  # setting -> state
    update: Part  # setting, state, batch -> state, loss
    validate: Part  # setting, state -> numbers

    @property
    def consts(self) -> list[list[Any]]:
        return [part.consts for part in self]

    @property
    def state_bytes(self) -> int:
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(self.begin.shape))

    @property
    def numbers(self) -> list[str]:
        """What a validation gives; nothing if there is none."""
        return list(self.validate.shape)


def read(make: Callable[..., Any], setting: Setting, batch: Any) -> Single:
    """Reads what `make` returns for a setting of Python numbers.

    Whatever is computed with a Python number has the type that it has outside of a sweep. States are
    of plain numbers here, which the host can hold: a key is what it is made of.
    """
    kinds: list[Any] = []

    def trial(setting: Setting) -> Trial:
        try:
            made = make(**setting)
        except Exception as error:
            error.add_note(
                f"make({', '.join(setting)}) is traced: its arguments are numbers that stand for all"
                " settings. Use them in arithmetic only; a number of units goes through"
                " jaxrnn.inside.narrow(cell, features), and a seed through jax.random.key"
            )
            raise
        return checks.check_trial(made)

    def begin(setting: Setting) -> State:
        state = trial(setting).state
        kinds[:] = [_kind(leaf) for leaf in jax.tree.leaves(state)]
        return _plain(state)

    def update(setting: Setting, plain: State, batch: Any) -> tuple[State, jax.Array]:
        before = _state(plain, kinds)
        after, loss = checks.check_updated(trial(setting).update(before, batch), before)
        return _plain(after), loss

    def validate(setting: Setting, plain: State) -> dict[str, Any]:
        function = trial(setting).validate
        if function is None:
            return {}
        return checks.check_numbers(function(_state(plain, kinds).params))

    begun = Part.of(begin, setting)
    return Single(
        begun,
        Part.of(update, setting, begun.shape, batch),
        Part.of(validate, setting, begun.shape),
    )


def many(
    single: Single, batches: OnDevice, every: int, plan: Plan, mesh: Mesh
) -> Callable[..., Any]:
    """The program of many settings; it is given, and gives, arrays [devices · rounds, at once, ...].

        consts, settings, states, start, stop, taken -> states, losses [..., every], numbers

    It makes the updates start … stop−1 of each setting, of states that it makes where start is 0.
    """
    # One by one: several batched QRs may wait for each other for ever on a CPU (`sizes.BLOCKING`).
    one_by_one = plan.devices[0].platform == "cpu"

    def share(consts: Any, settings: Any, states: Any, start: Any, stop: Any, taken: Any) -> Any:
        parts = zip(single, consts, strict=True)
        begin, update, validate = (partial(part, known) for part, known in parts)

        def train(setting: Any, state: Any, lead: tuple[int, ...], batched: Any, begun: Any) -> Any:
            def body(n: Any, both: Any) -> Any:
                state, losses = both
                batch = batches.pick(taken, n - start, n)
                state, loss = batched(lambda c, s: update(c, s, batch))(setting, state)
                return state, losses.at[n - start].set(loss)

            state = jax.lax.cond(start == 0, lambda: begun(setting), lambda: state)
            losses = jnp.full((every, *lead), jnp.nan, single.update.shape[1].dtype)
            state, losses = jax.lax.fori_loop(start, stop, body, (state, losses))
            return state, jnp.moveaxis(losses, 0, -1), batched(validate)(setting, state)

        def alone(inputs: Any) -> Any:
            # Without `vmap`: even a batch of one may take another way through the compiler.
            setting, state = jax.tree.map(lambda leaf: leaf[0], inputs)
            trained = train(setting, state, (), lambda function: function, begin)
            return jax.tree.map(lambda leaf: leaf[None], trained)

        def together(inputs: Any) -> Any:
            setting, state = inputs
            begun = partial(jax.lax.map, begin) if one_by_one else jax.vmap(begin)
            return train(setting, state, (plan.at_once,), jax.vmap, begun)

        return jax.lax.map(alone if plan.at_once == 1 else together, (settings, states))

    # No setting knows of another, so there is nothing that could vary over the mesh by mistake.
    each = P(AXIS)
    specs = (P(), each, each, P(), P(), P())
    mapped = jax.shard_map(share, mesh=mesh, in_specs=specs, out_specs=each, check_vma=False)
    return jax.jit(mapped, donate_argnums=2)


def _kind(leaf: Any) -> Any:
    """Of which kind a key is; None for what is no key."""
    is_key = jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)
    return jax.random.key_impl(leaf) if is_key else None


def _plain(state: State) -> State:
    """With the numbers that keys are made of, and nothing weakly typed."""
    return jax.tree.map(
        lambda leaf: (
            jnp.asarray(leaf, jnp.result_type(leaf))
            if _kind(leaf) is None
            else jax.random.key_data(leaf)
        ),
        state,
    )


def _state(plain: State, kinds: list[Any]) -> State:
    leaves, tree = jax.tree.flatten(plain)
    return tree.unflatten(
        [
            leaf if kind is None else jax.random.wrap_key_data(leaf, impl=kind)
            for leaf, kind in zip(leaves, kinds, strict=True)
        ]
    )
