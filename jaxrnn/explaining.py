"""`jaxrnn.explain`: what will run when, and why, before anything runs."""

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from jaxrnn import methods
from jaxrnn.checks import as_flags, check_run
from jaxrnn.core import Cell, Layer, draw, lift, sequence_key, time_flags
from jaxrnn.engine.explain import WIDTH, Plan
from jaxrnn.engine.trace import Loop
from jaxrnn.guard import template
from jaxrnn.methods.auto import take
from jaxrnn.methods.base import Method, Problem


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The answer of `explain`, to print or to read field by field."""

    subject: str
    plan: Plan | None  # None where nothing may move: a step with effects, `jax.disable_jit`
    legal: dict[str, str | None]  # each method: why it refuses, or None
    choice: Method  # what method=None takes
    because: str

    def __str__(self) -> str:
        parts = "runs as it is written" if self.plan is None else str(self.plan)
        lines = [*textwrap.wrap(self.subject, WIDTH), "", parts, "", "methods"]
        for name, refusal in self.legal.items():
            verdict = "legal" if refusal is None else f"refused: it {refusal}"
            label, rest = f"  {name:<15}", " " * 17
            lines += textwrap.wrap(verdict, WIDTH, initial_indent=label, subsequent_indent=rest)
        because = textwrap.wrap(self.because, WIDTH, initial_indent="  ", subsequent_indent="  ")
        taken = textwrap.wrap(f"method=None takes {self.choice}", WIDTH, subsequent_indent="  ")
        lines += ["", *taken, *because]
        return "\n".join(line.rstrip() for line in lines)


class Explanations(tuple[Explanation, ...]):
    """The answer of `explain` for a layer: one `Explanation` for each loop it runs, in order."""

    def __str__(self) -> str:
        return ("\n\n" + "─" * WIDTH + "\n\n").join(map(str, self)) or "no loop"


def explain(
    subject: Cell | Layer | Callable[..., Any],
    first: Any,
    xs: Any = None,
    carry: Any = None,
    *,
    length: int | None = None,
    lengths: Any = None,
    mask: Any = None,
    resets: Any = None,
    key: Any = None,
    reverse: bool = False,
) -> Explanation | Explanations:
    """Explains how a cell, a layer or a step function will be run. Nothing is computed.

        print(jaxrnn.explain(cell, params, xs))          a cell or a layer, as `run` takes it
        print(jaxrnn.explain(f, init, xs))               a step function, as `scan` takes it

    It says which equations run once, before, during and after the loop; the products, floating-point
    operations and bytes of each part per time step; which weight gradients leave the backward loop;
    the structure found, and the equation and source line where a better one ends; which methods are
    legal; and which one `method=None` takes.

    Args:
      subject: a `Cell`, a `Layer`, or a function `carry, x -> carry, y`.
      first: the parameters of the cell or layer, or the initial carry of the function.
      xs: the inputs [T, ...]; arrays or ShapeDtypeStructs, as all of these arguments.
      carry: for a cell or layer, the carry before the first step, if it is not its own.
      length: for a function without xs, the number of steps.
      lengths, mask, resets, key, reverse: as for `run`; for a cell or layer only.

    Returns:
      An `Explanation`; of a layer, which may run several loops or none, a tuple of them.
    """
    lengths, mask = as_flags("lengths", lengths), as_flags("mask", mask)
    resets = as_flags("resets", resets)
    if isinstance(subject, Cell | Layer):
        check_run(subject, first, xs, carry, lengths, mask, resets, key)

    found: list[Explanation] = []

    def note(problem: Problem, named: Any) -> tuple[Any, Any]:
        found.append(_explain(problem, dict(named)))
        return methods.auto()(problem)

    def read(first: Any, xs: Any, carry: Any, lengths: Any, mask: Any, resets: Any, key: Any):
        if not isinstance(subject, Cell | Layer):
            name = getattr(subject, "__name__", "step")
            note(Problem(name=name, step=subject, carry=first, xs=xs, length=length), ())
            return ()
        flags = time_flags(xs, lengths, mask, resets, key)
        if key is not None:
            first = draw(subject, first, template(xs), sequence_key(key))
        start = subject.carry(first, template(xs)) if carry is None else carry
        noting = Method(name="explain", options=(("p", first),), run=note)
        lift(subject).run(first, xs, start, **flags, reverse=reverse, method=noting)
        return ()

    jax.eval_shape(read, first, xs, carry, lengths, mask, resets, key)
    return Explanations(found) if isinstance(subject, Layer) else found[0]


def _explain(problem: Problem, named: dict[str, Any]) -> Explanation:
    traced = problem.traced
    taken = take(problem)
    every = (methods.lax(), methods.scan(), methods.associative(), methods.newton())
    refusals = {m.name: m.refusal(problem) for m in every}
    steps = problem.length if traced.loop is None else traced.loop.length
    xs = ", ".join(jax.typeof(x).str_short(short_dtypes=True) for x in jax.tree.leaves(problem.xs))
    loop = traced.loop
    plan = None
    if loop is not None and not loop.step.effects:
        plan = Plan.of(loop, _names(problem, loop, named))
    return Explanation(
        subject=f"{problem.name} over {steps} steps" + (f" of {xs}" if xs else ""),
        plan=plan,
        legal=refusals,
        choice=taken.method,
        because=taken.because,
    )


def _names(problem: Problem, loop: Loop, named: dict[str, Any]) -> dict[Any, str]:
    """What the inputs of the step are called: by their place in the params, the carry and xs."""
    roots = [("h", problem.carry), ("x", problem.xs)]
    # A NamedTuple names its fields itself: h and c of an LSTM, x and valid of a masked step.
    inputs = [
        name
        for root, tree in roots
        for name in _paths("" if hasattr(tree, "_fields") else root, tree)
    ]
    known = {id(v): name for root, tree in named.items() for name, v in _paths(root, tree).items()}
    labels = problem.traced.labels(inputs, known)
    letters = (f"c{i}" for i in range(len(labels)))
    return {v: name or next(letters) for v, name in zip(loop.step.invars, labels, strict=True)}


def _paths(root: str, tree: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {(root + jax.tree_util.keystr(path)).lstrip("."): leaf for path, leaf in leaves}
