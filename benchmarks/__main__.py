"""`python -m benchmarks list | speed | cells | memory | choice | bidirectional | sweep | report`."""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import jax

from benchmarks import machine, plot, report, rows
from benchmarks.cases import Case, quick
from benchmarks.suites import SUITES, Suite, run_case


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"benchmarks: {message}\n")


def parser() -> Parser:
    made = Parser(prog="python -m benchmarks", description="Speed and memory against lax.scan.")
    asks = [f"{suite.name}: {suite.asks}" for suite in SUITES.values()]
    made.add_argument("what", choices=["list", *SUITES, "report"], help=" ".join(asks))
    made.add_argument("--quick", action="store_true", help="two tiny cases: does it all work?")
    made.add_argument("--cases", metavar="TEXT", default="", help="cases whose name contains TEXT")
    made.add_argument(
        "--methods",
        metavar="LIST",
        help="e.g. auto,scan:chunk=16:remat=True; of sweep: chosen,4,1:1",
    )
    made.add_argument("--rounds", type=int, default=15, help="at most; 15 if not given")
    made.add_argument("--out", type=Path, metavar="DIR", help="benchmarks/reports/<machine>")
    return made


def main(argv: list[str] | None = None) -> int:
    cli = parser()
    asked = cli.parse_args(argv)
    if asked.rounds < 1:
        cli.error(f"--rounds must be at least 1, got {asked.rounds}")
    if asked.what == "list":
        for suite in SUITES.values():
            print(f"{suite.name}: {suite.asks}  [{suite.methods}]")
            print(*(f"  {case.name}" for case in suite.cases), sep="\n")
        return 0
    given = "host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if asked.what == "sweep" and not given:
        # Settings run on every core, each a device.
        jax.config.update("jax_num_cpu_devices", machine.cores())
    # Tiny cases say nothing of speed and stay out of the reports.
    home = Path("runs/benchmarks") if asked.quick else Path(__file__).parent / "reports"
    out = asked.out or home / machine.slug()
    if asked.what != "report":
        suite = SUITES[asked.what]
        all_cases = quick(suite.cases) if asked.quick else suite.cases
        cases = [case for case in all_cases if asked.cases in case.name]
        if not cases:
            cli.error(f"no case of {suite.name} has {asked.cases!r} in its name; see `list`")
        try:
            methods = suite.parse(suite.methods if asked.methods is None else asked.methods)
        except ValueError as problem:
            cli.error(f"--methods: {problem}")
        names = [case.name for case in all_cases]
        for made in measure(suite, cases, methods, asked.rounds):
            rows.save(out, suite.name, made, names)
    found = rows.load(out, list(SUITES))
    if not found:
        cli.error(f"nothing was measured yet in {out}; run e.g. `python -m benchmarks speed`")
    write(out, found)
    return 0


def measure(
    suite: Suite, cases: list[Case], methods: list[Any], rounds: int
) -> Iterator[list[rows.Row]]:
    """The rows of one case after another, as they are measured."""
    print(f"{suite.name}: {suite.asks}  load average {os.getloadavg()[0]:.1f}")
    for case in progress(cases, suite.name):
        made = []
        for row in run_case(suite, case, methods, rounds):
            result = row["reason"] or (f"{row['ratio']:.2f}x" if row["ratio"] else "no ratio")
            print(f"  {row['case']:32} {row['pass']:8} {row['method']:26} {result}", flush=True)
            made.append(row)
        yield made


def progress(cases: list[Case], title: str) -> Iterable[Case]:
    """A progress bar where someone looks and rich is installed; the printed rows say enough."""
    if not sys.stdout.isatty():
        return cases
    try:
        from rich.progress import track
    except ImportError:
        return cases
    return track(cases, title)


def write(out: Path, found: list[rows.Row]) -> None:
    drawn = plot.draw(found, out / "ratios.png")
    page = report.page(found, "ratios.png" if drawn else None)
    (out / "report.md").write_text(page)
    print("\n".join(report.conclusion(found)), f"\n{out / 'report.md'}")


if __name__ == "__main__":
    sys.exit(main())
