"""Writes the generated pages into `docs/` of the checkout."""

from pathlib import Path

from flows.docs import write_pages

write_pages(Path(__file__).resolve().parents[2] / "docs")
