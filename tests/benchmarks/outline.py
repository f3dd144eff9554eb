"""Reads an HTML page strictly: whatever is opened must be closed in its turn."""

from html.parser import HTMLParser

VOID = {"meta", "input", "img", "br", "hr", "link"}


class Outline(HTMLParser):
    """The elements of a page, each closed, and the text of its tables."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.sources, self.tables, self.heads = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.sources += [given[key] for key in ("src", "href", "srcset") if key in given]
        if tag in ("tr", "td"):  # closed by the next one, or by their parent
            while self.open[-1] in ("tr", "td") and not (tag == "td" and self.open[-1] == "tr"):
                self.open.pop()
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag == "th":
            self.heads.append(given)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open[-1] != tag and self.open[-1] in ("tr", "td"):
            self.open.pop()
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open[-1:]:
            self.tables[-1][-1][-1] += data.strip("\n")
