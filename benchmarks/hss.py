"""Structured sparsity beside a dense core, 64 columns of 16 MACs: area, energy and delay of every mode; a whole accelerator."""

import os
from typing import Any

from flows.reproduce.gemm import gemm_cycles
from flows.synth.generic import GENERIC_NAME
from flows.synth.highlight import core_areas, core_parts, memory_areas
from flows.synth.sparse_energy import energies as mode_energies
from flows.synth.sparse_energy import memory_bits
from hw.presets import preset_named

__all__ = ["areas", "energies", "memory_bits", "parts", "whole"]

_WHOLE = ("int8", "2:4", "hss-4:6-2:4", "hss-4:8-2:4", "sdq-7:8-1:8int8-6:8fp4", "tasd-2:4+1:8")
_GEMM = (128, 64, 1024)


def _liberty() -> str:
    return os.environ.get("HEDDLE_LIBERTY", GENERIC_NAME)


def areas() -> list[dict[str, Any]]:
    """Return a row for each core, the least one first: cells of HEDDLE_LIBERTY, else NAND2 equivalents; and with its memories."""
    found, memories = core_areas(_liberty()), memory_areas(_liberty())
    whole = {name: area + memories[name] for name, area in found.items()}
    return [{"core": name, "area": area, "over dense": f"{area / found['dense'] - 1:+.1%}", "with memories": whole[name],
             "over dense with them": f"{whole[name] / whole['dense'] - 1:+.1%}"} for name, area in found.items()]


def parts() -> list[dict[str, Any]]:
    """Return a row for each part of each core: how many there are, area of one, and the share of the core's area."""
    table = []
    for core, found in core_parts(_liberty()).items():
        total = sum(count * result["area"] for count, result in found.values())
        table += [{"core": core, "part": part, "number": count, "area of one": result["area"], "of it flip-flops":
                   f"{result['sequential_area'] / result['area']:.0%}", "of the core": f"{count * result['area'] / total:.1%}"}
                  for part, (count, result) in found.items()]
    return table


def energies() -> list[dict[str, Any]]:
    """Return `flows.synth.sparse_energy.energies`, with logic where HEDDLE_LIBERTY names a library with power."""
    return mode_energies(None if _liberty() == GENERIC_NAME else _liberty())


def whole() -> list[dict[str, Any]]:
    """Return a row for each mode: a GEMM on `hss-16x64`, the whole accelerator at the paper's size, simulated and by the law.

    Raises
    ------
    ValueError
        If the RTL does not compute what the golden device does.
    """
    config = preset_named("hss-16x64")
    cycles = {name: gemm_cycles(config, name, _GEMM, rtl=True) for name in _WHOLE}
    return [{"weights": name, "GEMM": "×".join(map(str, _GEMM)), "cycles": found, "predicted": gemm_cycles(
        config, name, _GEMM, rtl=False), "speedup": cycles["int8"] / found} for name, found in cycles.items()]
