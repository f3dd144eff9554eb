"""What is shown of long work, and how Ctrl-C ends it."""

import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
from rich.console import Console
from rich.progress import BarColumn, Progress, TimeRemainingColumn

Show = Callable[[int, str], None]


@contextmanager
def progress(total: int, done: int, shown: bool | None) -> Iterator[Show]:
    """A bar on a terminal, and nothing where there is none.

    Args:
      total: how many updates there are.
      done: how many of them have been done.
      shown: whether to show it; None if and only if there is a terminal.

    Yields:
      A function of the number of updates done and what to say of them.
    """
    console = Console(stderr=True)
    shown = console.is_terminal if shown is None else shown
    shown = shown and jax.process_index() == 0
    columns = "{task.completed}/{task.total}", BarColumn(None), "{task.description}"
    remaining = TimeRemainingColumn(compact=True)
    with Progress(*columns, remaining, console=console, disable=not shown) as bar:
        task = bar.add_task("compiling", total=total, completed=done)
        yield lambda count, text: bar.update(task, completed=count, description=text)


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether Ctrl-C was pressed. Pressed twice, it aborts as usual."""
    pressed: list[int] = []
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or usual is None:
        yield lambda: False  # a signal handler can be set in the main thread only
        return

    def interrupt(number: int, _: Any) -> None:
        pressed.append(number)
        signal.signal(signal.SIGINT, usual)

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, usual)


def sentence(metrics: dict[str, float]) -> str:
    """The metrics in a line."""
    return " ".join(
        f"{name} {value:.4g}" for name, value in metrics.items() if math.isfinite(value)
    )
