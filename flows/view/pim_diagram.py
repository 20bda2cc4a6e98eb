"""Block diagram of a pseudo-channel of a PIM logic die, from its config and the hierarchy, memories and ports of its Verilog."""

from typing import Any

from flows.view.blocks import Blocks, byte_size, draw_block
from flows.view.mesh import shown
from flows.view.pim_facts import facts_of
from flows.view.svg import Svg
from hw.pim.config import PimConfig
from hw.pim.isa import LOOP_DEPTH, MODIS
from hw.pim.units import COPY_OPCODES, missing_unit

__all__ = ["pim_block_diagram"]

_WIDTH, _LEFT, _COLUMN, _GAP = 1240, 130, 172, 30
_CONTROL, _UNITS, _BUFFERS, _ARRAY, _CHANNEL, _DRAM, _FACTS = 84, 252, 420, 548, 752, 878, 1000
_SLOTS = 8                  # commands that are drawn of a queue


def _x(column: float) -> float:
    return _LEFT + column * (_COLUMN + _GAP)


def _wide(columns: int) -> float:
    return columns * _COLUMN + (columns - 1) * _GAP


def pim_block_diagram(config: PimConfig, manifest: dict[str, Any], name: str) -> str:
    """Return the diagram as SVG text; the same text for the same arguments.

    Parameters
    ----------
    config : PimConfig
    manifest : dict
        `flows.pim.emit.PimEmission.manifest` of that config.
    name : str
        What the title calls it.
    """
    blocks = Blocks(manifest)
    facts = facts_of(config, manifest)
    svg = Svg(_WIDTH, _FACTS + 30 + 22 * ((len(facts) + 1) // 2) + 34, f"Block diagram of {name}")
    svg.text(_LEFT, 34, name, size=21, bold=True)
    svg.text(_LEFT, 56, f"config {config.digest()} · one of {config.n_pch} pseudo-channels · {config.lanes} lanes × "
             f"{config.rows_x} rows of X · {config.wtype} × {config.xtype} → {config.acc} · {len(manifest['modules'])} modules",
             size=13, color="muted")
    _control(svg, config, blocks, manifest["commands"])
    _units(svg, config, blocks)
    _buffers(svg, config, blocks)
    _array(svg, config, blocks)
    _channel(svg, config, blocks)
    _dram(svg, config)
    _streams(svg, config, blocks)
    for index, (label, value) in enumerate(facts):
        column, row = divmod(index, (len(facts) + 1) // 2)
        svg.text(_x(2.55 * column), _FACTS + 36 + 22 * row, label, size=12, color="muted")
        svg.text(_x(2.55 * column) + 170, _FACTS + 36 + 22 * row, value, size=12)
    svg.text(_LEFT, _FACTS + 10, "Sizes and rates", size=14, bold=True)
    for index, (hue, label) in enumerate((("sequencer", "control"), ("fetch", "I/O queue"), ("matrix", "compute"),
                                          ("memory", "memory"), ("load", "DRAM to MACs"), ("store", "to DRAM"))):
        svg.rect(_LEFT + 120 * index, svg.height - 24, 14, 10, fill=hue, stroke="none", radius=2)
        svg.text(_LEFT + 120 * index + 20, svg.height - 15, label, size=11.5)
    return svg.to_text()


def _control(svg: Svg, config: PimConfig, blocks: Blocks, commands: int) -> None:
    y = _CONTROL
    svg.rect(_LEFT, y, _wide(5), 132, fill="panel", stroke="sequencer", radius=6, stroke_width=1.5)
    svg.rect(_LEFT, y, _wide(5), 5, fill="sequencer", stroke="none", radius=2)
    svg.text(_LEFT + 10, y + 25, "Control", size=14, bold=True)
    svg.text(_LEFT + _wide(5) - 8, y + 20, f"{blocks.module('sequencer')} · {blocks.module('scoreboard')}", size=9, color="muted",
             anchor="end")
    order = "shared entries wait" if config.dcs else "in the order of the list"
    for column, (title, line) in enumerate((
            ("List memory", f"{commands} × 64 b"), ("Sequencer", f"{LOOP_DEPTH} loops · {MODIS} MODIs"),
            ("Footprint", "entries of a command"), ("Scoreboard", order))):
        at = _x(column * 1.25)
        svg.rect(at + 10, y + 38, _COLUMN - 20, 46, fill="ground", radius=4)
        svg.text(at + 20, y + 57, title, size=12, bold=True)
        svg.text(at + 20, y + 74, line, size=11, color="muted")
        if column:
            svg.line([(_x((column - 1) * 1.25) + _COLUMN - 10, y + 61), (at + 9, y + 61)], stroke="muted", arrow=True)
    for at, hue, title in ((_x(0) + 10, "fetch", "I/O queue"), (_x(3) + 10, "matrix", "compute queue")):
        svg.text(at, y + 116, title, size=12, bold=True, color=hue)
        for slot in range(_SLOTS):
            svg.rect(at + 110 + 14 * slot, y + 104, 11, 14, fill=hue, tint=0.25, stroke=hue)


def _units(svg: Svg, config: PimConfig, blocks: Blocks) -> None:
    word = blocks.ports["host_in__payload"]
    present = {name: blocks.module(name) for name in ("io", "softmax", "activation", "place", "jobs")}
    softmax = [f"{config.sm_lanes} score{'s' * (config.sm_lanes > 1)} of a row a cycle", f"(m, l) of {config.heads} heads",
               "merges parts"]
    units: tuple[tuple[str, str, list[str], str], ...] = (
        ("io", "I/O unit", [f"host words of {word} b", "slices in, entries both ways"], "fetch"),
        ("softmax", "Softmax unit", softmax, "fetch"),
        ("activation", "Activation unit", ["SiLU, GELU, gated", f"{config.rows_x} rows at once"], "fetch"),
        ("place", "KV place", ["set, row, column", "of a head's next token"] if not missing_unit(config, COPY_OPCODES[2]) else
         ["appends nothing:", "X is not as wide as K"], "matrix"),
        ("jobs", "Job maker", ["bursts of a row as jobs", "ACT, PRE, REF of a list"], "matrix"))
    for column, (key, title, lines, hue) in enumerate(units):
        if present[key]:
            draw_block(svg, _x(column), _UNITS, _COLUMN, 108, title, lines, hue, present[key])
        else:
            svg.rect(_x(column), _UNITS, _COLUMN, 108, fill="ground", stroke="line", radius=6)
            svg.text(_x(column) + _COLUMN / 2, _UNITS + 58, f"no {title[0].lower()}{title[1:]}", size=12, color="muted",
                     anchor="middle")
            continue
        middle = _x(column) + _COLUMN / 2
        svg.line([(middle, _CONTROL + 132), (middle, _UNITS - 1)], stroke=hue, arrow=True)


def _buffers(svg: Svg, config: PimConfig, blocks: Blocks) -> None:
    slices, stored = config.xbuf_entries, blocks.memories("channel.compute.x_buffer")[1]
    draw_block(svg, _x(0), _BUFFERS, _wide(2), 78, "X buffer",
               [f"{slices} slices of {config.rows_x} × {config.width} {config.xtype}: {byte_size(stored)}",
                f"two halves of {config.k_tile} elements of K"], "memory", blocks.module("channel.compute.x_buffer"))
    stored, outputs = blocks.memories("channel.compute.output_")[1], f"{config.segments} × " if config.segments > 1 else ""
    draw_block(svg, _x(2), _BUFFERS, _wide(2), 78, "Output buffer",
               [f"{config.obuf_entries} entries of {config.rows_x} × {outputs}32 b: {byte_size(stored)}",
                f"{config.wide_entries} of them with all {config.width} words (BCAST)"], "memory",
               blocks.module("channel.compute.output_"))


def _array(svg: Svg, config: PimConfig, blocks: Blocks) -> None:
    """Draw the MAC array: lanes along, rows of X down, a tree below."""
    y, sums = _ARRAY, f"{config.segments} sums" if config.segments > 1 else "one sum"
    draw_block(svg, _x(0), y, _wide(4), 158, "MAC array",
               [f"{config.lanes} lanes × {config.rows_x} rows of X", f"{config.wtype} × {config.xtype}",
                f"sums of {config.acc} in {config.n_acc_slots} slots", f"TREE: lanes along K, {sums} a row",
                "BCAST: lanes along N, a sum a lane"], "matrix", blocks.module("channel.compute.array"))
    lanes, rows = shown(config.lanes), shown(config.rows_x)
    cell, left = 34.0, _x(1.35)
    high = min(12.0, 72 / len(rows))
    for i, row in enumerate(rows):
        for j, lane in enumerate(lanes):
            at = left + j * cell
            if row is None or lane is None:
                svg.circle(at + cell / 2, y + 22 + (i + 0.5) * high, 1.3, fill="muted")
            else:
                svg.rect(at + 2, y + 22 + i * high + 1, cell - 4, high - 2, fill="matrix", tint=0.3, stroke="matrix", radius=2,
                         tip=f"lane {lane}, row {row}")
    svg.text(left + cell * len(lanes) + 8, y + 34, "×, +", size=12, color="matrix")
    points = [left + (j + 0.5) * cell for j in range(len(lanes))]
    level = y + 26 + high * len(rows)
    while len(points) > 1:
        joined = []
        for first, second in zip(points[::2], points[1::2], strict=False):
            middle = (first + second) / 2
            svg.line([(first, level), (middle, level + 11)], stroke="matrix", width=1)
            svg.line([(second, level), (middle, level + 11)], stroke="matrix", width=1)
            joined.append(middle)
        points, level = joined + points[2 * len(joined):], level + 13
    svg.circle(points[0], level + 2, 4, fill="matrix", tip="one sum for each row of X")


def _channel(svg: Svg, config: PimConfig, blocks: Blocks) -> None:
    depth = blocks.memories("channel.skid")[1]
    draw_block(svg, _x(0), _CHANNEL, _wide(2), 84, "Weight skid",
               [f"{8 * config.burst_bytes * config.streams} b in, {config.lanes * config.weight_bits} b a cycle out"
                + (f" · {byte_size(depth)}" if depth else ""), "a place for every burst on its way: DRAM cannot wait"], "load",
               blocks.module("channel.skid"))
    draw_block(svg, _x(2), _CHANNEL, _wide(2), 84, "Store unit",
               ["slices of X to DRAM: WRCP, K and V of new tokens" if config.stores_x else "none: X is not as wide as weights"],
               "store", blocks.module("channel.store"))
    draw_block(svg, _x(4), _ARRAY, _COLUMN, 158, "Row engine",
               ["ACT, PRE ahead of bursts", f"{config.bundles} bundle{'s in turn' if config.bundles > 1 else ''}",
                f"refresh: {config.refresh}", "RCD, RP, RAS, RTP, FAW …", "a phase of each cycle"], "matrix",
               blocks.module("channel.row_engine"))


def _dram(svg: Svg, config: PimConfig) -> None:
    y, width = _DRAM, _wide(5)
    svg.rect(_LEFT, y, width, 82, fill="panel", stroke="memory", radius=6, stroke_width=1.5)
    svg.rect(_LEFT, y, width, 5, fill="memory", stroke="none", radius=2)
    svg.text(_LEFT + 10, y + 25, "DRAM", size=14, bold=True)
    svg.text(_LEFT + 70, y + 25, f"{config.timing}: {config.dram.all_banks} banks in {config.row_sets} sets of "
             f"{config.streams * config.stripes}, {config.dram_rows:,} rows of {byte_size(config.row_bytes)} a set", size=11.5)
    svg.text(_LEFT + width - 8, y + 20, "outside the die's Verilog: a port of commands", size=9, color="muted", anchor="end")
    sets = shown(config.row_sets)
    step = (width - 20) / len(sets)
    for index, number in enumerate(sets):
        if number is None:
            svg.circle(_LEFT + 10 + (index + 0.5) * step, y + 54, 2, fill="muted")
        else:
            svg.rect(_LEFT + 10 + index * step, y + 36, step - 6, 38, fill="memory", tint=0.18, stroke="memory", radius=3)
            svg.text(_LEFT + 7 + (index + 0.5) * step, y + 59, f"set {number}", size=10.5, color="muted", anchor="middle")


def _streams(svg: Svg, config: PimConfig, blocks: Blocks) -> None:
    """Draw what flows between the blocks, and the external ports."""
    low = float(_UNITS + 108)
    _link(svg, _x(0) + 40, low, _BUFFERS, "fetch", "slices in", down=True)
    if blocks.module("softmax"):
        _link(svg, _x(1) + 30, low, _BUFFERS, "fetch", "weights", down=True)
    if blocks.module("activation"):
        turn: list[tuple[float, float]] = [(_x(2) + 24, low), (_x(2) + 24, low + 22), (_x(1) + 150, low + 22),
                                           (_x(1) + 150, _BUFFERS - 1)]
        svg.line(turn, stroke="fetch", arrow=True, width=2)
    _link(svg, _x(2) + 120, low, _BUFFERS, "fetch", "entries, to and from these units", down=False)
    _link(svg, _x(0) + 120, _BUFFERS + 78, _ARRAY, "matrix", "a slice (TREE) or an element (BCAST) of each row", down=True)
    _link(svg, _x(3) + 60, _BUFFERS + 78, _ARRAY, "matrix", "sums", down=False)
    _link(svg, _x(0) + 120, _ARRAY + 158, _CHANNEL, "load", f"{config.lanes} weights a cycle", down=False)
    _link(svg, _x(0) + 120, _CHANNEL + 84, _DRAM, "load",
          f"{config.streams} × {config.burst_bytes} B every {config.interval} clocks", down=False)
    _link(svg, _x(2) + 120, _CHANNEL + 84, _DRAM, "store", f"{blocks.ports['dram__wdata']} b, WR", down=True)
    svg.line([(_x(4) + 60, low), (_x(4) + 60, _ARRAY - 1)], stroke="matrix", arrow=True, width=2)
    svg.text(_x(4) + 68, (low + _ARRAY) / 2, "jobs", size=10.5, color="matrix")
    right = _x(3) + _COLUMN - 30
    svg.line([(_x(4) + 60, _ARRAY - 20), (right, _ARRAY - 20), (right, _ARRAY - 1)], stroke="matrix", arrow=True, width=2)
    svg.line([(_x(4) + 60, _ARRAY + 158), (_x(4) + 60, _DRAM - 1)], stroke="matrix", arrow=True, width=2)
    svg.text(_x(4) + 68, _CHANNEL + 30, "ACT PRE REF", size=10.5, color="matrix")
    svg.text(_x(4) + 68, _CHANNEL + 44, "RD MAC WR", size=10.5, color="matrix")
    word = blocks.ports["host_in__payload"]
    for at, label, line, inwards in ((_CONTROL + 61, "write, go", "64 b", True), (_UNITS + 34, "host_in", f"{word} b", True),
                                     (_UNITS + 80, "host_out", f"{word} b", False)):
        ends: list[tuple[float, float]] = [(14, at), (_LEFT - 1, at)] if inwards else [(_LEFT, at), (16, at)]
        svg.line(ends, stroke="fetch", arrow=True, width=2)
        svg.text(14, at - 8, label, size=13, bold=True)
        svg.text(14, at + 15, line, size=10.5, color="muted")
    right = _LEFT + _wide(5)
    svg.line([(right, _CONTROL + 61), (right + 62, _CONTROL + 61)], stroke="sequencer", arrow=True, width=2)
    svg.text(right + 8, _CONTROL + 80, "busy, error", size=11.5, bold=True)


def _link(svg: Svg, x: float, upper: float, lower: float, hue: str, label: str, *, down: bool) -> None:
    svg.line([(x, upper), (x, lower - 1)] if down else [(x, lower), (x, upper + 1)], stroke=hue, arrow=True, width=2)
    svg.text(x + 8, (upper + lower) / 2 + 4, label, size=10.5, color=hue)
