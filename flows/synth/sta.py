"""Static timing and power by OpenSTA, where it is installed."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.synth.generic import LIBERTY_HEAD
from flows.synth.liberty import Liberty
from flows.synth.memories import Memory
from flows.toolchain import ToolError

__all__ = ["Timing", "analyse", "memory_liberty"]

_SECONDS = 1800


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """What OpenSTA found.

    Attributes
    ----------
    slack_ns, fmax_mhz : float
        Of the slowest path, at the clock that was asked for.
    path : dict
        `start`, `end`: instance or port; `levels`: cells on the path; `cells`: their instances, first to last.
    power_mw : dict or None
        `internal`, `switching`, `leakage`, `total`; None where OpenSTA could not tell, or the library states none.
    """

    slack_ns: float
    fmax_mhz: float
    path: dict[str, Any]
    power_mw: dict[str, float] | None


def memory_liberty(memories: list[Memory], access_ns: float, capacitance: float, enables: dict[str, int]) -> str:
    """Return a cell library of macros: data come `access_ns` after the clock, inputs need no set-up time.

    A macro has one input for each of its write enables, the cell of the netlist one for each bit: these share its capacitance.

    Parameters
    ----------
    memories : list of Memory
    access_ns : float
    capacitance : float
        Of an input in pF.
    enables : dict of str to int
        Macro → its write enables, as `write_enables` counts them; without an entry, one for each bit.
    """
    cells = {memory.cell: _macro(memory, access_ns, capacitance, enables.get(memory.cell)) for memory in memories if memory.macro}
    return "\n".join(["library (memories) {", *LIBERTY_HEAD, *_types(memories), *cells.values(), "}", ""])


def _ports(memory: Memory) -> list[tuple[str, str, int]]:
    """Return name, kind and bits of every port."""
    reads, writes, address = memory.reads, memory.writes, max(1, (memory.depth - 1).bit_length())
    ports = [("RD_CLK", "clock", reads), ("RD_EN", "input", reads), ("RD_ARST", "input", reads), ("RD_SRST", "input", reads),
             ("RD_ADDR", "input", reads * address), ("RD_DATA", "output", reads * memory.width), ("WR_CLK", "clock", writes),
             ("WR_EN", "input", writes * memory.width), ("WR_ADDR", "input", writes * address),
             ("WR_DATA", "input", writes * memory.width)]
    return [port for port in ports if port[2]]


def _types(memories: list[Memory]) -> list[str]:
    widths = sorted({bits for memory in memories if memory.macro for _, _, bits in _ports(memory)})
    return [f"  type (bus{bits}) {{ base_type : array; data_type : bit; bit_width : {bits}; bit_from : {bits - 1}; bit_to : 0;"
            " downto : true; }" for bits in widths]


def _macro(memory: Memory, access_ns: float, capacitance: float, enables: int | None) -> str:
    lines = [f"  cell ({memory.cell}) {{", "    area : 0;"]
    for name, kind, bits in _ports(memory):
        body = f"bus_type : bus{bits}; direction : {'output' if kind == 'output' else 'input'};"
        clock = f"{name[:2]}_CLK"
        if kind == "output":
            scalar = f'cell_rise (scalar) {{ values ("{access_ns}"); }} cell_fall (scalar) {{ values ("{access_ns}"); }}'
            slew = 'rise_transition (scalar) { values ("0.02"); } fall_transition (scalar) { values ("0.02"); }'
            body += f' timing () {{ related_pin : "{clock}[0]"; timing_type : rising_edge; {scalar} {slew} }}'
        else:
            share = enables / bits if name == "WR_EN" and enables is not None else 1.0
            body += f" capacitance : {capacitance * share:.6g};"
            if kind == "clock":
                body += " clock : true;"
            else:
                zero = 'rise_constraint (scalar) { values ("0.0"); } fall_constraint (scalar) { values ("0.0"); }'
                body += f' timing () {{ related_pin : "{clock}[0]"; timing_type : setup_rising; {zero} }}'
        lines.append(f"    bus ({name}) {{ {body} }}")
    return "\n".join([*lines, "  }"])


def analyse(sta: str, folder: Path, *, top: str, liberty: Liberty, clock_ns: float, activity: float,
            inputs: list[str], clock_port: bool) -> Timing | None:
    """Run OpenSTA on cells.lib, memories.lib and netlist.v of a folder.

    Parameters
    ----------
    sta : str
        The program.
    folder : Path
    top : str
    liberty : Liberty
        For the driver of inputs and the load of outputs.
    clock_ns : float
    activity : float
        Transitions of every net per clock cycle, for power. (OpenSTA 2.0 crashes over large designs when it is to work out
        activities from those of the inputs.)
    inputs : list of str
        Input ports other than the clock, which is ideal: a driver would make it as slow as its load.
    clock_port : bool
        Whether the module has a port `clk`; otherwise paths run between inputs and outputs.

    Returns
    -------
    Timing or None
        None if it has no constrained path.

    Raises
    ------
    ToolError
        If it does not report a path, or not in time.
    """
    clock = f"create_clock -name clk -period {clock_ns}" + (" [get_ports clk]" if clock_port else "")
    common = ["read_liberty cells.lib", "read_liberty memories.lib", "read_verilog netlist.v", f"link_design {{{top}}}", clock,
              "set_output_delay 0 -clock clk [all_outputs]", f"set_load {liberty.load:.6g} [all_outputs]"]
    if inputs:
        ports = f"[get_ports {{{' '.join(inputs)}}}]"
        common += [f"set_input_delay 0 -clock clk {ports}", f"set_driving_cell -lib_cell {liberty.driver.name} {ports}"]
    said = _run(sta, folder, "timing", [*common, "report_checks -path_delay max -format full -digits 4"])
    slack = re.search(r"(-?\d+\.\d+)\s+slack \(", said)
    if slack is None:
        if "No paths found" in said:
            return None
        raise ToolError(f"OpenSTA must report a path, not {(said.strip().splitlines() or ['nothing'])[-1][:200]!r}")
    found = float(slack[1])
    ends = [re.search(rf"^{name}point: (\S+)", said, re.MULTILINE) for name in ("Start", "End")]
    pins = re.findall(r"^\s*-?\d+\.\d+\s+-?\d+\.\d+ [\^v] (\S+)/\S+ \(", said, re.MULTILINE)
    cells = list(dict.fromkeys(pins))       # a cell's clock and output are two lines
    return Timing(slack_ns=found, fmax_mhz=1000 / (clock_ns - found) if clock_ns > found else float("inf"),
                  path={"start": ends[0][1] if ends[0] else "", "end": ends[1][1] if ends[1] else "", "levels": len(cells),
                        "cells": cells},
                  power_mw=_power(sta, folder, [*common, f"set_power_activity -global -activity {activity}"]))


def _power(sta: str, folder: Path, common: list[str]) -> dict[str, float] | None:
    """Return the power of the netlist; in a process of its own, since OpenSTA 2.0 can crash over it."""
    said = _run(sta, folder, "power", [*common, "report_power -digits 6"])
    total = re.search(r"^Total\s+(\S+)\s+(\S+)\s+(\S+)\s+(\S+)", said, re.MULTILINE)
    if total is None or float(total[4]) == 0:       # a library may state delays and no power
        return None
    return {name: float(total[i + 1]) * 1000 for i, name in enumerate(("internal", "switching", "leakage", "total"))}


def _run(sta: str, folder: Path, name: str, script: list[str]) -> str:
    (folder / f"{name}.tcl").write_text("\n".join(script) + "\n")
    try:
        done = subprocess.run([sta, "-no_splash", "-exit", f"{name}.tcl"], cwd=folder, capture_output=True, encoding="utf-8",
                              errors="replace", timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ToolError(f"OpenSTA must finish within {_SECONDS} s") from None
    said = done.stdout + done.stderr
    (folder / f"{name}.txt").write_text(said)
    return said
