"""`python -m benchmarks list | <suite> | all | report | readme | compare`, from a checkout."""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import jax

from benchmarks import compare, machine, report, rows
from benchmarks.run import Effort, circumstances
from benchmarks.suites import SUITES, Suite

README = Path(__file__).parent.parent / "README.md"
FEW_ROUNDS = 2  # of a quick run


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"benchmarks: {message}\n")


def parser() -> Parser:
    made = Parser(prog="python -m benchmarks", description="Which way through time, at what cost.")
    commands = made.add_subparsers(dest="what", required=True, metavar="WHAT", parser_class=Parser)
    commands.add_parser("list", help="the suites and their cases")
    for name, asks in {**{s.name: s.asks for s in SUITES.values()}, "all": "Every suite."}.items():
        _measuring(commands.add_parser(name, help=asks, description=asks), name == "all")
    told = commands.add_parser("report", help="the page of what was measured, once more")
    told.add_argument("--out", type=Path, metavar="DIR", help="benchmarks/reports/<machine>")
    quoted = commands.add_parser("readme", help="puts tables of peers and long into README.md")
    quoted.add_argument("--out", type=Path, metavar="DIR", help="benchmarks/reports/<machine>")
    two = commands.add_parser("compare", help="two files of rows: which changes are real?")
    two.add_argument("before", type=Path, metavar="A.jsonl")
    two.add_argument("after", type=Path, metavar="B.jsonl")
    return made


def _measuring(made: argparse.ArgumentParser, everything: bool) -> None:
    made.add_argument("--device", choices=["cpu", "gpu", "tpu"], help="the default one of JAX")
    made.add_argument("--quick", action="store_true", help="two tiny cases: does it all work?")
    made.add_argument("--resume", action="store_true", help="keep what this commit measured here")
    made.add_argument("--seed", type=int, default=0, help="of the order in every round")
    made.add_argument("--rounds", type=int, help="at most; 15 if not given")
    made.add_argument("--out", type=Path, metavar="DIR", help="benchmarks/reports/<machine>")
    if not everything:
        made.add_argument("--cases", metavar="TEXT", default="", help="whose name contains TEXT")
        made.add_argument(
            "--methods",
            metavar="LIST",
            help="e.g. auto,scan:chunk=16:remat=True; of sweep: chosen,4,1:1",
        )


def main(argv: list[str] | None = None) -> int:
    cli = parser()
    asked = cli.parse_args(argv)
    match asked.what:
        case "list":
            _list()
        case "compare":
            _compare(asked, cli)
        case "all":
            return _each_suite(sys.argv[1:] if argv is None else argv)
        case "report":
            _report(_out(asked), cli)
        case "readme":
            _quote(_out(asked), cli)
        case name:
            _prepare(asked, cli)
            suite = SUITES[name].quick() if asked.quick else SUITES[name]
            try:
                _measure_suite(suite, asked, _out(asked), cli)
            except KeyboardInterrupt:
                print(f"stopped; what was measured is in {_out(asked)}, go on with --resume")
            _report(_out(asked), cli)
    return 0


def _list() -> None:
    for suite in SUITES.values():
        print(f"{suite.name}: {suite.asks}  [{suite.methods}]")
        print(*(f"  {case.name}" for case in suite.cases), sep="\n")


def _compare(asked: argparse.Namespace, cli: Parser) -> None:
    for path in (asked.before, asked.after):
        if not path.is_file():
            cli.error(f"there is no file {path}")
    print(*compare.told(rows.read(asked.before), rows.read(asked.after)), sep="\n")


def _report(out: Path, cli: Parser) -> None:
    found = rows.load(out, list(SUITES))
    if not found:
        cli.error(f"nothing was measured yet in {out}; run e.g. `python -m benchmarks peers`")
    print(*report.write(out, found), out / "report.html", sep="\n")


def _out(asked: argparse.Namespace) -> Path:
    # Tiny cases say nothing of speed and stay out of the reports.
    tiny = getattr(asked, "quick", False)
    home = Path("runs/benchmarks") if tiny else Path(__file__).parent / "reports"
    return asked.out or home / machine.slug()


def _prepare(asked: argparse.Namespace, cli: Parser) -> None:
    if asked.rounds is not None and asked.rounds < 1:
        cli.error(f"--rounds must be at least 1, got {asked.rounds}")
    asked.rounds = asked.rounds or (FEW_ROUNDS if asked.quick else 15)
    if asked.device:
        jax.config.update("jax_platforms", asked.device)
    given = "host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if asked.what == "sweep" and not given:
        # Settings run on every core, each a device.
        jax.config.update("jax_num_cpu_devices", machine.cores())
    try:
        jax.devices()
    except RuntimeError as problem:
        cli.error(f"--device {asked.device}: {str(problem).splitlines()[0]}")


def _quote(out: Path, cli: Parser) -> None:
    """Puts a few rows of some suites between two marks of the README each."""
    text = README.read_text()
    for suite, quote in report.QUOTES.items():
        found = rows.read(out / f"{suite}.jsonl")
        if not found:
            cli.error(f"nothing was measured yet; run `python -m benchmarks {suite}`")
        begin, end = f"<!-- {suite} -->", f"<!-- /{suite} -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{quote(found).rstrip()}\n{end}{rest.split(end)[1]}"
    README.write_text(text)


def _each_suite(arguments: list[str]) -> int:
    """Each suite in a process of its own: some set XLA up in ways of their own."""
    place = arguments.index("all")
    for name in SUITES:
        command = [*arguments[:place], name, *arguments[place + 1 :]]
        done = subprocess.run([sys.executable, "-m", "benchmarks", *command])
        if done.returncode:
            return done.returncode
    return 0


def _measure_suite(suite: Suite, asked: argparse.Namespace, out: Path, cli: Parser) -> None:
    cases = [case for case in suite.cases if asked.cases in case.name]
    if not cases:
        cli.error(f"no case of {suite.name} has {asked.cases!r} in its name; see `list`")
    try:
        methods = suite.parse(suite.methods if asked.methods is None else asked.methods)
    except ValueError as problem:
        cli.error(f"--methods: {problem}")
    done = rows.measured(out, suite.name, circumstances()) if asked.resume else set()
    if done:
        print(f"{suite.name}: {len(done)} cases were measured already")
    left = [case for case in cases if case.name not in done]
    names = [case.name for case in suite.cases]
    for made in measure(suite, left, methods, Effort(asked.rounds, asked.seed)):
        rows.save(out, suite.name, made, names)


def measure(
    suite: Suite, cases: list[Any], methods: list[Any], effort: Effort
) -> Iterator[list[rows.Row]]:
    """The rows of one case after another, as they are measured."""
    print(f"{suite.name}: {suite.asks}  load average {os.getloadavg()[0]:.1f}")
    for number, case in enumerate(progress(cases, suite.name), 1):
        print(f"{number} of {len(cases)}: {case.name}", flush=True)
        made = []
        for row in suite.run_case(suite, case, methods, effort):
            result = row["reason"] or (f"{row['ratio']:.2f}x" if row["ratio"] else "no ratio")
            print(f"  {row['pass']:8} {row['method']:26} {result}", flush=True)
            made.append(row)
        yield made


def progress(cases: list[Any], title: str) -> Iterable[Any]:
    """A progress bar where someone looks and rich is installed; the printed rows say enough."""
    if not sys.stdout.isatty():
        return cases
    try:
        from rich.progress import track
    except ImportError:
        return cases
    return track(cases, title)


if __name__ == "__main__":
    sys.exit(main())
