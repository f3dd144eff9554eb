"""Rows as a run writes them, of times that were drawn and not measured: seeded, every column there."""

import math
from itertools import product

import numpy as np

from benchmarks.rows import Row

MACHINE = {
    **{"device": "A <processor> & more", "cores": 2, "python": "3.11.7", "jax": "0.10.2"},
    **{"jaxlib": "0.10.2", "jaxrnn": "0.0.1", "commit": "0123456789ab", "seed": 0},
    **{"date": "2026-01-01T00:00:00+00:00", "load": 1.25, "others": 0.04},
    **{"copy_gbps": 21.5, "matmul_gflops": 148.0},
}
# How many times slower than we each is, in the middle.
PEERS = {
    **{"jaxrnn": 1.0, "lax.scan": 1.6, "flax.linen": 2.1, "flax.nnx": 2.2, "haiku": 1.9},
    **{"equinox": 1.8, "keras": 3.0, "torch": 1.3},
}
SHAPES = [(1, 512, 32), (1, 128, 256), (8, 512, 64), (32, 128, 256), (128, 32, 512)]


class Drawn:
    """Draws the rows of one suite."""

    def __init__(self, suite: str, seed: int = 0):
        self.suite, self.random = suite, np.random.default_rng(seed)

    def shape(self, cell: str, b: int, t: int, h: int) -> Row:
        made = {"cell": cell, "batch": b, "length": t, "features": h, "dtype": "float32"}
        return made | {"inputs": None, "layers": 1}

    def row(self, shape: Row, name: str, method: str, time: float, **columns) -> Row:
        """A row whose rounds lie around `time` µs a step; ratios are added by `ratios`."""
        rounds = time * np.exp(self.random.normal(0, 0.04, 7))
        p25, median, p75 = np.quantile(rounds, [0.25, 0.5, 0.75]).round(4).tolist()
        size = shape["batch"] * shape["features"] * shape["length"]
        made = {
            "suite": self.suite,
            "case": columns.pop("case", None)
            or f"{shape['cell']} B={shape['batch']} T={shape['length']} H={shape['features']}",
            "shape": shape,
            "pass": name,
            "method": method,
            "version": "jaxrnn 0.0.1",
            "dtype": "float32",
            "p25_us_per_step": p25,
            "median_us_per_step": median,
            "p75_us_per_step": p75,
            "min_us_per_step": round(min(rounds), 4),
            "rounds_us_per_step": rounds.round(4).tolist(),
            "rounds": 7,
            "calls": 3,
            **{"ratio_p25": None, "ratio": None, "ratio_p75": None, "ratio_fastest": None},
            "compile_s": round(self.random.uniform(0.3, 1.5), 3),
            "temp_bytes": 40 * size,
            "instructions": int(self.random.integers(200, 900)),
            "flops": 16.0 * size * shape["features"],
            "gflops": 16e-3 * size * shape["features"] / shape["length"] / median,
            "roofline": 0.2,
            "error": 4e-7,
            "reason": None,
        }
        return made | MACHINE | columns


def untimed(row: Row, reason: str) -> Row:
    """The same without whatever a clock gives."""
    kept = {"case", "suite", "shape", "pass", "method", "version", "dtype", *MACHINE}
    return {k: v if k in kept else None for k, v in row.items()} | {"reason": reason}


def ratios(rows: list[Row], base: str) -> list[Row]:
    """With every row's ratio to the method `base`, within rounds."""
    plain = {(r["case"], r["pass"]): r for r in rows if r["method"] == base}
    for row in rows:
        other = plain[row["case"], row["pass"]]
        if row["reason"] is None and other["reason"] is None:
            found = np.divide(other["rounds_us_per_step"], row["rounds_us_per_step"])
            p25, median, p75 = np.quantile(found, [0.25, 0.5, 0.75]).round(4).tolist()
            fastest = other["min_us_per_step"] / row["min_us_per_step"]
            row |= {"ratio_p25": p25, "ratio": median, "ratio_p75": p75, "ratio_fastest": fastest}
    return rows


def peers(cells=("lstm", "gru", "elman"), shapes=SHAPES, seed=0) -> list[Row]:
    drawn, made = Drawn("peers", seed), []
    for cell, (b, t, h) in product(cells, shapes):
        shape = drawn.shape(cell, b, t, h)
        for name in ("forward", "gradient") if b != 8 else ("forward", "gradient", "update"):
            least = 0.02 * math.sqrt(b) * h * (1 if name == "forward" else 2.5)
            for method, slower in PEERS.items():
                luck = 1 if method == "jaxrnn" else math.exp(drawn.random.normal(0, 0.35))
                row = drawn.row(shape, name, method, least * slower * luck)
                row["version"] = "jaxrnn 0.0.1" if slower in (1, 1.6) else f"{method} 1.2.3"
                if method == "keras" and cell == "gru":
                    row = untimed(row, f"relative error {h / 1000:.0e}, 1e-04 is allowed")
                if method == "haiku" and cell == "elman":
                    row = untimed(row, "absent: haiku has no elman | only <gru>\nand lstm")
                made.append(row)
    return ratios(made, "lax.scan")


def unroll(cells=("lstm", "gru"), shapes=SHAPES[:4], seed=0) -> list[Row]:
    drawn, made = Drawn("unroll", seed), []
    plain = {"unroll": 1, "hoist": True, "defer": True, "chunk": None, "knob": "none"}
    ways = {
        "lax()": {**plain, "hoist": False, "defer": False},
        "scan()": {},
        **{f"scan(unroll={u})": {"unroll": u} for u in (2, 4, 8, 16, 32)},
        "scan(unroll=True)": {"unroll": True},
        "scan(hoist=False)": {"hoist": False},
        "scan(unroll=4, hoist=False)": {"unroll": 4, "hoist": False},
        "scan(defer=False)": {"defer": False},
        "scan(chunk=16)": {"chunk": 16},
        "scan(unroll=4, chunk=16)": {"unroll": 4, "chunk": 16},
        "scan() vector width 512": {"knob": "vector width 512"},
        "scan(unroll=4) vector width 512": {"unroll": 4, "knob": "vector width 512"},
    }
    for cell, (b, t, h), name in product(cells, shapes, ("forward", "gradient")):
        step = 0.02 * b * h + 2
        for method, changed in ways.items():
            given = {**plain, **changed}
            factor = t if given["unroll"] is True else given["unroll"]
            # Unrolling saves what is lost at every step; not hoisting doubles the work.
            time = step * (1 if given["hoist"] else 1.6) - 1.5 * (1 - 1 / factor) * (b < 32)
            row = drawn.row(drawn.shape(cell, b, t, h), name, method, time, **given)
            row["compile_s"] *= factor**0.7
            row["instructions"] *= factor
            made.append(row)
    return ratios(made, "lax()")


def methods(seed=0) -> list[Row]:
    drawn, made = Drawn("methods", seed), []
    ways = {"lax()": 1, "auto()": 0.6, "scan()": 0.7, "scan(chunk=32, remat=True)": 0.8}
    for cell, name in product(("lstm", "gru", "indrnn"), ("forward", "gradient")):
        shape = drawn.shape(cell, 16, 4096, 128)
        for method, share in ways.items():
            row = drawn.row(
                shape, name, method, 200 * share * math.exp(drawn.random.normal(0, 0.3))
            )
            row["temp_bytes"] //= 9 if "remat" in method else 1
            made.append(row)
    return ratios(made, "lax()")


def scaling(axes=("T", "B", "H", "layers", "devices"), seed=0) -> list[Row]:
    drawn, made = Drawn("scaling", seed), []
    ways = {"lax()": 1.0, "auto()": 0.6, "scan(chunk=32, remat=True)": 0.7}
    points = [("T", 8, t, 128, 1, 1) for t in (32, 128, 512, 2048)]
    points += [("B", b, 64, 128, 1, 1) for b in (1, 4, 16, 64, 256)]
    points += [("H", 8, 64, h, 1, 1) for h in (32, 64, 128, 256, 512)]
    points += [("layers", 8, 64, 64, n, 1) for n in (1, 2, 4, 8)]
    points += [("devices", b, 64, 8192 // b, 1, n) for b in (32, 128) for n in (1, 2)]
    points = [point for point in points if point[0] in axes]
    for (axis, b, t, h, layers, devices), name in product(points, ("forward", "gradient")):
        shape = drawn.shape("lstm", b, t, h) | {"layers": layers, "devices": devices}
        size = {"T": t, "B": b, "H": h, "layers": layers, "devices": devices}[axis]
        for method, share in ways.items():
            time = share * (b / 8) ** 0.5 * (h / 64) ** 1.5 * layers / devices * 10
            place = {"case": f"{axis}: lstm {size}", "axis": axis, "size": size}
            row = drawn.row(shape, name, method, time, **place)
            if "remat" in method:
                row["temp_bytes"] = int(1e4 * t**0.5)
            made.append(row)
    return ratios(made, "lax()")


def choice(seed=0) -> list[Row]:
    drawn, made = Drawn("choice", seed), []
    for (b, t, h), name in product(SHAPES, ("forward", "gradient")):
        ways = ("lax()", "scan()", "scan(hoist=False)", f"scan(chunk={t // 4})")
        for way in ways:
            because = "what is hoisted is <read> back & forth" if way == ways[3] else None
            time = 50 * math.exp(drawn.random.normal(0, 0.4))
            shape = drawn.shape("lstm", b, t, h)
            made.append(drawn.row(shape, name, way, time, because=because))
    return ratios(made, "lax()")


def long(seed=0) -> list[Row]:
    drawn, made = Drawn("long", seed), []
    ways = {"lax()": 1.0, "auto()": 0.4, "scan()": 0.5, "associative()": 0.3, "newton()": 2.0}
    for cell, name in product(("min_gru", "gru"), ("forward", "gradient")):
        shape = drawn.shape(cell, 1, 65536, 64)
        for method, share in ways.items():
            row = drawn.row(shape, name, method, 5 * share)
            refused = cell == "gru" and method == "associative()"
            made.append(untimed(row, "refused: needs a step that is affine") if refused else row)
    return ratios(made, "lax()")
