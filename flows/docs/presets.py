"""Makes docs/presets.md: presets and engines."""

from flows.docs.markdown import generated_note, table
from hw.engines import ENGINES
from hw.presets import PRESETS

__all__ = ["presets_page"]


def presets_page() -> str:
    """Return docs/presets.md."""
    names = ("rows", "columns", "activation_format", "weight_format", "acc_width", "psum_width", "scratchpad_bytes",
             "accumulator_rows", "bus_width", "vector", "vector_lanes")
    rows = [(f"`{name}`", *(getattr(config, field) for field in names), ", ".join(config.weight_formats) or "–",
             f"`{config.digest()}`")
            for name, config in PRESETS.items()]
    return "\n".join([
        "# Presets and engines\n", generated_note("`hw/presets.py` and `hw/engines/`"),
        table(("preset", *names, "packed weights", "digest"), rows),
        "\n## Engines\n", table(("engine", "what", "source"), [(f"`{e.name}`", e.doc, e.source) for e in ENGINES.values()]),
        "\nNumber formats: [numerics](numerics.md).\n",
    ])
