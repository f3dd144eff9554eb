"""Correctness gates the clock: what is refused, absent or wrong is told, and never timed."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from benchmarks import clock, contenders, gate, peers, roofline, worker
from benchmarks.cases import Case, Scaled
from benchmarks.contenders import KNOBS, Contender, Knob
from benchmarks.entrants import Absent, InJax
from benchmarks.run import Effort, run_case
from benchmarks.suites import SUITES
from jaxrnn import methods

TINY = Case("gru", batch=2, length=12, features=4)
ONCE = Effort(rounds=1, seed=0)


@pytest.fixture
def timed(monkeypatch):
    """The names of all who were timed."""
    names = []
    measure = clock.measure

    def watched(watches, **kwargs):
        names.extend(watches)
        return measure(watches, **kwargs)

    monkeypatch.setattr(clock, "measure", watched)
    return names


@pytest.fixture(scope="module", autouse=True)
def workers():
    yield
    for flags in list(worker.Worker.started):
        worker.Worker.started.pop(flags).close()


def test_a_wrong_method_is_reported_and_never_timed(timed):
    def run(problem, _):
        carry, ys = methods.lax()(problem)
        return carry, 1.001 * ys

    wrong = methods.Method(name="wrong", run=run)
    made = list(run_case(SUITES["methods"], TINY, [wrong], ONCE))
    assert set(timed) == {"lax()"}
    mine = [row for row in made if row["method"] == "wrong"]
    assert [row["pass"] for row in mine] == ["forward", "gradient"]
    for row in mine:
        assert row["median_us_per_step"] is row["ratio"] is row["gflops"] is None
        assert 1e-4 < row["error"] < 1e-2
        assert "1e-04 is allowed" in row["reason"]


def test_a_peer_that_is_wrong_in_its_gradient_alone_is_never_timed(timed, monkeypatch):
    def enter(name, case, params, xs):
        if name != "haiku":
            raise Absent("not here")

        @jax.custom_vjp
        def biased(xs):
            return xs

        biased.defvjp(lambda xs: (xs, None), lambda _, g: (1.01 * g,))
        run = Contender(case, methods.lax())()
        return InJax("haiku 0.0", params, xs, lambda params, xs: run(params, biased(xs)))

    monkeypatch.setattr(peers, "enter", enter)
    made = list(run_case(SUITES["peers"], TINY, [methods.auto()], ONCE))
    assert set(timed) == {"jaxrnn", "lax.scan"}
    reasons = {row["method"]: row["reason"] for row in made}
    assert reasons["haiku"].startswith("relative error 1.0e-02")
    assert reasons["flax.nnx"] == "absent: not here"


@pytest.mark.parametrize("cell", ["lru", "s5"])
def test_a_complex_carry_has_a_real_loss_and_passes_the_gate(cell):
    case = replace(TINY, cell=cell)
    made = list(run_case(SUITES["long"], case, [methods.associative()], ONCE))
    assert [row["reason"] for row in made] == [None] * len(made)
    assert max(row["error"] for row in made) < 1e-5


def test_a_refusal_is_reported():
    never = methods.Method(
        name="never", run=methods.lax().run, refuses=lambda *_: "cannot; use methods.lax()"
    )
    made = list(run_case(SUITES["methods"], TINY, [never], ONCE))
    assert [r["reason"] for r in made if r["method"] == "never"] == [
        "refused: never cannot; use methods.lax()"
    ] * 2


def test_a_row_says_all_that_was_measured():
    case = replace(TINY, passes=("forward", "gradient", "update"))
    made = list(run_case(SUITES["methods"], case, [methods.scan(chunk=4)], Effort(3, seed=7)))
    assert [row["pass"] for row in made[::2]] == list(case.passes)
    for row in made:
        assert row["reason"] is None
        assert row["error"] < 1e-5
        assert row["version"].startswith("jaxrnn ")
        assert len(row["rounds_us_per_step"]) == row["rounds"] == 3
        assert row["min_us_per_step"] == min(row["rounds_us_per_step"])
        assert row["p25_us_per_step"] <= row["median_us_per_step"] <= row["p75_us_per_step"]
        assert row["seed"] == 7
        for name in ("compile_s", "temp_bytes", "instructions", "gflops", "copy_gbps", "date"):
            assert row[name], name
        assert 0 < row["roofline"] < 1
    assert {row["chunk"] for row in made if row["method"] == "scan(chunk=4)"} == {4}


def test_the_work_of_a_case_is_that_of_its_products_and_more():
    case = Case("lstm", batch=8, length=12, features=64)
    products = 2 * 12 * 8 * (64 + 64) * 4 * 64
    forward = roofline.work(case, "forward", *case.arrays()).flops
    gradient = roofline.work(case, "gradient", *case.arrays()).flops
    assert products < forward < 1.1 * products
    assert 3 * products < gradient < 3.3 * products


def test_rates_are_those_of_a_computer():
    rates = roofline.rates("float32")
    assert 0.1 < rates.copy_gbps < 1e5
    assert 0.1 < rates.matmul_gflops < 1e7


def test_nan_is_an_error():
    nan = np.array([1.0, float("nan")])
    wrong = gate.error({"a": nan, "b": np.ones(2)}, {"a": np.ones(2), "b": np.ones(2)})
    assert gate.complaint(wrong, "float32") is not None


def test_an_xla_flag_of_a_process_is_set_in_a_process(timed):
    [knob] = [k for k in KNOBS["cpu"] if k.flags]
    field = {"flagged": Contender(TINY, methods.scan(), knob)}
    suite = replace(SUITES["unroll"], field=lambda case, given: field, base="flagged")
    made = list(run_case(suite, TINY, [], ONCE))
    assert timed == ["flagged"] * 2
    for row in made:
        assert row["knob"] == knob.name
        assert row["error"] < 1e-5
        assert row["temp_bytes"] > 0


def test_xla_knows_the_flags_of_the_knobs_of_gpus():
    # XLA ends a process that it gives an unknown flag, on whatever device it runs.
    flags = " ".join(knob.flags for knob in KNOBS["gpu"])
    knob = Knob("those of GPUs", {}, flags)
    entrant = Contender(TINY, methods.scan(), knob).enter(*TINY.arrays())
    assert entrant.compiled("forward").temp_bytes


def test_a_problem_elsewhere_is_a_problem_here():
    bad = Knob("bad", {"xla_no_such_option": 1}, flags="--xla_cpu_enable_fast_math=false")
    entrant = Contender(TINY, methods.scan(), bad).enter(*TINY.arrays())
    with pytest.raises(Exception, match="xla_no_such_option"):
        entrant.compiled("forward")


def test_devices_share_a_batch():
    case = Scaled("gru", 4, 12, 4, axis="devices", devices=2)
    made = list(run_case(SUITES["scaling"], case, [methods.auto()], ONCE))
    assert {row["reason"] for row in made} == {None}
    assert {(row["axis"], row["size"]) for row in made} == {("devices", 2)}


def test_methods_are_parsed():
    made = contenders.parse(
        "auto, lax,scan,scan:chunk=16,scan:hoist=False,scan:chunk=32:remat=True"
    )
    assert [method.name for method in made] == [
        "auto()",
        "lax()",
        "scan()",
        "scan(chunk=16)",
        "scan(hoist=False)",
        "scan(chunk=32, remat=True)",
    ]
    assert made[3] == methods.scan(chunk=16)
    assert list(contenders.with_lax(made)) == [
        "lax()",
        *(m.name for m in made if m.name != "lax()"),
    ]


def test_what_auto_chose_for_a_pass_is_a_method_that_says_why():
    case = replace(TINY, length=128, batch=8, features=64)
    forward, gradient = contenders.chosen(case).values()
    assert forward.method == methods.scan(hoist=False)
    assert gradient.method == methods.scan()
    field = contenders.field_of_choice(case, [methods.scan()])
    because = {name: runner.columns("gradient").get("because") for name, runner in field.items()}
    assert because == {"lax()": None, "scan(hoist=False)": None, "scan()": gradient.because}
    assert field["scan(hoist=False)"].columns("forward")["because"] == forward.because
