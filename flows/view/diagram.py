"""Block diagram of an accelerator, from its config and the hierarchy, memories and ports of its Verilog."""

from typing import Any

from flows.view.blocks import Blocks, byte_size, draw_block
from flows.view.mesh import draw_mesh
from flows.view.svg import Svg
from hw.config import AcceleratorConfig
from hw.isa import LOOP_DEPTH, REGISTERS, SEMAPHORES, Unit
from hw.regs import counters_of
from hw.timing import FETCH_LINE_BYTES

__all__ = ["block_diagram"]

_WIDTH, _LEFT, _COLUMN, _GAP = 1240, 130, 172, 30
_CONTROLLER, _UNITS, _MEMORY, _INSET = 92, 318, 516, 660
_UNIT_HEIGHT = 126
_PLACES = {"load": 0, "engine": 1, "accumulator": 2, "vector": 3, "store": 4}
_VECTOR_WORDS = {"requantize": ("bias, scale, ReLU", "requantize to int8"),
                 "transformer": ("exp2, sigmoid, normal, 1/x", "row sums and maxima")}
_VECTOR_STREAMS = {"requantize": ("parameters", "write {lanes} × 8 b"), "transformer": ("rows A, B, C", "write {lanes} × ≤ 32 b")}
_HUE = {"load": "load", "engine": "matrix", "accumulator": "memory", "vector": "vector", "store": "store", "scratchpad": "memory"}
_DRAWN = {*_PLACES, "controller", "arbiter", "scratchpad"}


def _x(column: int) -> float:
    return _LEFT + column * (_COLUMN + _GAP)


def block_diagram(config: AcceleratorConfig, manifest: dict[str, Any], name: str) -> str:
    """Return the diagram as SVG text; the same text for the same arguments.

    Parameters
    ----------
    config : AcceleratorConfig
    manifest : dict
        `flows.emit.Emission.manifest` of that config.
    name : str
        What the title calls it.
    """
    blocks = Blocks(manifest)
    further = [child for child in blocks.children if child not in _DRAWN]
    height = _INSET + 316 + (46 if further else 0)
    svg = Svg(_WIDTH, height, f"Block diagram of {name}")
    svg.text(_LEFT, 34, name, size=21, bold=True)
    svg.text(_LEFT, 56, f"config {config.digest()} · {config.rows}×{config.columns} {config.pe} · "
             f"{config.activation_format} × {config.weight_format} → int{config.acc_width} · "
             f"{config.peak_macs_per_cycle:,} MACs/cycle · {len(manifest['modules'])} modules", size=13, color="muted")
    _controller(svg, config, blocks)
    _units(svg, config, blocks)
    _scratchpad(svg, config, blocks)
    _streams(svg, config, blocks)
    draw_mesh(svg, config, _LEFT, _INSET)
    _facts(svg, config)
    if further:
        svg.text(_LEFT, height - 22, "further blocks: " + ", ".join(f"{c} ({blocks.children[c]})" for c in further), size=12)
    return svg.to_text()


def _controller(svg: Svg, config: AcceleratorConfig, blocks: Blocks) -> None:
    width = 5 * _COLUMN + 4 * _GAP
    y = _CONTROLLER
    svg.rect(_LEFT, y, width, 172, fill="panel", stroke="sequencer", radius=6, stroke_width=1.5)
    svg.rect(_LEFT, y, width, 5, fill="sequencer", stroke="none", radius=2)
    svg.text(_LEFT + 10, y + 25, "Controller", size=14, bold=True)
    svg.text(_LEFT + width - 8, y + 20, blocks.children["controller"], size=9, color="muted", anchor="end")
    for column, (title, line) in enumerate((
            ("Instruction fetch", f"cache {config.command_lines} × {FETCH_LINE_BYTES} B"),
            ("Sequencer", f"{REGISTERS} registers · {LOOP_DEPTH} loops"),
            ("Semaphores", f"{SEMAPHORES} counting"),
            ("Supervisor", "errors · watchdog"),
            ("Registers", f"AXI4-Lite · {len(counters_of(config.engine_counters))} counters"))):
        svg.rect(_x(column) + 10, y + 38, _COLUMN - 20, 46, fill="ground", radius=4)
        svg.text(_x(column) + 20, y + 57, title, size=12, bold=True)
        svg.text(_x(column) + 20, y + 74, line, size=11, color="muted")
    for unit, column in zip(Unit, (0, 1, 3, 4), strict=True):
        name, x = unit.name.lower(), _x(column) + 10
        svg.rect(x, y + 108, _COLUMN - 20, 50, fill="ground", stroke=name, radius=4)
        svg.text(x + 10, y + 127, f"{name} queue", size=12, bold=True, color=name)
        for slot in range(config.queue_depth):
            step = min(16.0, (_COLUMN - 40) / config.queue_depth)
            svg.rect(x + 10 + slot * step, y + 136, step - 3, 12, fill=name, tint=0.25, stroke=name)
    for column in (0, 1, 3, 4):
        x = _x(column) + _COLUMN / 2
        svg.line([(x, y + 158), (x, _UNITS - 1)], stroke="muted", arrow=True)
        svg.text(x + 7, _UNITS - 26, "commands", size=10.5, color="muted")
    bus = y + 96
    svg.line([(_x(0) + _COLUMN - 10, y + 61), (_x(1) + 9, y + 61)], stroke="fetch", arrow=True, width=2)
    svg.line([(_x(0) + _COLUMN / 2, bus), (_x(4) + _COLUMN / 2, bus)], stroke="muted")
    svg.line([(_x(1) + _COLUMN / 2, y + 84), (_x(1) + _COLUMN / 2, bus)], stroke="muted")
    for column in (0, 1, 3, 4):
        svg.line([(_x(column) + _COLUMN / 2, bus), (_x(column) + _COLUMN / 2, y + 107)], stroke="muted", arrow=True)
    svg.text(_x(2) + _COLUMN / 2, bus + 16, "descriptors, at GO", size=10.5, color="muted", anchor="middle")


def _units(svg: Svg, config: AcceleratorConfig, blocks: Blocks) -> None:
    arrays, stored = blocks.memories("accumulator")
    children = blocks.children
    lines = {
        "load": ("Load unit", [f"bursts of ≤ {config.burst_beats} beats", f"{config.outstanding_reads} reads in flight",
                               "2-D blocks, transposes"]),
        "engine": (f"{config.engine.capitalize()} engine",
                   [f"{config.rows}×{config.columns} {config.pe} PEs, {' + '.join(flow.upper() for flow in config.dataflows)}",
                    f"{config.activation_format} × {config.weight_format}", f"psum {config.psum_width} bits"]),
        "accumulator": ("Accumulator", [f"{config.accumulator_rows:,} rows × {config.columns} × {config.acc_width} b",
                                        f"{byte_size(stored)} in {arrays} banks", "adds and saturates"]),
        "vector": ("Vector unit", [f"{config.vector_lanes} float32 lanes", *_VECTOR_WORDS[config.vector]]),
        "store": ("Store unit", [f"bursts of ≤ {config.burst_beats} beats", "2-D blocks, byte strobes"]),
    }
    for block, (title, words) in lines.items():
        if block in children:
            draw_block(svg, _x(_PLACES[block]), _UNITS, _COLUMN, _UNIT_HEIGHT, title, words, _HUE[block], children[block])


def _scratchpad(svg: Svg, config: AcceleratorConfig, blocks: Blocks) -> None:
    width = 5 * _COLUMN + 4 * _GAP
    banks, stored = blocks.memories("scratchpad")
    svg.rect(_LEFT, _MEMORY, width, 92, fill="panel", stroke="memory", radius=6, stroke_width=1.5)
    svg.rect(_LEFT, _MEMORY, width, 5, fill="memory", stroke="none", radius=2)
    svg.text(_LEFT + 10, _MEMORY + 25, "Scratchpad", size=14, bold=True)
    svg.text(_LEFT + 110, _MEMORY + 25, f"{byte_size(stored)} in {banks} banks of {byte_size(stored // banks)}, each 1 read + 1 "
             f"write a cycle; lines of {config.line_bytes} B", size=11.5)
    svg.text(_LEFT + width - 8, _MEMORY + 20, blocks.children["scratchpad"], size=9, color="muted", anchor="end")
    step = (width - 20) / banks
    for bank in range(banks):
        svg.rect(_LEFT + 10 + bank * step, _MEMORY + 38, step - min(6, step / 4), 42, fill="memory", tint=0.18, stroke="memory",
                 radius=3)
        if step > 40:
            svg.text(_LEFT + 10 + bank * step + (step - 6) / 2, _MEMORY + 63, f"bank {bank}", size=10.5, color="muted",
                     anchor="middle")


def _streams(svg: Svg, config: AcceleratorConfig, blocks: Blocks) -> None:
    """Draw what flows between the blocks, and the external ports."""
    low, high, middle = _UNITS + _UNIT_HEIGHT, _MEMORY, _UNITS + 62
    bits, slots = f"{config.bus_width} b", config.line_bytes * 8
    read, written = _VECTOR_STREAMS[config.vector]
    for column, at, down, hue, label in (
            (0, 0.5, True, "load", f"write {bits}"),
            (1, 0.22, False, "matrix", f"act. {config.rows} × {config.activation.bits} b"),
            (1, 0.78, False, "matrix", f"weight {config.columns} × {config.weight.bits} b"),
            (3, 0.22, False, "vector", read), (3, 0.78, True, "vector", written.format(lanes=config.vector_lanes)),
            (4, 0.5, False, "store", f"read {slots} b")):
        x = _x(column) + at * _COLUMN
        svg.line([(x, low), (x, high - 1)] if down else [(x, high), (x, low + 1)], stroke=hue, arrow=True, width=2)
        svg.text(x + 7, (low + high) / 2 + 4, label, size=10.5, color=hue)
    svg.line([(_x(1) + _COLUMN, middle), (_x(2) - 1, middle)], stroke="matrix", arrow=True, width=2)
    svg.line([(_x(2) + _COLUMN, middle), (_x(3) - 1, middle)], stroke="vector", arrow=True, width=2)
    right = _x(4) + _COLUMN
    top, data = _CONTROLLER + 61, blocks.ports["s_axil_wdata"]
    svg.line([(right + 84, top - 8), (right - 9, top - 8)], stroke="sequencer", arrow=True, width=2)
    svg.text(right + 88, top - 30, "s_axil", size=13, bold=True, anchor="end")
    svg.text(right + 88, top - 15, f"AXI4-Lite, {data} b", size=10.5, color="muted", anchor="end")
    svg.line([(right - 10, top + 10), (right + 84, top + 10)], stroke="sequencer", arrow=True, width=2)
    svg.text(right + 88, top + 28, "irq", size=13, bold=True, anchor="end")
    svg.rect(14, middle - 30, 84, 60, fill="panel", stroke="fetch", radius=6, stroke_width=1.5)     # where the bus comes in
    svg.text(56, middle - 4, "Read", size=12, bold=True, anchor="middle")
    svg.text(56, middle + 12, "arbiter", size=12, bold=True, anchor="middle")
    svg.line([(98, middle), (_LEFT - 1, middle)], stroke="load", arrow=True, width=2)
    svg.line([(56, middle - 30), (56, top), (_LEFT + 9, top)], stroke="fetch", arrow=True, width=2)
    svg.text(49, (top + middle) / 2, "instructions", size=10.5, color="fetch", anchor="middle", turn=-90)
    svg.line([(56, high + 20), (56, middle + 31)], stroke="load", arrow=True, width=2)
    svg.text(14, high + 40, "m_axi R", size=13, bold=True)
    svg.text(14, high + 56, f"AXI4, {blocks.ports['m_axi_rdata']} b", size=10.5, color="muted")
    svg.line([(right, middle), (right + 84, middle)], stroke="store", arrow=True, width=2)
    svg.text(right + 88, middle - 24, "m_axi W", size=13, bold=True, anchor="end")
    svg.text(right + 88, middle - 9, f"AXI4, {blocks.ports['m_axi_wdata']} b", size=10.5, color="muted", anchor="end")


def _facts(svg: Svg, config: AcceleratorConfig) -> None:
    """Write the geometry beside the array."""
    x, y = _x(2) + 116, _INSET + 4
    svg.text(x, y + 10, "Geometry", size=14, bold=True)
    rows = (
        ("peak", f"{config.peak_macs_per_cycle:,} MACs/cycle"),
        ("bus", f"{config.beat_bytes} B/cycle read and {config.beat_bytes} B/cycle written"),
        ("activation slot", f"{config.rows} × {config.activation_format} in {config.activation_slot_bytes} B"),
        ("weight slot", f"{config.columns} × {config.weight_format} in {config.weight_slot_bytes} B"),
        *([("packed weights", ", ".join(config.weight_formats))] if config.weight_formats else []),
        ("output slot", f"{config.columns} × int8 in {config.output_slot_bytes} B"),
        ("scratchpad", f"{config.scratchpad_lines:,} lines of {config.line_bytes} B"),
        ("accumulator", f"{config.accumulator_banks} banks of {config.accumulator_bank_rows:,} rows"),
        ("psum", f"{config.psum_width} bits" + (f", exact for {config.rows} rows" if config.engine_model == "systolic" else "")
         + (f" and {config.os_depth} OS steps" if "os" in config.dataflows else "")),
        ("queues", f"4 × {config.queue_depth} commands, {SEMAPHORES} semaphores"),
    )
    for index, (name, value) in enumerate(rows):
        svg.text(x, y + 36 + 22 * index, name, size=12, color="muted")
        svg.text(x + 130, y + 36 + 22 * index, value, size=12)
    y += 36 + 22 * len(rows) + 8
    for index, (hue, label) in enumerate((("load", "load"), ("matrix", "matrix"), ("vector", "vector"), ("store", "store"),
                                          ("fetch", "instructions"), ("memory", "memory"), ("sequencer", "control"))):
        at = x + (index % 4) * 120
        svg.rect(at, y + 22 * (index // 4) - 9, 14, 10, fill=hue, stroke="none", radius=2)
        svg.text(at + 20, y + 22 * (index // 4), label, size=11.5)
