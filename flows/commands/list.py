"""`heddle list`: presets of arrays, PIMs and systems, engines, processing elements, formats, workloads."""

import argparse

from rich.table import Table

from flows.commands.common import add_json_argument, console, print_json
from hw.config import AcceleratorConfig
from hw.engines import ENGINES
from hw.formats import FORMATS
from hw.pim.config import PimConfig
from hw.pim.presets import PIM_PRESETS
from hw.presets import PRESETS
from hw.system import SYSTEM_PRESETS, SystemConfig
from sw.workloads import WORKLOADS

__all__ = ["add_arguments", "catalogue", "run"]


def catalogue() -> dict[str, dict[str, str]]:
    """Return kind → name → one line."""
    from hw.pe import PE_TYPES

    return {
        "presets": {name: _summary(config) for name, config in PRESETS.items()},
        "pim": {name: _pim_summary(config) for name, config in PIM_PRESETS.items()},
        "systems": {name: _system_summary(config) for name, config in SYSTEM_PRESETS.items()},
        "engines": {name: engine.doc for name, engine in ENGINES.items()},
        "pes": {name: (pe.__doc__ or "").strip().split("\n")[0] for name, pe in PE_TYPES.items()},
        "formats": {name: fmt.doc for name, fmt in FORMATS.items()},
        "workloads": {name: workload.doc for name, workload in WORKLOADS.items()},
    }


def _summary(config: AcceleratorConfig) -> str:
    return (f"{config.engine}, {config.rows}×{config.columns} {config.activation_format}×"
            f"{'/'.join((config.weight_format, *config.weight_formats))}, "
            f"{' and '.join(config.dataflows)}, {config.scratchpad_bytes // 1024} KiB scratchpad, {config.bus_width}-bit bus")


def _pim_summary(config: PimConfig) -> str:
    return (f"{config.n_pch} channels, each {config.streams} banks of {config.timing} at a time, "
            f"{float(config.bandwidth):.3g} GB/s, {float(config.gops):.3g} GOPS, {config.lanes} lanes × {config.rows_x} rows of "
            f"{config.wtype}")


def _system_summary(config: SystemConfig) -> str:
    arrays = [name for name, known in PRESETS.items() if known == config.array] or ["an array"]
    pims = [name for name, known in PIM_PRESETS.items() if known == config.pim] or ["a PIM"]
    there = [kernel for kernel, device in config.placement if device == "pim"]
    return f"{arrays[0]} and {config.channels} channels of {pims[0]}, which decodes {' and '.join(there)}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add_json_argument(parser)


def run(args: argparse.Namespace) -> bool:
    """Print everything that can be named."""
    kinds = catalogue()
    if args.json:
        print_json(kinds)
        return True
    for kind, entries in kinds.items():
        table = Table(title=kind, title_justify="left", title_style="bold", show_header=False, box=None, padding=(0, 2))
        for name, line in entries.items():
            table.add_row(f"[cyan]{name}[/]", line)
        console.print(table)
        console.print()
    return True
