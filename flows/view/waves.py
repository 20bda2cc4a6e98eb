"""A saved view for GTKWave: the signals of an accelerator's waves that tell what it does, in groups."""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vcd.gtkw import GTKWSave

from flows.toolchain import ToolError

__all__ = ["GROUPS", "PIM_GROUPS", "save_view", "signals_of"]

_UNITS = ("load", "matrix", "vector", "store")

GROUPS: dict[str, tuple[str, ...]] = {
    "run": ("clk", "rst", "irq", "controller.supervisor.busy", "controller.supervisor.run", "controller.supervisor.done"),
    "sequencer": ("controller.sequencer.pc", "controller.sequencer.executed", "controller.sequencer.waiting",
                  "controller.sequencer.idle", "controller.sequencer.halted", "controller.fetch.busy", "controller.fetch.beat"),
    **{f"{unit} queue": tuple(f"controller.{unit}_queue.{name}" for name in (
        "count", "waiting", "acquire__mask", "acquire__grant", "o__valid", "o__ready", "done", "signal", "oldest_pc"))
       for unit in _UNITS},
    "semaphores": ("controller.semaphores.counts", "controller.semaphores.overflow"),
    "DMA read": ("load.unit__busy", "load.beat", "m_axi_arvalid", "m_axi_arready", "m_axi_araddr", "m_axi_arlen", "m_axi_arid",
                 "m_axi_rvalid", "m_axi_rready", "m_axi_rlast", "m_axi_rresp", "m_axi_rdata"),
    "engine": ("engine.unit__busy", "engine.active", "engine.macs", "engine.activation__valid", "engine.activation__ready",
               "engine.weight__valid", "engine.weight__ready", "engine.acc__valid", "engine.acc__addr"),
    "vector unit": ("vector.unit__busy", "vector.acc__valid", "vector.acc__ready", "vector.write__valid", "vector.write__ready",
                    "vector.write__addr"),
    "DMA write": ("store.unit__busy", "store.beat", "m_axi_awvalid", "m_axi_awready", "m_axi_awaddr", "m_axi_awlen",
                  "m_axi_wvalid", "m_axi_wready", "m_axi_wlast", "m_axi_wstrb", "m_axi_wdata", "m_axi_bvalid", "m_axi_bresp"),
    "registers": ("s_axil_awvalid", "s_axil_awaddr", "s_axil_wdata", "s_axil_arvalid", "s_axil_araddr", "s_axil_rvalid",
                  "s_axil_rdata"),
    "errors": (*(f"controller.{unit}__error" for unit in _UNITS), "controller.sequencer.error",
               "controller.supervisor.error", "controller.supervisor.record", "controller.saturated"),
}
"""Group → paths below the top; the groups in front are open when the view is."""
_OPEN = ("run", "sequencer", "load queue", "matrix queue", "vector queue", "store queue", "I/O queue", "compute queue",
         "DRAM rows", "DRAM columns")

PIM_GROUPS: dict[str, tuple[str, ...]] = {
    "run": ("clk", "rst", "go", "busy", "error", "index", "active", "stall_row", "stall_refresh", "stall_credit", "stall_hazard"),
    **{f"{label} queue": tuple(f"scoreboard.{name}" for name in (f"o_{queue}__valid", f"o_{queue}__ready", f"done_{queue}"))
       for queue, label in (("io", "I/O"), ("compute", "compute"))},
    "DRAM rows": tuple(f"dram__row_{name}" for name in ("valid", "op", "set", "row", "phase")),
    "DRAM columns": (*(f"dram__col_{name}" for name in ("valid", "op", "set", "column", "phase")), "dram__rvalid", "dram__rdata",
                     "dram__wdata"),
    "host": tuple(f"host_{way}__{name}" for way in ("in", "out") for name in ("valid", "ready", "payload")),
    "list memory": ("write__valid", "write__address", "write__data"),
}
"""The same of a channel of a PIM; what it has no bits for is left out."""

_DECIMAL = ("count", "pc", "oldest_pc", "macs")
_MODULE = re.compile(r"^module (\w+)\b(.*?)^endmodule", re.MULTILINE | re.DOTALL)
_SIGNAL = re.compile(r"^  (?:(?:input|output)\s+)?(?:wire|reg)\s+(\[\d+:0\] )?(\w+)(?: = [^;,]+)?[;,]?$", re.MULTILINE)


def signals_of(verilog: str, manifest: dict[str, Any], groups: Mapping[str, Sequence[str]] = GROUPS) -> dict[str, list[str]]:
    """Return the signals of each group as GTKWave names them: whole path, range of bits.

    Parameters
    ----------
    verilog : str
        Contents of top.v.
    manifest : dict
        Of the same emission. Ports that it lists without bits are left out.
    groups : mapping of str to sequence of str

    Raises
    ------
    ToolError
        If the design has no such signal.
    """
    ranges = {module: {name: bits.strip() for bits, name in _SIGNAL.findall(body)} for module, body in _MODULE.findall(verilog)}
    top, hierarchy = manifest["top"], manifest["hierarchy"]
    absent = {port["name"] for port in manifest["ports"] if not port["width"]}

    def full(path: str) -> str:
        *scopes, name = path.split(".")
        module = top
        for scope in scopes:
            module = hierarchy[module].get(scope, "")
            if module not in ranges:
                raise ToolError(f"the design has no block {path.rpartition('.')[0]!r}, which the view of waves shows")
        if name not in ranges[module]:
            raise ToolError(f"the design has no signal {path!r}, which the view of waves shows")
        return f"{top}.{path}{ranges[module][name]}"

    return {group: [full(path) for path in paths if path not in absent] for group, paths in groups.items()}


def save_view(waves: Path, verilog: str, manifest: dict[str, Any], groups: Mapping[str, Sequence[str]] = GROUPS, *,
              scope: str | None = None) -> Path:
    """Write a GTKWave save file beside a wave file, same name with suffix .gtkw, and return its path.

    Parameters
    ----------
    waves, verilog, manifest, groups
        See `signals_of`.
    scope : str or None
        Path of the design in the waves; by default the name of its top.
    """
    text = io.StringIO()
    view = GTKWSave(text)
    view.comment("Open it with: gtkwave --save " + waves.with_suffix(".gtkw").name)
    view.dumpfile(waves.name, abspath=False)
    view.treeopen(f"{manifest['top'] if scope is None else scope}.")
    view.signals_width(280)
    view.sst_expanded(False)
    top = manifest["top"] if scope is None else scope
    for group, names in signals_of(verilog, manifest, groups).items():
        with view.group(group, closed=group not in _OPEN):
            for name in names:
                short = name.rpartition(".")[2].partition("[")[0]
                view.trace(top + name.removeprefix(manifest["top"]), datafmt="dec" if short in _DECIMAL else "hex")
    path = waves.with_suffix(".gtkw")
    path.write_text(text.getvalue())
    return path
