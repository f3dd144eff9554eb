"""Who runs a case: methods, named as on the command line, XLA's knobs, and peers."""

import ast
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as attribute
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax

import jaxrnn
from benchmarks import peers
from benchmarks.cases import Case, Scaled
from benchmarks.entrants import Entrant, InJax
from benchmarks.programs import Apply
from benchmarks.worker import Elsewhere
from jaxrnn import methods
from jaxrnn.engine.loop import Options
from jaxrnn.methods import Method
from jaxrnn.methods.auto import Both, Taken, for_each_pass

AUTO, LAX = methods.auto().name, methods.lax().name
OURS, PLAIN = "jaxrnn", "lax.scan"  # the same two among peers
VERSION = f"jaxrnn {jaxrnn.__version__}"
# Every method that needs no other one.
FACTORIES = {
    name: made
    for name, made in vars(methods).items()
    if inspect.isfunction(made) and name not in ("first", "either")
}


class Runner(Protocol):
    """One of a field."""

    def columns(self, name: str, /) -> dict[str, Any]:
        """What a row of the pass of this name says of it beside its own name."""
        ...

    def enter(self, params: Any, xs: Any) -> Entrant: ...


Field = dict[str, Runner]


class Knob(NamedTuple):
    """A setting of XLA: of one compilation, or of a process."""

    name: str
    options: dict[str, Any]
    flags: str = ""


NO_KNOB = Knob("none", {})
KNOBS = {
    "cpu": [
        Knob("vector width 512", {"xla_cpu_prefer_vector_width": 512}),
        Knob("one thread", {"xla_cpu_multi_thread_eigen": False}),
        Knob(
            "loop in one kernel",
            {},
            "--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold=1000000000",
        ),
    ],
    "gpu": [
        Knob(
            "loop unrolled by XLA",
            {},
            "--xla_gpu_enable_while_loop_unrolling=WHILE_LOOP_UNROLLING_FULL_UNROLL",
        ),
        Knob(
            "loop as a command buffer",
            {},
            "--xla_gpu_enable_command_buffer=+WHILE --xla_gpu_graph_min_graph_size=1",
        ),
    ],
}


@dataclass(frozen=True)
class Contender:
    """A case's cell, or another layer in its place, under a method and a knob of XLA."""

    case: Case
    method: Method
    knob: Knob = NO_KNOB
    layer: jaxrnn.Cell | jaxrnn.Layer | None = None

    def __call__(self) -> Apply:
        return partial(jaxrnn.run, self.layer or self.case.make_cell(), method=self.method)

    def columns(self, _: str, /) -> dict[str, Any]:
        options = self.method.options
        if not isinstance(options, Options):
            return {}
        return {**options._asdict(), "knob": self.knob.name}

    def enter(self, params: Any, xs: Any) -> Entrant:
        devices = self.case.devices if isinstance(self.case, Scaled) else 1
        if devices == 1 and not self.knob.flags:
            return InJax(VERSION, params, xs, self(), options=self.knob.options)
        flags = f"{self.knob.flags} --xla_force_host_platform_device_count={devices}"
        return Elsewhere(
            *(VERSION, params, xs, self()),
            options=self.knob.options,
            recipe=self,
            flags=flags,
            devices=devices,
        )


@dataclass(frozen=True)
class Chosen(Contender):
    """What `auto` chose for a pass, or for both."""

    because: Mapping[str, str] = attribute(default_factory=dict)  # by pass

    def columns(self, name: str, /) -> dict[str, Any]:
        because = self.because.get(name)
        return super().columns(name) | ({"because": because} if because else {})


@dataclass(frozen=True)
class Peer:
    """Another library on a case."""

    name: str
    case: Case

    def columns(self, _: str, /) -> dict[str, Any]:
        return {}

    def enter(self, params: Any, xs: Any) -> Entrant:
        return peers.enter(self.name, self.case, params, xs)


def parse(text: str) -> list[Method]:
    """Methods from `auto,lax,scan:chunk=16:remat=True`.

    Raises:
      ValueError: with one line that says what is wrong.
    """
    made = [_method(part.strip()) for part in text.split(",") if part.strip()]
    if not made:
        raise ValueError(f"name at least one, there are {', '.join(sorted(FACTORIES))}")
    return made


def _method(text: str) -> Method:
    name, *settings = text.split(":")
    if name not in FACTORIES:
        raise ValueError(f"no method is called {name!r}, there are {', '.join(sorted(FACTORIES))}")
    known = inspect.signature(FACTORIES[name]).parameters
    options: dict[str, Any] = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        if key not in known:
            raise ValueError(f"{name} has no option {key!r}, it has {', '.join(known) or 'none'}")
        try:
            options[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            raise ValueError(f"{text}: {value!r} is no number, True, False or None") from None
    try:
        return FACTORIES[name](**options)
    except (TypeError, ValueError) as problem:
        raise ValueError(f"{text}: {problem}") from None


def with_lax(given: list[Method]) -> dict[str, Method]:
    """The methods by name, each once, `lax` first: every ratio is to it."""
    return {method.name: method for method in [methods.lax(), *given]}


def field(case: Case, given: list[Method]) -> Field:
    """The case's cell under each method, `lax` first."""
    return {name: Contender(case, method) for name, method in with_lax(given).items()}


def field_of_peers(case: Case, given: list[Method]) -> Field:
    """We under each method, the default one by our name, then plain `lax.scan`, then the peers."""
    named = {OURS if m.name == AUTO else m.name: m for m in given} | {PLAIN: methods.lax()}
    made: Field = {name: Contender(case, method) for name, method in named.items()}
    return made | {name: Peer(name, case) for name in peers.PEERS}


def field_of_knobs(case: Case, given: list[Method]) -> Field:
    """Every method as it is, and the plainest scans under XLA's knobs too.

    To unroll as many steps as there are, or more, is to unroll all: `unroll=True` stands for it.
    """
    factors = [(m, getattr(m.options, "unroll", 1)) for m in given]
    several = [m for m, unroll in factors if unroll is True or unroll < case.length]
    made = field(case, several)
    plainest = [m for m in several if m in (methods.scan(), methods.scan(unroll=4))]
    for knob in KNOBS.get(jax.default_backend(), []):
        for method in plainest:
            made[f"{method.name} {knob.name}"] = Contender(case, method, knob)
    return made


def chosen(case: Case) -> dict[str, Taken]:
    """What `auto` runs each pass of a case with, as a method of its own, and why."""
    seen: list[Both] = []

    def look(problem: methods.Problem, _: Any) -> Any:
        seen.append(for_each_pass(problem))
        return methods.lax()(problem)

    spy = Method(name="spy", run=look)
    cell = case.make_cell()
    jax.eval_shape(lambda params, xs: jaxrnn.run(cell, params, xs, method=spy), *case.arrays())
    return seen[0]._asdict()


def field_of_choice(case: Case, given: list[Method]) -> Field:
    """The methods, and what `auto` chooses for each pass as methods of their own."""
    made: dict[Method, dict[str, str]] = {}
    for name, (method, because) in chosen(case).items():
        made.setdefault(method, {})[name] = because
    own = {m.name: Chosen(case, m, because=w) for m, w in made.items()}
    return field(case, given) | own
