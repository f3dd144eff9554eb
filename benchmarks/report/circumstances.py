"""On what the rows were measured, and how to read them."""

from statistics import median

from benchmarks.report.numbers import number, unique
from benchmarks.rows import Row

_HOW_TO_READ = (
    "Times are medians (and quartiles) of interleaved rounds. A ratio is taken within a round and"
    " is above 1 where the method is faster than `lax.scan` over the same cell; ahead or behind"
    " means that three quarters of the rounds say so: the quartiles do not touch. The error is the"
    " largest ‖a − b‖/‖b‖ of an output or a gradient against float64."
)
_IF_BUSY = (
    "where the ratio of rounds and the ratio of the fastest rounds disagree, believe neither and"
    " measure again."
)
BUSY = 0.1  # of the cores used by others


def title(rows: list[Row]) -> str:
    first = rows[0]
    return f"{first['device']}, {first['cores']} cores, JAX {first['jax']}"


def software(rows: list[Row]) -> str:
    """The versions of all who ran, ours first."""
    ours = [f"jaxrnn {version}" for version in unique(r["jaxrnn"] for r in rows)]
    found = unique([*ours, *(r.get("version") for r in rows)])
    return ", ".join([*found, *(f"jaxlib {v}" for v in unique(r["jaxlib"] for r in rows))])


def circumstances(rows: list[Row]) -> str:
    days = sorted({r["date"][:10] for r in rows})
    commits = ", ".join(sorted({r["commit"] for r in rows}))
    pythons = ", ".join(unique(r["python"] for r in rows))
    when = " to ".join(unique((days[0], days[-1])))
    parts = [f"{software(rows)}; commit {commits}; Python {pythons}; {when}", *_machine(rows)]
    return f"{'; '.join(parts)}{_company(rows)} {_HOW_TO_READ}"


def _machine(rows: list[Row]) -> list[str]:
    told = []
    for column, what, unit in (
        ("copy_gbps", "copies", "GB/s"),
        ("matmul_gflops", "multiplies matrices at", "GFLOP/s"),
    ):
        rates = [r[column] for r in rows if r.get(column)]
        if rates:
            told.append(f"{what} {number(median(rates))} {unit}")
    parts = [f"the machine itself {' and '.join(told)} at its best"] if told else []
    seeds = unique(r.get("seed") for r in rows)
    if seeds:
        parts.append(f"order of rounds from seed {', '.join(map(str, seeds))}")
    loads = [r["load"] for r in rows if r.get("load") is not None]
    if loads:
        parts.append(f"load average {median(loads):.1f} (median; at most {max(loads):.1f})")
    return parts


def _company(rows: list[Row]) -> str:
    shares = [r["others"] for r in rows if r.get("others") is not None]
    if not shares:
        return "."
    busy = (
        f"; others used {median(shares):.0%} of the cores meanwhile (median; at most"
        f" {max(shares):.0%})."
    )
    return busy + (f" **That is much**: {_IF_BUSY}" if median(shares) > BUSY else "")
