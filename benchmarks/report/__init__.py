"""Rows as a report: first what they say in words, losses included, then pictures and tables."""

from pathlib import Path

from benchmarks.report import web
from benchmarks.report.circumstances import circumstances, title
from benchmarks.report.excerpt import QUOTES
from benchmarks.report.sections import by_suite, heading, of, said
from benchmarks.rows import Row

__all__ = ["QUOTES", "conclusion", "page", "write"]

Told = dict[str, list[str]]


def write(out: Path, rows: list[Row]) -> list[str]:
    """Writes `report.md`, its pictures, and `report.html`, which needs nothing else.

    What `reasons.md` in the same place says is said in both.

    Returns:
      the conclusions, a sentence each.
    """
    told = said(rows) | reasons(out)
    figures = {suite: of(suite).draw(mine) for suite, mine in by_suite(rows).items()}
    pictures = {suite: web.Picture.of(f) for suite, f in figures.items() if f is not None}
    out.mkdir(parents=True, exist_ok=True)
    for suite, picture in pictures.items():
        (out / f"{suite}.png").write_bytes(picture.png)
    (out / "report.md").write_text(page(rows, told, {s: p.title for s, p in pictures.items()}))
    (out / "report.html").write_text(web.page(rows, told, pictures))
    return conclusion(rows)


def conclusion(rows: list[Row]) -> list[str]:
    return [sentence for sentences in said(rows).values() for sentence in sentences]


def reasons(out: Path) -> Told:
    """Why we lose where we do: `reasons.md` beside the rows, a line for each reason, by hand."""
    path = out / "reasons.md"
    lines = path.read_text().splitlines() if path.exists() else []
    return {"why we lose where we do": [line for line in lines if line]}


def page(rows: list[Row], told: Told, pictures: dict[str, str]) -> str:
    """The report as Markdown; `pictures` names the suites that have one, and what it shows."""
    parts = [f"# {title(rows)}"]
    for suite, sentences in told.items():
        if sentences:
            parts.append("\n".join([f"**{suite}**", "", *(f"- {s}" for s in sentences)]))
    parts.append(circumstances(rows))
    for suite, mine in by_suite(rows).items():
        parts.append(f"## {heading(suite)}")
        if suite in pictures:
            parts.append(f"![{pictures[suite]}]({suite}.png)")
        parts.append(of(suite).table(mine))
    return "\n\n".join(parts) + "\n"
