"""Decode attention on the RTL of a PIM's channel at full size: cycles against AttAcc's closed form, results golden."""

from typing import Any

from flows.pim.measure import measure_attention
from flows.pim.sim import PimSim
from hw.pim.presets import PIM_PRESETS

__all__ = ["rows"]

COMMANDS = 1024
_POINTS = ("pim-attacc", 1024, 4), ("pim-attacc", 2048, 4), ("pim-attacc-bank-group", 1024, 4), ("pim-attacc-buffer", 1024, 2)
"""Preset, tokens in the pseudo-channel (half of a context of AttAcc's), and heads."""


def rows(points: tuple[tuple[str, int, int], ...] = _POINTS, *, head_dim: int = 128) -> list[dict[str, Any]]:
    """Return a row for each preset, tokens of a pseudo-channel and heads; a preset is built first, in some ten minutes."""
    sims, table = {}, []
    for preset, tokens, heads in points:
        sim = sims.setdefault(preset, PimSim(PIM_PRESETS[preset], commands=COMMANDS))
        timing = measure_attention(sim, tokens=tokens, head_dim=head_dim, heads=heads)
        counters = timing.run.counters
        table.append({"config": preset, "tokens": tokens, "heads": heads, "cycles": round(timing.cycles),
                      "law": round(timing.law), "ratio": timing.ratio, "list": timing.total, "predicted": timing.predicted,
                      **{name: counters[name] for name in ("active", "stall_row", "stall_refresh", "stall_hazard")}})
    return table
