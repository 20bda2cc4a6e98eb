"""Where sites are in the flat Verilog of a target, and what its memories hold at first."""

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from flows.fault.netlist.flat_verilog import FlatVerilog
from flows.fault.netlist.lowering import design_of
from flows.fault.netlist.sites import KINDS, Sites
from flows.fault.targets.target import Target

__all__ = ["PLACE", "Role", "check_names", "contents_of", "inputs_of", "memory_numbers", "padded", "places_of", "variables_of"]


class Role(IntEnum):
    """What a site's variable is."""

    STATE = 0           # a register or memory: an index of `variables_of`
    TAP = 1             # an input that is XORed into a bus: an index of `inputs_of`
    SABOTEUR = 2        # the first of a gate's three inputs, which invert, clear and set: an index of `inputs_of`


PLACE = np.dtype([("role", "<u4"), ("variable", "<u4"), ("index", "<u4"), ("low", "<u4")])
"""Where a site is: role, variable, word of it, and lowest bit in that word."""


def variables_of(flat: FlatVerilog) -> list[tuple[str, int, int]]:
    """Return (variable, width, depth) of all state: memories, then flip-flops, then registers of read ports."""
    memories = flat.memories.values()
    return [*((memory.variable, memory.width, memory.depth) for memory in memories),
            *((name, width, 1) for name, width in flat.flip_flops.values()),
            *((read, memory.width, 1) for memory in memories for read in memory.reads)]


def inputs_of(flat: FlatVerilog) -> list[tuple[str, int]]:
    """Return (port, width) of all inputs but clock and reset: the design's own, then the saboteurs'."""
    return [*((name, width) for name, width in flat.inputs.items() if name not in ("clk", "rst")),
            *((f"site_{what}_{index}", width) for index, width in flat.gates.values() for what in ("flip", "clear", "set"))]


def padded(words: npt.NDArray[np.uint32], width: int) -> npt.NDArray[np.uint32]:
    """Return rows of exactly `width` words."""
    found = np.zeros((len(words), width), np.uint32)
    found[:, :words.shape[1]] = words[:, :width]
    return found


def check_names(target: Target) -> None:
    """Check that the target's ports and memories are those of its netlist; see `Target.check_ports`."""
    design = design_of(target.rtlil, target.top)
    target.check_ports(design.inputs, design.outputs, {memory.path: (memory.depth, memory.chunks) for memory in design.memories})


def memory_numbers(target: Target) -> dict[str, int]:
    """Return memory path → its number in signatures."""
    return {memory.path: index for index, memory in enumerate(design_of(target.rtlil, target.top).memories)}


def contents_of(target: Target, flat: FlatVerilog, path: str) -> npt.NDArray[np.uint32]:
    """Return what a memory holds in cycle 0, shape (depth, 32-bit words)."""
    memory = flat.memories[path]
    words = -(-memory.width // 32)
    if path in target.contents:
        return padded(np.asarray(target.contents[path], np.uint32), words)
    if memory.init is None:
        return np.zeros((memory.depth, words), np.uint32)
    bits = np.frombuffer(memory.init.encode(), np.uint8)[::-1].reshape(memory.depth, memory.width) == ord("1")
    return np.packbits(np.pad(bits, ((0, 0), (0, 32 * words - memory.width))), axis=1, bitorder="little").view("<u4")


def _path(cell: str) -> str:
    """Return the path of a cell with the name that Yosys gives it when it flattens: `$flatten\\a.\\b.$7` → `a.b.$7`."""
    return cell.removeprefix("$flatten").replace("\\", "")


def places_of(sites: Sites, target: Target, flat: FlatVerilog) -> npt.NDArray[np.void]:
    """Return where each site is, as an array of PLACE: found by the cell of the netlist that it belongs to."""
    design = design_of(target.rtlil, target.top)
    memories = {_path(name): index for index, name in enumerate(flat.memories)}
    cells = {_path(name): index for index, name in enumerate(flat.flip_flops, len(memories))}
    reads = [f"{_path(name)}.read_{read.rsplit('_', 1)[1]}" for name, memory in flat.memories.items() for read in memory.reads]
    cells |= {name: index for index, name in enumerate(reads, len(memories) + len(cells))}
    inputs = {name: index for index, (name, _) in enumerate(inputs_of(flat))}
    lowest: dict[int, int] = {}         # of a register that is several cells, where this one begins
    for state in design.states:
        lowest[state.register] = min(state.low, lowest.get(state.register, state.low))
    gates = {_path(name): inputs[f"site_flip_{index}"] for name, (index, _) in flat.gates.items()}

    kinds, items = sites.table["kind"], sites.table["item"]
    found = np.zeros(len(sites), PLACE)
    found["low"] = sites.table["low"]
    chosen = kinds == KINDS.index("memory")
    found["variable"][chosen] = np.array([memories[memory.path] for memory in design.memories], np.uint32)[items[chosen]]
    found["index"][chosen] = sites.table["address"][chosen]
    for row in map(int, np.flatnonzero(~chosen)):
        match KINDS[kinds[row]]:
            case "ff":
                state = design.states[items[row]]
                register = design.registers[state.register]
                found[row] = Role.STATE, cells[register.cell or register.path], 0, state.low - lowest[state.register]
            case "bus":
                found[row] = Role.TAP, inputs[target.taps[sites.path(row)]], 0, sites.table["low"][row]
            case "gate":
                found[row] = Role.SABOTEUR, gates[design.gates[items[row]].path], 0, sites.table["low"][row]
    return found
