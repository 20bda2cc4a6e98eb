"""The Verilog that a channel of a PIM is simulated in: ports with plain names, and, traced, what its queues do."""

from collections.abc import Sequence
from typing import Any

from flows.pim.emit import PIM_TOP

__all__ = ["COUNTERS", "SCOPE", "TOP", "wrapper_of"]

COUNTERS = ("active", "stall_row", "stall_refresh", "stall_credit", "stall_hazard")
"""Outputs of the core that are counted."""
TOP = "simulated"
"""Module name of the wrapper."""
SCOPE = f"{TOP}.core"
"""Where waves have the channel."""

# Name in the harness, direction, port of the core. Ports without bits are not there.
_PORTS = (
    *(("go", "input", "go"), ("write_valid", "input", "write__valid"), ("write_address", "input", "write__address"),
      ("write_data", "input", "write__data"), ("host_in_valid", "input", "host_in__valid"),
      ("host_in_data", "input", "host_in__payload"), ("host_out_ready", "input", "host_out__ready"),
      ("rvalid", "input", "dram__rvalid"), ("rdata", "input", "dram__rdata"), ("busy", "output", "busy"),
      ("error", "output", "error"), ("index", "output", "index"), ("misuse", "output", "softmax_misuse"),
      ("host_in_ready", "output", "host_in__ready"), ("host_out_valid", "output", "host_out__valid"),
      ("host_out_data", "output", "host_out__payload")),
    *((name, "output", f"dram__{name}") for name in (
        "row_valid", "row_op", "row_set", "row_bank", "row_whole", "row_row", "row_phase", "col_valid", "col_op", "col_set",
        "col_column", "col_phase", "wdata", "wmask")),
    *((name, "output", name) for name in COUNTERS),
)


# Ports of a model that is traced, and what of the scoreboard they show.
_TRACED = {"queue_i_valid": "i__valid", "queue_i_ready": "i__ready", "queue_i_compute": "i__payload[0]",
           **{f"queue_{queue}_{name}": f"o_{queue}__{name}" for queue in ("io", "compute") for name in ("valid", "ready")},
           **{f"queue_{queue}_done": f"done_{queue}" for queue in ("io", "compute")}}


def wrapper_of(ports: Sequence[dict[str, Any]], *, traced: bool) -> str:
    """Return a top module whose ports have the names of `_PORTS`; those that the core has not are zero.

    Traced, it shows the handshakes of the queues as well.
    """
    widths = {port["name"]: port["width"] for port in ports if port["width"]}
    declared, bound, absent = [], [], []
    for name, way, port in _PORTS:
        declared.append(f"  {way} [{widths.get(port, 1) - 1}:0] {name}")
        if port in widths:
            bound.append(f"    .\\{port} ({name})")
        elif way == "output":
            absent.append(f"  assign {name} = 0;\n")
    for name, signal in _TRACED.items() if traced else ():
        declared.append(f"  output {name}")
        absent.append(f"  assign {name} = core.scoreboard.\\{signal.replace('[', ' [')} ;\n")
    return (f"module {TOP}(\n  input clk,\n  input rst,\n" + ",\n".join(declared) + "\n);\n" + "".join(absent)
            + f"  {PIM_TOP} core(\n    .clk(clk),\n    .rst(rst),\n" + ",\n".join(bound) + "\n  );\nendmodule\n")
