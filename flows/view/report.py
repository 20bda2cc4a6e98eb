"""A page of cards: facts, tables and drawings in one HTML file that needs nothing else."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from flows.view.svg import Svg, css

__all__ = ["card", "pair", "report_page", "table"]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; cells are text, of which what stands in brackets at the end is set smaller."""
    def cell(text: str) -> str:
        start = text.find(" [")
        return escape(text) if start < 0 else f"{escape(text[:start])} <small>{escape(text[start + 1:])}</small>"

    titles = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell(text)}</td>" for text in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"


def card(*parts: Svg | str, title: str = "", note: str = "") -> str:
    """Return drawings and tables in a frame, with a title above and a note below."""
    head = f"<h2>{escape(title)}</h2>" if title else ""
    text = f"<p>{escape(note)}</p>" if note else ""
    return '<section class="card">' + head + "".join(
        part if isinstance(part, str) else part.to_text(inline=True) for part in parts) + text + "</section>"


def pair(*cards: str) -> str:
    """Return cards side by side where there is room."""
    return f'<div class="pair">{"".join(cards)}</div>'


def report_page(title: str, facts: Mapping[str, str], cards: Sequence[str]) -> str:
    """Return the page."""
    page = (Path(__file__).parent / "report.html").read_text()
    head = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    for mark, value in (("TITLE", escape(title)), ("COLORS", css(":root")), ("FACTS", head), ("BODY", "\n".join(cards))):
        page = page.replace(f"@@{mark}@@", value)
    return page
