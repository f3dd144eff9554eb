"""Rows as one HTML page that needs nothing else: no network, no file beside it."""

import base64
import io
import re
from collections.abc import Callable
from html import escape
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from benchmarks.contenders import NO_KNOB
from benchmarks.report.circumstances import circumstances, title
from benchmarks.report.numbers import number
from benchmarks.report.sections import by_suite, heading
from benchmarks.rows import Row

_PAGE = Path(__file__).with_name("page.html")


class Picture(NamedTuple):
    png: bytes
    title: str  # what it shows

    @classmethod
    def of(cls, figure: Figure) -> "Picture":
        written = io.BytesIO()
        figure.savefig(written, format="png", dpi=130, metadata={"Software": None})
        return cls(written.getvalue(), figure.get_suptitle())


class Column(NamedTuple):
    head: str
    key: str
    show: Callable[[Any], str] | None = number  # None: it is text

    def cell(self, row: Row) -> str:
        value = row.get(self.key)
        if value in (None, NO_KNOB.name):
            return ""
        return str(value) if self.show is None else self.show(value)


def _ratio(value: float) -> str:
    return f"{value:.2f}"


def _mebibytes(value: float) -> str:
    return number(value / 2**20)


# A column that no row of a suite fills is left out.
COLUMNS = (
    Column("case", "case", None),
    Column("pass", "pass", None),
    Column("method", "method", None),
    Column("version", "version", None),
    Column("knob", "knob", None),
    Column("how", "how", None),
    Column("because", "because", None),
    Column("µs a step", "median_us_per_step"),
    Column("µs, 25th %", "p25_us_per_step"),
    Column("µs, 75th %", "p75_us_per_step"),
    Column("µs, least", "min_us_per_step"),
    Column("rounds", "rounds"),
    Column("times faster", "ratio", _ratio),
    Column("times, 25th %", "ratio_p25", _ratio),
    Column("times, 75th %", "ratio_p75", _ratio),
    Column("compile s", "compile_s", _ratio),
    Column("temporary MiB", "temp_bytes", _mebibytes),
    Column("instructions", "instructions", lambda value: f"{value:,d}"),
    Column("GFLOP/s", "gflops"),
    Column("roofline", "roofline", lambda value: f"{value:.0%}"),
    Column("error", "error", lambda value: f"{value:.0e}"),
    Column("others on the cores", "others", lambda value: f"{value:.0%}"),
    Column("not timed, because", "reason", None),
)


def page(rows: list[Row], told: dict[str, list[str]], pictures: dict[str, Picture]) -> str:
    suites = by_suite(rows)
    return Template(_PAGE.read_text()).substitute(
        title=escape(title(rows)),
        contents="\n".join(f'<a href="#{escape(s)}">{escape(s)}</a>' for s in suites),
        conclusions="\n".join(_conclusions(s, each) for s, each in told.items() if each),
        circumstances=_marked(circumstances(rows)),
        suites="\n".join(_suite(s, mine, pictures.get(s)) for s, mine in suites.items()),
    )


def _conclusions(suite: str, sentences: list[str]) -> str:
    items = "\n".join(f"<li>{_marked(sentence)}</li>" for sentence in sentences)
    return f"<h2>{escape(suite)}</h2>\n<ul>\n{items}\n</ul>"


def _marked(text: str) -> str:
    """What sentences have of Markdown: code and bold."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))
    return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)


def _suite(suite: str, rows: list[Row], picture: Picture | None) -> str:
    return "\n".join(
        [
            f'<section id="{escape(suite)}">',
            f"<h2>{_marked(heading(suite))}</h2>",
            *([_figure(picture)] if picture else []),
            _table(suite, rows),
            "</section>",
        ]
    )


def _figure(picture: Picture) -> str:
    source = base64.b64encode(picture.png).decode()
    text = escape(picture.title)
    return (
        f'<div class="picture"><img src="data:image/png;base64,{source}" alt="{text}"></div>\n'
        '<button type="button" class="zoom" aria-pressed="false">Picture in full size</button>'
    )


def _table(suite: str, rows: list[Row]) -> str:
    columns = [column for column in COLUMNS if any(column.cell(row) for row in rows)]
    heads = "\n".join(
        f'<th scope="col" aria-sort="none"{_kind(column)}>'
        f'<button type="button">{escape(column.head)}</button></th>'
        for column in columns
    )
    # Attributes without quotes and cells without end tags are HTML, and half the bytes.
    lines = "\n".join(
        "<tr>" + "".join(f"<td{_kind(c)}>{escape(c.cell(row), quote=False)}" for c in columns)
        for row in rows
    )
    name = escape(suite)
    return (
        f'<p class="filter"><label for="filter-{name}">Rows with</label>\n'
        f'<input id="filter-{name}" type="search" autocomplete="off" placeholder="lstm B=8 gradient">\n'
        f'<output for="filter-{name}">{len(rows)} of {len(rows)}</output></p>\n'
        f'<div class="scroll" role="region" aria-label="Rows of {name}" tabindex="0">\n<table>\n'
        f"<thead><tr>\n{heads}\n</tr></thead>\n<tbody>\n{lines}\n</tbody>\n</table>\n</div>"
    )


def _kind(column: Column) -> str:
    return "" if column.show is None else " class=n"
