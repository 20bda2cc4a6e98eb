"""Configs for the software's tests: small, and odd in every way that matters to layouts and tiles."""

from hw.config import AcceleratorConfig
from hw.presets import PRESETS

__all__ = ["CONFIGS"]

CONFIGS: dict[str, AcceleratorConfig] = {
    **PRESETS,
    "3x5-bus64": AcceleratorConfig(rows=3, columns=5, vector_lanes=5, bus_width=64),
    "12x6": AcceleratorConfig(rows=12, columns=6, vector="transformer", vector_lanes=2, vector_rows=64),
    "w4-5x7": AcceleratorConfig(rows=5, columns=7, vector_lanes=1, weight_format="int4"),
    "w4-4x4-bus64": AcceleratorConfig(weight_format="int4", bus_width=64),
    "1x1": AcceleratorConfig(rows=1, columns=1, vector_lanes=1, bus_width=64),
    "one-bank": AcceleratorConfig(scratchpad_banks=1, accumulator_banks=1),
    "bus512": AcceleratorConfig(bus_width=512, scratchpad_banks=4),
    "tiny": AcceleratorConfig(scratchpad_bytes=4096, scratchpad_banks=4, accumulator_rows=32, os_depth=7),
    "ws-only": AcceleratorConfig(dataflows=("ws",)),
    "acc16": AcceleratorConfig(rows=8, columns=4, acc_width=16, accumulator_rows=512, os_depth=5),
}
