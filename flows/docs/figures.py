"""The drawings of `docs/_static` that are generated."""

from flows.emit import emit
from flows.view.diagram import block_diagram
from hw.presets import preset_named

__all__ = ["FIGURE_PRESET", "diagram_figure"]

FIGURE_PRESET = "systolic-4x4"


def diagram_figure() -> str:
    """Return the block diagram that `docs/seeing.md` shows."""
    config = preset_named(FIGURE_PRESET)
    return block_diagram(config, emit(config).manifest, FIGURE_PRESET)
