"""FPGAs: whole boards on real parts, one seed each; a row with no Fmax was synthesized only."""

import dataclasses
from typing import Any

from flows.board_sim import BOARD_TOP, board_verilog
from flows.synth.fpga.flow import FpgaOptions, implement
from flows.synth.fpga.parts import RESOURCES, part_named
from flows.synth.fpga.resources import DoesNotFit
from hw.bridge.config import BoardConfig
from hw.presets import preset_named

TINY: dict[str, Any] = {
    "rows": 2, "columns": 2, "dataflows": ("ws",), "os_depth": 16, "scratchpad_bytes": 1024, "scratchpad_banks": 2,
    "accumulator_rows": 16, "vector_lanes": 1, "outstanding_reads": 1, "burst_beats": 2, "command_lines": 4}
"""Changes to a preset that leave about the smallest accelerator there is."""
_CASES: tuple[tuple[str, dict[str, Any], str, str, int], ...] = (
    ("systolic-fpga-4x4", {}, "ecp5", "lfe5u-85f-6bg381c", 64 * 1024),
    ("systolic-8x8", {}, "ecp5", "lfe5u-85f-6bg381c", 256 * 1024),
    ("systolic-fpga-4x4", {}, "gowin", "gw2ar-lv18qn88c8/i7", 16 * 1024),
    ("systolic-fpga-4x4", TINY, "gowin", "gw2ar-lv18qn88c8/i7", 16 * 1024),
    ("systolic-fpga-4x4", TINY, "ice40", "ice40hx8k-ct256", 4 * 1024),
    ("systolic-fpga-4x4", TINY, "ice40", "ice40up5k-sg48", 4 * 1024),
)


def rows() -> list[dict[str, Any]]:
    """Return a row for each board; a design that does not fit its part is synthesized only."""
    table = []
    for preset, changes, target, name, memory in _CASES:
        part = part_named(target, name)
        config = dataclasses.replace(preset_named(preset), **changes)
        verilog = board_verilog(config, BoardConfig(memory_bytes=memory, clock_hz=part.clock_hz))
        try:
            found = implement(verilog, BOARD_TOP, part)
        except DoesNotFit:
            found = implement(verilog, BOARD_TOP, part, FpgaOptions(route=False))
        table.append({
            "preset": preset + (" 2×2" if changes else ""), "part": name, "memory KiB": memory // 1024,
            **{resource: f"{found[resource]:,} / {found['available'][resource]:,}" for resource in RESOURCES},
            "Fmax MHz": found["fmax_mhz"] or "–", "synthesis s": found["synthesis_seconds"],
            "P&R s": found["route_seconds"] or "–"})
    return table
