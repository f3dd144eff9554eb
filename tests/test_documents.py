"""What the documents say is executed: README, docstrings, and the rules of the house."""

import doctest
import importlib
import pkgutil
import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import jaxrnn
from benchmarks import report, rows

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
MODULES = [m.name for m in pkgutil.walk_packages(jaxrnn.__path__, "jaxrnn.")]


@pytest.fixture(scope="module")
def readme():
    """The names after all Python blocks of the README have run, in order."""
    names = {}
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(compile(block, "README.md", "exec"), names)
    return names


def test_the_readme_runs(readme):
    assert readme["ys"].shape == (100, 32, 32)
    assert bool(jnp.isfinite(readme["ys"]).all())
    assert readme["logits"].shape == (50, 8, 1000)
    variance = 1.0  # of what is to be told: the loss of a model that has learnt nothing
    for learnt in (readme["linen_loss"], readme["nnx_loss"], readme["result"].history.losses[-1]):
        assert float(learnt) < 0.5 * variance


PAGES = sorted((ROOT / "docs").glob("**/*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_a_page_runs(page):
    names = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        exec(compile(block, str(page), "exec"), names)


def test_every_page_is_in_the_table_of_contents():
    listed = set(re.findall(r"[\w/]+\.md", (ROOT / "mkdocs.yml").read_text()))
    assert listed == {str(page.relative_to(ROOT / "docs")) for page in PAGES}


@pytest.mark.parametrize("module", ["cells", "inside", "around", "methods"])
def test_every_name_is_listed(module):
    listed = (ROOT / "docs" / "what_there_is.md").read_text()
    documented = (ROOT / "docs" / "api" / f"{module}.md").read_text()
    for name, value in vars(getattr(jaxrnn, module)).items():
        if callable(value) and name.islower():
            assert f"::: {value.__module__}.{name}\n" in documented
            assert module == "methods" or f"`{name}`" in listed, name


def test_the_readme_shows_what_explain_prints(readme):
    printed = str(jaxrnn.explain(readme["step"], jnp.zeros((32, 128)), readme["xs"]))
    without_lines = partial(re.sub, r" *README.md:\d+", "")
    assert without_lines(section("explain")) == without_lines(f"```\n{printed}\n```")


def section(name: str) -> str:
    return README.split(f"<!-- {name} -->\n")[1].split(f"\n<!-- /{name} -->")[0]


@pytest.mark.parametrize("name", ["jaxrnn", *MODULES])
def test_docstrings_run(name):
    results = doctest.testmod(importlib.import_module(name))
    assert results.failed == 0


def test_there_are_docstrings_to_run():
    finder = doctest.DocTestFinder()
    found = [
        t for name in MODULES for t in finder.find(importlib.import_module(name)) if t.examples
    ]
    assert len(found) >= 3


def test_public_jax_only():
    for path in sorted(ROOT.glob("*/**/*.py")):
        if not {".venv", "build"} & set(path.parts) and path != Path(__file__):
            assert not re.search(r"jax\._src", path.read_text()), path


def test_files_are_short():
    for path in (ROOT / "jaxrnn").rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 300, path


def test_a_bare_import_needs_jax_and_numpy_only():
    import subprocess
    import sys

    hidden = ["jaxtyping", "flax", "optax", "chex", "matplotlib", "rich", "equinox", "haiku"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({hidden}))\n"
        "import jax.numpy as jnp, jax, jaxrnn, jaxrnn.testing\n"
        "c = jaxrnn.cells.lstm(3); p = c.init(jax.random.key(0), jnp.ones((2, 3)))\n"
        "print(jaxrnn.run(c, p, jnp.ones((4, 2, 3)))[1].shape)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "(4, 2, 3)", done.stderr
    assert jax.__version_info__ >= (0, 10)


@pytest.mark.parametrize("suite", report.QUOTES)
def test_the_readme_quotes_a_committed_report(suite):
    quoted = [
        report.QUOTES[suite](rows.read(path)).rstrip()
        for path in (ROOT / "benchmarks" / "reports").glob(f"*/{suite}.jsonl")
    ]
    assert section(suite) in quoted
