"""The peers: other libraries' own recurrent layers, each with the weights of a case.

Nothing is imported before it is asked for. What a peer runs is what its documentation has its users
write: its fastest cell for the purpose, its defaults, time first where it takes that.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import jax

from benchmarks.cases import Case
from benchmarks.entrants import Absent, Entrant

Enter = Callable[[Case, Any, jax.Array], Entrant]

# Name -> the module here, and what is imported and installed under which name.
_WHERE = {
    "flax.linen": ("flax_linen", "flax", "flax"),
    "flax.nnx": ("flax_nnx", "flax", "flax"),
    "haiku": ("haiku", "haiku", "dm-haiku"),
    "equinox": ("equinox", "equinox", "equinox"),
    "keras": ("keras", "keras", "keras"),
    "torch": ("pytorch", "torch", "torch"),
    "jax.experimental.rnn": ("cudnn", "jax", "jax"),
}


def _late(module: str) -> Enter:
    def enter(case: Case, params: Any, xs: jax.Array) -> Entrant:
        return import_module(f"{__name__}.{module}").enter(case, params, xs)

    return enter


PEERS = {name: _late(module) for name, (module, _, _) in _WHERE.items()}


def enter(name: str, case: Case, params: Any, xs: jax.Array) -> Entrant:
    """The peer of this name on a case, given jaxrnn's parameters and inputs [T, B, D].

    Raises:
      Absent: with one line that says why, if it does not run the case.
    """
    _, imported, installed = _WHERE[name]
    try:
        return PEERS[name](case, params, xs)
    except ImportError as problem:
        missing = isinstance(problem, ModuleNotFoundError) and problem.name == imported
        why = "is not installed" if missing else f"cannot be imported: {problem}"
        raise Absent(f"{installed} {why}") from None
