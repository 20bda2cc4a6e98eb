"""Tables in Markdown."""

from collections.abc import Sequence

__all__ = ["table"]


def table(head: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> str:
    """Return a table with a line for each row."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"
