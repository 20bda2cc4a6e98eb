"""The generated pages of `docs/`: what makes each of them (`python -m flows.docs` writes them)."""

from pathlib import Path

from flows.docs.bridge import bridge_page
from flows.docs.catalogue import catalogue_page
from flows.docs.figures import FIGURE_PRESET, diagram_figure
from flows.docs.isa import isa_page
from flows.docs.numerics import numerics_page
from flows.docs.presets import presets_page
from flows.docs.registers import registers_page

__all__ = ["PAGES", "write_pages"]

PAGES = {"registers.md": registers_page, "isa.md": isa_page, "presets.md": presets_page, "numerics.md": numerics_page,
         "bridge.md": bridge_page, "catalogue.md": catalogue_page, f"_static/{FIGURE_PRESET}.svg": diagram_figure}
"""File name in `docs/` → what makes its text."""


def write_pages(folder: Path) -> None:
    """Write every generated page, and the drawings in them, into `folder`."""
    for name, page in PAGES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(page())
