"""What a report writes: pages that are sound and stand alone, the same bytes for the same rows."""

import re
import shutil
from pathlib import Path

import pytest

from benchmarks import report, rows
from benchmarks.suites import SUITES
from tests.benchmarks import synthetic
from tests.benchmarks.outline import Outline

REPORTS = Path(report.__file__).parents[1] / "reports"
# Few of each suite: drawing takes seconds.
FEW = {
    "peers": synthetic.peers(("lstm", "gru"), synthetic.SHAPES[1:3]),
    "unroll": synthetic.unroll(("lstm",), synthetic.SHAPES[:2]),
    "methods": synthetic.methods(),
    "scaling": synthetic.scaling(("T", "devices")),
    "choice": synthetic.choice(),
}


def test_a_report_is_written_and_its_page_stands_alone(tmp_path):
    made = [*synthetic.peers(("lstm", "gru"), synthetic.SHAPES[:2]), *synthetic.choice()]
    said = report.write(tmp_path, made)
    assert said == report.conclusion(made)
    text = (tmp_path / "report.md").read_text()
    assert all(f"- {sentence}\n" in text for sentence in said)
    for suite in ("peers", "choice"):
        assert f"]({suite}.png)" in text
        assert (tmp_path / f"{suite}.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("choice.png", "peers.png", "report.html", "report.md")
    ]
    page = (tmp_path / "report.html").read_text()
    seen = Outline(page)
    assert seen.open == []
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in seen.sources)
    assert "http" not in re.sub(r"data:[^\"]+", "", page)
    bodies = [[line for line in table if any(line)] for table in seen.tables]
    assert sum(map(len, bodies)) == len(made)
    assert {head["aria-sort"] for head in seen.heads} == {"none"}
    assert "A &lt;processor&gt; &amp; more" in page
    assert "<processor>" not in page
    assert page.index("Against the best JAX library") < page.index("<table>")


def test_the_same_rows_give_the_same_bytes(tmp_path):
    made = [row for few in FEW.values() for row in few]
    report.write(tmp_path / "one", made)
    report.write(tmp_path / "two", [dict(row) for row in made])
    names = {path.name for path in (tmp_path / "one").iterdir()}
    assert names == {"report.md", "report.html", *(f"{suite}.png" for suite in FEW)}
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("suite", FEW)
@pytest.mark.parametrize("how", ["one case", "one method", "all absent", "ties", "no ratios"])
def test_few_rows_and_odd_ones_give_a_report_too(suite, how, tmp_path):
    made = FEW[suite]
    match how:
        case "one case":
            made = [row for row in made if row["case"] == made[0]["case"]]
        case "one method":
            made = [row for row in made if row["method"] == made[1]["method"]]
        case "all absent":
            made = [synthetic.untimed(row, "absent: it is not installed") for row in made]
        case "ties":
            same = {f"{q}_us_per_step": 5.0 for q in ("p25", "median", "p75", "min")}
            made = [row if row["reason"] else row | same for row in made]
        case "no ratios":
            made = [row | dict.fromkeys(k for k in row if k.startswith("ratio")) for row in made]
    said = report.write(tmp_path, made)
    page = (tmp_path / "report.html").read_text()
    assert Outline(page).open == []
    assert all(row["case"] in page for row in made)
    if how == "all absent":
        assert "absent: it is not installed" in " ".join(said)
        assert not list(tmp_path.glob("*.png"))
    if how == "ties" and suite == "peers":
        assert "torch 1.00x (ahead in 0, level in 10, behind in 0 of 10)" in " ".join(said)


@pytest.mark.parametrize(
    "page", [*REPORTS.glob("*/report.html")], ids=lambda page: page.parent.name
)
def test_a_committed_report_says_what_its_rows_say(page, tmp_path, monkeypatch):
    """In words and tables; the pictures, which take the longest, are compared by their titles."""
    undrawn = classmethod(lambda cls, figure: cls(b"", figure.get_suptitle()))
    monkeypatch.setattr(report.web.Picture, "of", undrawn)
    found = rows.load(page.parent, list(SUITES))
    if (page.parent / "reasons.md").exists():
        shutil.copy(page.parent / "reasons.md", tmp_path)
    report.write(tmp_path, found)
    assert (tmp_path / "report.md").read_text() == page.with_suffix(".md").read_text()
    fresh, committed = ((d / "report.html").read_text() for d in (tmp_path, page.parent))
    no_pictures = re.compile(r"data:image/png;base64,[^\"]*")
    assert no_pictures.sub("", fresh) == no_pictures.sub("", committed)


def test_reasons_written_by_hand_are_said_with_the_rest(tmp_path):
    (tmp_path / "reasons.md").write_text("Their product is `faster`.\n\nSo is <that>.\n")
    report.write(tmp_path, FEW["choice"])
    assert "- Their product is `faster`.\n- So is <that>." in (tmp_path / "report.md").read_text()
    html = (tmp_path / "report.html").read_text()
    assert "<li>Their product is <code>faster</code>.</li>" in html
    assert "So is &lt;that&gt;." in html
