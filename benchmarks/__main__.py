"""`python -m benchmarks [NAME ...]`: run benchmarks, print a table of each, and keep the figures in build/benchmarks.json."""

import argparse
import json
import os
import platform

from rich.console import Console
from rich.table import Table

from benchmarks import (
    bitmod,
    bitvert,
    checkpoint,
    decoder,
    emission,
    exposed,
    fault_injection,
    formats,
    fpga,
    hss,
    hybrid,
    hybrid_layer,
    packing,
    pim,
    pim_attention,
    prediction,
    simulation,
    tracing,
    utilization,
)
from flows.cache import cache_root
from flows.toolchain import versions

BENCHMARKS = {
    "utilization": utilization.rows,
    "decoder": decoder.rows,
    "prediction": prediction.rows,
    "simulation": simulation.rows,
    "tracing": tracing.rows,
    "emission": emission.rows,
    "fault_injection": fault_injection.rows,
    "fpga": fpga.rows,
    "bitmod": bitmod.rows,
    "bitvert": bitvert.rows,
    "hss": hss.areas,
    "hss_parts": hss.parts,
    "hss_gemm": hss.whole,
    "hss_energy": hss.energies,
    "hybrid": hybrid.rows,
    "hybrid_bandwidth": hybrid.bandwidths,
    "hybrid_area": hybrid.areas,
    "hybrid_layer": hybrid_layer.rows,
    "exposed": exposed.rows,
    "pim": pim.rows,
    "pim_presets": pim.presets,
    "pim_speed": pim.speeds,
    "pim_attention": pim_attention.rows,
    "formats": formats.rows,
    "packing": packing.rows,
    "checkpoint": checkpoint.rows,
}

_ASKED_FOR = ("fpga", "bitmod", "bitvert", "hss", "hss_parts", "hss_gemm", "hybrid", "hybrid_area", "hybrid_layer", "exposed",
              "checkpoint", "pim", "pim_presets", "pim_speed", "pim_attention")
"""Benchmarks that run only when they are named: place and route takes an hour, synthesis minutes, a checkpoint a gigabyte of disk
and minutes."""


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def main() -> None:
    """Run what was asked for, or everything."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME",
                        help=f"any of {', '.join(BENCHMARKS)}; default all but {', '.join(_ASKED_FOR)}")
    names = parser.parse_args().names or [name for name in BENCHMARKS if name not in _ASKED_FOR]
    for name in names:
        if name not in BENCHMARKS:
            parser.error(f"benchmark must be one of {', '.join(BENCHMARKS)}, not {name!r}")
    console = Console(highlight=False)
    found = {"machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", "tools": versions()}
    for name in names:
        rows = found[name] = BENCHMARKS[name]()
        table = Table(title=name, title_justify="left", box=None, pad_edge=False)
        for head in rows[0]:
            table.add_column(head, justify="left" if isinstance(rows[0][head], str) else "right")
        for row in rows:
            table.add_row(*map(_cell, row.values()))
        console.print(table)
        console.print()
    file = cache_root() / "benchmarks.json"
    file.write_text(json.dumps(found, indent=2) + "\n")
    console.print(f"kept in {file}")


if __name__ == "__main__":
    main()
