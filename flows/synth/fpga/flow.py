"""From Verilog to a bitstream: Yosys, nextpnr, and what they report."""

import json
import math
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flows.cache import cached_folder, key_of
from flows.synth.fpga.constraints import constraints_of, wrapper_of
from flows.synth.fpga.parts import RESOURCES, Part
from flows.synth.fpga.resources import DoesNotFit, check_fit, resources_of, too_much
from flows.synth.tools import ToolStopped, find_tool, run_tool, run_yosys
from flows.toolchain import ToolError

__all__ = ["FpgaOptions", "implement", "tool_versions", "without_long_loops"]

_ROUTERS = {"ecp5": "nextpnr-ecp5", "ice40": "nextpnr-ice40", "gowin": "nextpnr-himbaechel-gowin"}
_PACKERS = {"ecp5": "ecppack", "ice40": "icepack", "gowin": "gowin_pack"}
_BITSTREAMS = {"ecp5": "design.bit", "ice40": "design.bin", "gowin": "design.fs"}
_KEPT = (".json", ".log", ".lpf", ".pcf", ".cst", ".bit", ".bin", ".fs", ".v")
# Bels of nextpnr's report. LUTs of iCE40 are logic cells, one LUT and one flip-flop each.
_BELS: dict[str, dict[str, dict[str, float]]] = {
    "ecp5": {"luts": {"TRELLIS_COMB": 1}, "ffs": {"TRELLIS_FF": 1}, "dsps": {"MULT18X18D": 1}, "brams": {"DP16KD": 1}},
    "ice40": {"luts": {"ICESTORM_LC": 1}, "ffs": {}, "dsps": {"ICESTORM_DSP": 1}, "brams": {"ICESTORM_RAM": 1}},
    "gowin": {"luts": {"LUT4": 1}, "ffs": {"DFF": 1}, "dsps": {"MULT9X9": 0.5, "MULT18X18": 1, "MULT36X36": 4},
              "brams": {"BSRAM": 1}},
}
# A loop that zeroes a memory, as our Verilog has it. Nothing reads a block RAM before it is written, all of these parts power up
# with zeros anyway, and Yosys takes minutes to unroll a loop of thousands of words.
_CLEARED = re.compile(r" *initial begin : clear_\w+\n *integer i;\n *for \(i = 0; i < (\d+); i = i \+ 1\)\n"
                      r" *\S+\[i\] = \d+'h0+;\n *end\n")
_LONGEST_LOOP = 512
_SHARE = re.compile(r"^Info:\s+(\w+): +(\d+)/ *(\d+) +\d+%$", re.MULTILINE)
_OVERUSED = re.compile(r"\biter=\d+ wires=\d+ overused=(\d+)")
_PATIENCE = 150
"""Rounds of the router without fewer conflicts, after which it is taken to be stuck. It has no bound of its own, and has been
seen to need 41 such rounds before it ended well."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FpgaOptions:
    """How an FPGA is filled.

    Attributes
    ----------
    freq_mhz : float or None
        Clock that place and route aims at; None: the oscillator of the part's board.
    seed : int
        Of the first placement.
    tries : int
        Placements, each with the next seed, as long as the router gets stuck with them.
    route : bool
        Whether to place, route and write a bitstream.
    dsp : bool
        Whether multipliers may become DSPs.

    Raises
    ------
    ValueError
        If a number is impossible.
    """

    freq_mhz: float | None = None
    seed: int = 1
    tries: int = 3
    route: bool = True
    dsp: bool = True

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.freq_mhz is not None and not 0.1 <= self.freq_mhz <= 1000:
            raise ValueError(f"--freq must be between 0.1 and 1000 MHz, not {self.freq_mhz!r}")
        if not 0 <= self.seed < 1 << 31:
            raise ValueError(f"--seed must be between 0 and {(1 << 31) - 1}, not {self.seed!r}")
        if not 1 <= self.tries <= 1000:
            raise ValueError(f"--tries must be between 1 and 1000, not {self.tries!r}")


def tool_versions(target: str, options: FpgaOptions) -> dict[str, str]:
    """Return tool → version of what a target needs.

    Raises
    ------
    ToolError
        If one is missing.
    """
    names = ("yosys", _ROUTERS[target], _PACKERS[target]) if options.route else ("yosys",)
    return {name: find_tool(name)[1] for name in names}


def implement(verilog: str, top: str, part: Part, options: FpgaOptions | None = None,
              directory: Path | None = None) -> dict[str, Any]:
    """Synthesize a design, and place and route it if it has the ports of a board; from the cache if nothing has changed.

    Parameters
    ----------
    verilog : str
    top : str
        Its top module. To be routed, it must have the ports clk, rst, rx, tx and irq and no others.
    part : Part
    options : FpgaOptions or None
    directory : Path or None
        Where to put netlist, reports and bitstream; None leaves them in the cache.

    Returns
    -------
    dict
        `target, part, top, stage` ("post-route" or "post-synthesis"), `luts, ffs, dsps, brams` (used; of iCE40, `luts` are
        logic cells after routing, and `ffs` those of synthesis), `available` (the same, of the part), `fmax_mhz,
        critical_path` (null without routing), `freq_mhz, met, seed` (of the placement that was routed), `unrouted` (what was
        wrong with the placements before it), `bitstream, files, cells, seconds, synthesis_seconds, route_seconds, versions,
        cached`.

    Raises
    ------
    DoesNotFit
        Before placement, if the part is too small; at its beginning, if only the packed netlist is too large.
    ToolError
        If a tool is missing or fails.
    """
    options = options or FpgaOptions()
    versions = tool_versions(part.target, options)
    sources = _sources()
    started = time.perf_counter()
    key = key_of(verilog, top, list(part.synthesis), options.dsp, options.route, versions["yosys"], sources)
    netlist, fresh = cached_folder(
        f"fpga-netlist-{part.target}-{key}", lambda work: _synthesize(work, verilog, top, part, options))
    found = json.loads((netlist / "result.json").read_text())
    folder = netlist
    result: dict[str, Any] = {
        "target": part.target, "part": part.name, "top": top, "stage": "post-synthesis", **found["resources"],
        "available": {name: getattr(part, name) for name in RESOURCES}, "fmax_mhz": None, "critical_path": None,
        "freq_mhz": options.freq_mhz or part.clock_hz / 1e6, "met": None, "seed": options.seed, "unrouted": [], "bitstream": None,
        "cells": found["cells"], "synthesis_seconds": found["seconds"], "route_seconds": None, "versions": versions}
    if options.route:
        check_fit(part, found["resources"], f"module {top}")
        key = key_of((netlist / "netlist.json").read_bytes(), part.name, asdict(options), versions, sources)
        folder, routed = cached_folder(f"fpga-{part.target}-{key}", lambda work: _route(work, netlist, part, options, top))
        fresh = fresh or routed
        result.update(json.loads((folder / "result.json").read_text()))
    result["cached"] = not fresh
    result["seconds"] = time.perf_counter() - started
    kept = [file for file in sorted(folder.iterdir()) if file.suffix in _KEPT]
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        for file in kept:
            (directory / file.name).write_bytes(file.read_bytes())
        folder = directory
    result["files"] = [str(folder / file.name) for file in kept]
    if options.route:
        result["bitstream"] = str(folder / _BITSTREAMS[part.target])
    return result


def _sources() -> bytes:
    """Return the code that decides a result."""
    files = [file for file in sorted(Path(__file__).parent.glob("*.py")) if file.stem != "target"]
    return b"".join(file.read_bytes() for file in [*files, Path(__file__).parents[1] / "tools.py"])


def without_long_loops(verilog: str) -> str:
    """Return a Verilog text without the loops that zero large memories."""
    return _CLEARED.sub(lambda found: "" if int(found[1]) >= _LONGEST_LOOP else found[0], verilog)


def _synthesize(folder: Path, verilog: str, top: str, part: Part, options: FpgaOptions) -> None:
    """Write netlist.json and result.json into an empty folder."""
    started = time.perf_counter()
    (folder / "design.v").write_text(without_long_loops(verilog))
    name = top
    if options.route:
        (folder / "pins.v").write_text(wrapper_of(top))
        name = "pins"
    flags = [*part.synthesis]
    if not options.dsp:
        flags = [flag for flag in flags if flag != "-dsp"] + (["-nodsp"] if part.target != "ice40" else [])
    script = [f"read_verilog design.v{' pins.v' if options.route else ''}", f"hierarchy -check -top {name}",
              f"synth_{part.target} -top {name} {' '.join(flags)} -json netlist.json", "tee -o stat.json stat -json"]
    run_yosys(script, folder, "synthesis")
    cells = json.loads((folder / "stat.json").read_text())["design"]["num_cells_by_type"]
    cells = {cell: count for cell, count in cells.items() if not cell.startswith("$")}
    (folder / "result.json").write_text(json.dumps({
        "cells": cells, "resources": resources_of(part.target, cells), "seconds": time.perf_counter() - started}))


def _route(folder: Path, netlist: Path, part: Part, options: FpgaOptions, top: str) -> None:
    """Write bitstream, report and result.json into an empty folder."""
    started = time.perf_counter()
    (folder / "netlist.json").write_bytes((netlist / "netlist.json").read_bytes())
    freq = options.freq_mhz or part.clock_hz / 1e6
    name, text = constraints_of(part, freq)
    (folder / name).write_text(text)
    outputs = {"ecp5": ["--lpf", name, "--textcfg", "routed.config", "--router", "router2"],
               "ice40": ["--pcf", name, "--asc", "routed.asc"],
               "gowin": ["--vopt", f"cst={name}", "--write", "routed.json"]}[part.target]
    arguments = [*part.route, "--json", "netlist.json", *outputs, "--report", "report.json", "--freq", f"{freq:g}",
                 "--timing-allow-fail", "-q", "-l", "route.log"]
    seed, unrouted = _place_and_route(folder, part, arguments, options, top)
    bitstream = _BITSTREAMS[part.target]
    pack = {"ecp5": ["--compress", "routed.config", bitstream], "ice40": ["routed.asc", bitstream],
            "gowin": [*part.pack, "-o", bitstream, "routed.json"]}[part.target]
    run_tool(_PACKERS[part.target], pack, folder, log="pack.log")
    report = json.loads((folder / "report.json").read_text())
    (folder / "result.json").write_text(json.dumps({
        "stage": "post-route", "seed": seed, "unrouted": unrouted, **_used(part, report["utilization"]), **_timing(report, freq),
        "route_seconds": time.perf_counter() - started}))
    for file in ("netlist.json", "routed.json", "routed.config", "routed.asc"):
        (folder / file).unlink(missing_ok=True)


def _place_and_route(folder: Path, part: Part, arguments: list[str], options: FpgaOptions, top: str) -> tuple[int, list[str]]:
    """Try one seed after the other; return that of the placement that was routed, and what was wrong with the others."""
    router, log, unrouted = _ROUTERS[part.target], folder / "route.log", []
    for seed in range(options.seed, options.seed + options.tries):
        try:
            run_tool(router, [*arguments, "--seed", str(seed)], folder, log=log.name, watch=_hopeless)
        except ToolError as error:
            if short := _overfull(log.read_text(errors="replace") if log.exists() else ""):
                raise DoesNotFit(f"module {top} does not fit {part.name}: packed, it needs {short}") from None
            if not isinstance(error, ToolStopped):
                raise
            log.rename(folder / f"unrouted-{seed}.log")
            unrouted.append(f"seed {seed} was placed and not routed: {error}")
            continue
        return seed, unrouted
    raise ToolError(f"{router}: {'; '.join(unrouted)}; see --seed, --tries")


def _hopeless(log: str) -> str | None:
    """Return why place and route cannot come to an end, by its log; None if it may."""
    return _overfull(log) or _stuck(log)


def _overfull(log: str) -> str:
    """Return of what there is too little by the router's own count, which it makes after packing; "" if it is nothing."""
    return too_much((name, int(used), int(available)) for name, used, available in _SHARE.findall(log))


def _stuck(log: str) -> str | None:
    """Return how a router is stuck, by its log; None if it is not."""
    overused = [int(count) for count in _OVERUSED.findall(log)]
    if not overused or len(overused) - overused.index(least := min(overused)) <= _PATIENCE:
        return None
    return f"wires with two users after {len(overused)} rounds of the router: {least}"


def _used(part: Part, utilization: dict[str, Any]) -> dict[str, int]:
    """Return what is used of each resource that nextpnr reports."""
    return {name: math.ceil(sum(weight * utilization[bel]["used"] for bel, weight in bels.items() if bel in utilization))
            for name, bels in _BELS[part.target].items() if bels}


def _timing(report: dict[str, Any], freq: float) -> dict[str, Any]:
    """Return Fmax and the critical path of the slowest clock."""
    clocks = report["fmax"]
    if not clocks:
        return {"fmax_mhz": None, "met": None, "critical_path": None}
    clock = min(clocks, key=lambda name: clocks[name]["achieved"])
    fmax = clocks[clock]["achieved"]
    paths = [path["path"] for path in report["critical_paths"] if path["from"] == path["to"] == f"posedge {clock}"]
    return {"fmax_mhz": fmax, "met": fmax >= freq, "critical_path": _path(paths[0]) if paths else None}


def _path(steps: list[dict[str, Any]]) -> dict[str, Any]:
    routing = sum(step["delay"] for step in steps if step["type"] == "routing")
    total = sum(step["delay"] for step in steps)
    cells: list[str] = []
    for step in steps:
        cell = step["to"]["cell"]
        if not cells or cells[-1] != cell:
            cells.append(cell)
    return {"start": steps[0]["from"]["cell"], "end": steps[-1]["to"]["cell"], "ns": round(total, 2),
            "logic_ns": round(total - routing, 2), "routing_ns": round(routing, 2),
            "levels": sum(step["type"] == "logic" for step in steps), "cells": cells}
