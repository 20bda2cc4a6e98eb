"""Memories of a design: which become flip-flops, which stay macros, and what a macro's area is taken to be."""

import re
from dataclasses import dataclass, field
from typing import Any

from flows.synth.technology import Technology

__all__ = ["Memory", "keep_macros", "stub", "write_enables"]

_MODULE = re.compile(r"^module (\S+)")
_MEMORY = re.compile(r"^  cell \$mem_v2 (\S+)")
_PARAMETER = re.compile(r"^    parameter (?:signed |real )?\\(\w+) (\S+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """A memory of one module.

    Attributes
    ----------
    module, name : str
    depth, width : int
        Words, and bits of a word.
    reads, writes : int
        Ports.
    clocked : bool
        Whether every read port is clocked, as a macro needs.
    macro : bool
        Whether it stays a macro; otherwise it becomes flip-flops and multiplexers.
    """

    module: str
    name: str
    depth: int
    width: int
    reads: int
    writes: int
    clocked: bool
    macro: bool

    @property
    def bits(self) -> int:
        """Bits in it."""
        return self.depth * self.width

    @property
    def cell(self) -> str:
        """Name of the macro: memories of one shape share it."""
        return f"memory_{self.depth}x{self.width}_{self.reads}r{self.writes}w"

    def area(self, technology: Technology, nand2: float) -> float:
        """Return the modelled area of a macro, in the unit of `nand2`, the area of a NAND2."""
        return technology.memory_area(self.depth, self.width, self.reads + self.writes) * nand2


@dataclass(slots=True)
class _Found:
    """Lines of one memory cell."""

    module: str
    name: str
    lines: list[str] = field(default_factory=list)
    parameters: dict[str, str] = field(default_factory=dict)

    def memory(self, threshold: int) -> Memory | None:
        """Return what it is; None for a table without write port, which is logic."""
        values = self.parameters
        depth, width = int(values["SIZE"]), int(values["WIDTH"])
        reads, writes = int(values["RD_PORTS"]), int(values["WR_PORTS"])
        if not writes:
            return None
        clocked = "0" not in values["RD_CLK_ENABLE"].split("'")[1]
        return Memory(module=self.module, name=self.name, depth=depth, width=width, reads=reads, writes=writes, clocked=clocked,
                      macro=clocked and depth * width >= threshold)


def keep_macros(rtlil: str, threshold: int) -> tuple[str, list[Memory]]:
    """Turn large clocked memories of a design into instances of macros.

    Parameters
    ----------
    rtlil : str
        After Yosys has collected memories (`memory -nomap`).
    threshold : int
        Bits from which on a memory stays a macro.

    Returns
    -------
    str
        The design, in which each such cell has become an instance of `Memory.cell`, with the same ports.
    list of Memory
        All memories that can be written, large and small, in the order of the design.
    """
    lines: list[str] = []
    memories: list[Memory] = []
    module, found = "", None
    for line in rtlil.splitlines():
        if found is None:
            if match := _MODULE.match(line):
                module = _plain(match[1])
            elif match := _MEMORY.match(line):
                found = _Found(module, _plain(match[1]))
        if found is None:
            lines.append(line)
            continue
        found.lines.append(line)
        if match := _PARAMETER.match(line):
            found.parameters[match[1]] = match[2]
        if line == "  end":
            memory = found.memory(threshold)
            if memory is not None:
                memories.append(memory)
            lines += found.lines if memory is None or not memory.macro else _instance(found, memory)
            found = None
    return "\n".join(lines) + "\n", memories


def _plain(name: str) -> str:
    return name.removeprefix("\\")


def _instance(found: _Found, memory: Memory) -> list[str]:
    kept = [line for line in found.lines if not _PARAMETER.match(line)]
    return [line.replace("cell $mem_v2 ", f"cell \\{memory.cell} ", 1) for line in kept]


def stub(memory: Memory) -> str:
    """Return the ports of a macro as a Verilog black box; they are those of Yosys' memory cell."""
    reads, writes, width, address = memory.reads, memory.writes, memory.width, max(1, (memory.depth - 1).bit_length())
    ports = [("input", "RD_CLK", reads), ("input", "RD_EN", reads), ("input", "RD_ARST", reads), ("input", "RD_SRST", reads),
             ("input", "RD_ADDR", reads * address), ("output", "RD_DATA", reads * width), ("input", "WR_CLK", writes),
             ("input", "WR_EN", writes * width), ("input", "WR_ADDR", writes * address), ("input", "WR_DATA", writes * width)]
    text = ", ".join(f"{direction} [{bits - 1}:0] {name}" for direction, name, bits in ports if bits)
    return f"(* blackbox *) module {memory.cell} ({text}); endmodule\n"



def write_enables(design: dict[str, Any], macros: set[str]) -> dict[str, int]:
    """Return how many write enables each macro has: bits of a word that are written together have one.

    Parameters
    ----------
    design : dict
        What Yosys' `write_json` says of the mapped design, where every bit has an enable.
    macros : set of str
        Names of macros.

    Returns
    -------
    dict of str to int
        Macro → the most that any of its instances has; a macro that is nowhere is left out.
    """
    enables: dict[str, int] = {}
    for module in design["modules"].values():
        for cell in module["cells"].values():
            if cell["type"] in macros:
                enables[cell["type"]] = max(enables.get(cell["type"], 1), len(set(cell["connections"].get("WR_EN", []))))
    return enables
