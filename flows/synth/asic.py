"""ASIC synthesis: area by block, logic depth, timing and power of a design in a cell library, post-synthesis and pre-layout."""

import difflib
import json
import re
import time
from collections import Counter
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from flows.cache import cached_folder, key_of
from flows.emit import to_verilog
from flows.synth.generic import GENERIC_NAME
from flows.synth.liberty import Liberty, LibertyError
from flows.synth.memories import Memory, keep_macros, stub, write_enables
from flows.synth.netlist import LogicLoop, Netlist
from flows.synth.options import AsicOptions, load_liberty
from flows.synth.sta import Timing, analyse, memory_liberty
from flows.synth.technology import technology
from flows.synth.tools import find_tool, run_yosys
from flows.toolchain import ToolError, opensta, opensta_version

__all__ = ["KEPT_FILES", "STAGE", "area_of", "modules_of", "synthesize"]

STAGE = "post-synthesis, pre-layout"
"""What every figure is: no placement, no wires, an ideal clock."""
STA_CELLS = 1_000_000
"""OpenSTA takes about 2 kB a cell, and hours beyond."""
KEPT_FILES = ("result.json", "netlist.v", "cells.lib", "memories.lib")
"""Files of a synthesis that are worth keeping."""

_MODULE = re.compile(r"^module (?:\\(\S+)|(\w+))", re.MULTILINE)


def modules_of(verilog: str) -> list[str]:
    """Return the names of the modules of a Verilog text."""
    return [escaped or plain for escaped, plain in _MODULE.findall(verilog)]


def synthesize(design: Any, *, top: str | None = None, options: AsicOptions | None = None,
               directory: Path | None = None) -> dict[str, Any]:
    """Synthesize a design for a cell library; from the cache if nothing has changed.

    Parameters
    ----------
    design : str or wiring.Component
        Verilog, or a component of which Verilog is written first.
    top : str or None
        Module to synthesize, by default the first of the Verilog; for a component, the name that it gets.
    options : AsicOptions or None
    directory : Path or None
        Where to put netlist, libraries and result.json; None leaves them in the cache.

    Returns
    -------
    dict
        `target, stage, top, area, area_unit, sequential_area, cells, flip_flops, depth, memories, memory_area, by_block,
        clock_ns, slack_ns, fmax_mhz, critical_path, estimated_fmax_mhz, power_mw, activity, liberty, versions, notes, …`.
        Areas are in `area_unit`; `area` is that of standard cells, `memory_area` that of macros by a model. `depth` counts
        cells. Slack, path and power are null without OpenSTA. `by_block` lists modules: `block, instances, area` (one of it
        and all that it holds), `own_area` (cells directly inside, of all instances: these add up to `area`), `own_cells,
        flip_flops, memory_area`; `units` the modules directly below the top: `block, instances, area, memory_area` of all
        instances together.

    Raises
    ------
    ValueError
        If there is no such module, or the cell library cannot serve.
    ToolError
        If Yosys is missing or fails.
    """
    options = options or AsicOptions()
    verilog = design if isinstance(design, str) else to_verilog(design, top or "top")
    modules = modules_of(verilog)
    if top is None:
        top = modules[0] if modules else ""
    if top not in modules:
        near = difflib.get_close_matches(top, modules, n=5, cutoff=0.4) or sorted(name for name in modules if top in name)[:5]
        raise ValueError(f"block must be a module of the design, not {top!r}; near: {', '.join(near or modules[:5])}")
    liberty = load_liberty(options.liberty)
    dont_use = _unused_cells(liberty, options)
    versions = {"yosys": find_tool("yosys")[1], "opensta": opensta_version() if options.timing and _timed(liberty) else None}
    asked = {**asdict(options), "liberty": liberty.digest}
    key = key_of(verilog, top, asked, versions, technology().sources(), _sources())
    started = time.perf_counter()
    folder, fresh = cached_folder(f"synth-asic-{key}",
                                  lambda work: _fill(work, verilog, top, liberty, options, dont_use, versions))
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    result["cached"] = not fresh
    result["seconds"] = result["seconds"] if fresh else time.perf_counter() - started
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        for name in KEPT_FILES:
            (directory / name).write_bytes((folder / name).read_bytes())
        result["files"] = [str(directory / name) for name in KEPT_FILES]
    return result


def area_of(component: Any, liberty: str | Path = GENERIC_NAME, **options: Any) -> float:
    """Return the cell area of one component in the library's unit (NAND2 equivalents for "generic"), without memory macros.

    Parameters
    ----------
    component : wiring.Component
    liberty : str or Path
    **options
        More of `AsicOptions`.
    """
    return float(synthesize(component, options=AsicOptions(liberty=liberty, timing=False, **options))["area"])


def _sources() -> bytes:
    """Return the code that decides a result."""
    names = ("asic", "generic", "liberty", "memories", "netlist", "options", "sta", "technology", "tools")
    return b"".join(Path(__file__).with_name(f"{name}.py").read_bytes() for name in names)


def _timed(liberty: Liberty) -> bool:
    """Return whether the delays of a library mean anything."""
    return liberty.name != GENERIC_NAME


def _unused_cells(liberty: Liberty, options: AsicOptions) -> list[str]:
    """Return the globs that Yosys gets, after a check that enough cells are left."""
    globs = [*options.dont_use, *(["*__lpflow_*"] if any("__lpflow_" in name for name in liberty.cells) else [])]
    left = {name: cell for name, cell in liberty.cells.items() if not any(fnmatchcase(name, glob) for glob in globs)}
    kinds = {cell.kind for cell in left.values() if cell.area > 0 and not cell.hidden}
    functions = {cell.function for cell in left.values()}
    for what, there in (("flip-flop", "flip-flop" in kinds), ("NAND2", "!(a*b)" in functions), ("inverter", "!a" in functions)):
        if not there:
            raise LibertyError(f"--dont-use must leave a {what} of library {liberty.name}, not {', '.join(options.dont_use)}")
    return globs


def _fill(folder: Path, verilog: str, top: str, liberty: Liberty, options: AsicOptions, dont_use: list[str],
          versions: dict[str, str | None]) -> None:
    """Run the tools in an empty folder."""
    started = time.perf_counter()
    (folder / "design.v").write_text(verilog)
    (folder / "cells.lib").write_text(liberty.text)
    run_yosys(["read_verilog design.v", f"hierarchy -check -top {top}", "proc -norom", "opt -fast", "memory -nomap", "opt_clean",
               "setattr -unset src t:* w:*", "write_rtlil read.il"], folder, "read")
    rtlil, memories = keep_macros((folder / "read.il").read_text(), options.macro_bits)
    (folder / "macros.il").write_text(rtlil)
    stubs = {memory.cell: stub(memory) for memory in memories if memory.macro}
    (folder / "macros.v").write_text("".join(stubs.values()))
    unused = "".join(f" -dont_use {glob}" for glob in dont_use)
    delay = ""
    if _timed(liberty):
        (folder / "abc.constr").write_text(f"set_driving_cell {liberty.driver.name}\n"
                                           f"set_load {liberty.load * liberty.capacitance_unit * 1e15:.4g} [all_outputs]\n")
        delay = f" -D {options.clock_ns * 1000:.0f} -constr abc.constr"
    run_yosys(["read_rtlil macros.il", "read_verilog -lib macros.v", "memory_map",
               f"synth -noabc{' -flatten' if options.flatten else ''} -run coarse: -top {top}",
               f"dfflibmap -liberty cells.lib{unused}", f"abc -liberty cells.lib{unused}{delay}", "opt_clean -purge",
               "setattr -unset src t:* w:*", "tee -q -o stat.json stat -liberty cells.lib -json", "write_json netlist.json",
               "write_verilog -noattr -simple-lhs -noexpr netlist.v"], folder, "map")
    result = _result(folder, top, liberty, options, memories, versions)
    result["seconds"] = time.perf_counter() - started
    (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    for file in folder.iterdir():       # the rest is large and can be made again
        if file.name not in (*KEPT_FILES, "map.log", "timing.txt", "power.txt"):
            file.unlink()


def _result(folder: Path, top: str, liberty: Liberty, options: AsicOptions, memories: list[Memory],
            versions: dict[str, str | None]) -> dict[str, Any]:
    notes = [f"{STAGE}: no placement, no wires, an ideal clock"]
    design = json.loads((folder / "netlist.json").read_text())
    sequential = {name for name, cell in liberty.cells.items() if cell.kind in ("flip-flop", "latch")}
    macros = {memory.cell: memory for memory in memories if memory.macro}
    (folder / "memories.lib").write_text(memory_liberty(
        memories, technology().memory_access(liberty.name) or 0.0,
        liberty.driver.input_capacitance * liberty.capacitance_unit * 1e12, write_enables(design, set(macros))))
    outputs = {name: set(cell.outputs) for name, cell in liberty.cells.items()} | {name: {"RD_DATA"} for name in macros}
    netlist = Netlist(design, top, outputs, sequential | set(macros), set(macros))
    times = netlist.instances()
    used: Counter[str] = Counter()
    for name, module in netlist.modules.items():
        used.update({cell: count * times[name] for cell, count in module.cells.items()})
    unmapped = sorted(cell for cell in used if cell not in liberty.cells)
    if unmapped:
        raise LibertyError(f"library {liberty.name} must have cells for all logic, and has none for {', '.join(unmapped[:5])}")
    area = sum(liberty.cells[cell].area * count for cell, count in used.items())
    reported = json.loads((folder / "stat.json").read_text())["design"].get("area", area)
    if abs(reported - area) > 1e-3 * max(1.0, area):
        raise ArithmeticError(f"area must be what Yosys reports, {reported}, not {area}")
    generic = not _timed(liberty)
    macro_area = {cell: memory.area(technology(), liberty.nand2.area) for cell, memory in macros.items()}
    try:
        depth: int | None
        depth, depth_at = netlist.depth()
    except LogicLoop as loop:
        depth, depth_at = None, None
        notes.append(f"no depth: {loop}")
    timing = None
    if options.timing and not generic:
        timing, remarks = _timing(folder, design["modules"][top]["ports"], top, liberty, options, sum(used.values()))
        notes += remarks
    notes += _notes(liberty, options, macros, timing is not None)
    gate = liberty.nand2.delay
    blocks = _blocks(netlist, liberty, macro_area, times)
    return {
        "target": "asic", "stage": STAGE, "top": top,
        "area": area, "area_unit": "NAND2 equivalents" if generic else "um2",
        "sequential_area": sum(liberty.cells[cell].area * count for cell, count in used.items() if cell in sequential),
        "cells": sum(used.values()),
        "flip_flops": sum(count for cell, count in used.items() if liberty.cells[cell].kind == "flip-flop"),
        "depth": depth, "depth_at": depth_at,
        "nand2_equivalents": area / liberty.nand2.area,
        "memory_area": sum(macro_area[cell] * times[cell] for cell in macros),
        "memories": _memories(memories, times, macro_area),
        "units": _units(blocks, netlist.modules[top].children),
        "by_block": blocks,
        "clock_ns": None if generic else options.clock_ns,
        "slack_ns": timing.slack_ns if timing else None,
        "fmax_mhz": timing.fmax_mhz if timing else None,
        "critical_path": timing.path if timing else None,
        "estimated_fmax_mhz": 1000 / (depth * gate) if depth and gate and not generic else None,
        "power_mw": timing.power_mw if timing else None,
        "activity": options.activity if timing else None,
        "cells_by_type": dict(used.most_common()),
        "liberty": {"name": liberty.name, "digest": liberty.digest, "nand2_area": liberty.nand2.area,
                    "driver": liberty.driver.name, "gate_delay_ns": None if generic else gate},
        "options": {"flatten": options.flatten, "dont_use": list(options.dont_use), "macro_bits": options.macro_bits},
        "versions": versions, "notes": notes,
    }


def _timing(folder: Path, ports: dict[str, Any], top: str, liberty: Liberty, options: AsicOptions,
            cells: int) -> tuple[Timing | None, list[str]]:
    """Return what OpenSTA finds, and what is to be said of it; a tool that fails costs the timing, not the areas."""
    program = opensta()
    if program is None:
        return None, [("MHz is an estimate, logic depth × delay of a NAND2 with fan-out 4; "
                       "for timing and power: apt-get install opensta")]
    if cells > STA_CELLS:
        return None, [f"no timing: OpenSTA is not run on more than {STA_CELLS:,} cells; see --block"]
    try:
        timing = analyse(program, folder, top=top, liberty=liberty, clock_ns=options.clock_ns, activity=options.activity,
                         inputs=[name for name, port in ports.items() if port["direction"] == "input" and name != "clk"],
                         clock_port="clk" in ports)
    except ToolError as error:
        return None, [f"no timing: {error}"]
    powerless = timing is not None and timing.power_mw is None
    return timing, ["no power: OpenSTA gave none, or the library states none"] if powerless else []


def _notes(liberty: Liberty, options: AsicOptions, macros: dict[str, Memory], timed: bool) -> list[str]:
    notes = []
    if not _timed(liberty):
        notes.append("no cell library: NAND2 equivalents of smallest gates, no buffers, no timing: a lower bound; see --liberty")
    if timed and not options.flatten:
        notes.append("nets that cross blocks are not buffered, so slack is pessimistic where one feeds many: see --flatten")
    if macros:
        notes.append("memory_area is a model of two-port SRAM macros (flows/data/technology.json), not a macro's data sheet")
    if macros and _timed(liberty):
        access = technology().memory_access(liberty.name)
        notes.append(f"memory macros deliver data {access} ns after the clock" if access else
                     "memory macros are taken to deliver data at once: no access time is known for this process")
        notes.append("power does not hold memory macros")
    return notes


def _memories(memories: list[Memory], times: Counter[str], macro_area: dict[str, float]) -> list[dict[str, Any]]:
    return [{"block": memory.module, "name": memory.name, "depth": memory.depth, "width": memory.width, "bits": memory.bits,
             "reads": memory.reads, "writes": memory.writes, "kind": "macro" if memory.macro else "flip-flops",
             "instances": times[memory.module], "area": macro_area.get(memory.cell) if memory.macro else None}
            for memory in memories if times[memory.module] or not times]


def _units(blocks: list[dict[str, Any]], children: Counter[str]) -> list[dict[str, Any]]:
    """Return one entry for each module directly below the top, the largest first."""
    units = [{"block": entry["block"], "instances": children[entry["block"]],
              "area": entry["area"] * children[entry["block"]], "memory_area": entry["memory_area"] * children[entry["block"]]}
             for entry in blocks if children[entry["block"]]]
    return sorted(units, key=lambda unit: (-unit["area"], unit["block"]))


def _blocks(netlist: Netlist, liberty: Liberty, macro_area: dict[str, float], times: Counter[str]) -> list[dict[str, Any]]:
    """Return one entry a module, the largest share of cells first."""
    cells = liberty.cells
    own = {name: sum(cells[cell].area * count for cell, count in module.cells.items())
           for name, module in netlist.modules.items()}
    total, with_macros = netlist.total(own), netlist.total(macro_area)
    entries = [{
        "block": name, "instances": times[name], "area": total[name], "own_area": own[name] * times[name],
        "own_cells": sum(module.cells.values()) * times[name],
        "flip_flops": sum(count for cell, count in module.cells.items() if cells[cell].kind == "flip-flop") * times[name],
        "memory_area": with_macros[name],
    } for name, module in netlist.modules.items()]
    return sorted(entries, key=lambda entry: (-float(entry["own_area"]), str(entry["block"])))
