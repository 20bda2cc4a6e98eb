"""Estimates of energy and delay of the modes of the structured-sparsity engine."""

from typing import Any

from flows.synth.technology import technology
from hw.config import AcceleratorConfig, ceil_div
from hw.engines.hss import hss_command_cycles, hss_fetches, hss_load_cycles, hss_modes
from hw.presets import preset_named

__all__ = ["energies", "memory_bits"]

_M, _N, _K = 128, 64, 20160           # K: whole steps of every mode


def memory_bits(config: AcceleratorConfig, m: int, n: int, k: int, mode: int) -> int:
    """Return the bits of SRAM that a command reads or writes, rows of activations beginning at lines.

    Lines of the scratchpad, each kept in the fetch unit and read again for every further step that begins in it; slots of
    weights; accumulator rows, read and written for every token and step.
    """
    chosen = hss_modes(config)[mode]
    loads = hss_load_cycles(config, chosen, k)
    groups, line = ceil_div(n, config.columns), 8 * config.line_bytes
    starts = [step * config.rows // 8 * chosen.group % config.line_bytes for step in range(len(loads))]
    fetched = hss_fetches(config, m, n, k, mode)
    kept = groups * m * sum(start != 0 for start in starts)
    weights = groups * sum(loads) * 8 * config.weight_slot_bytes
    accumulated = groups * m * len(loads) * config.columns * config.acc_width * 2
    return (2 * fetched + kept) * line + weights + accumulated


def energies() -> list[dict[str, Any]]:
    """Return a row for each mode: cycles by the law, energy of memory accesses by a coefficient, and their product over dense.

    An estimate: logic is left out, of which sparse modes switch as much a cycle as dense ones, and DRAM.
    """
    config = preset_named("hss-16x64")
    coefficient = technology()["sram_energy"]
    table: list[dict[str, Any]] = []
    for mode, name in enumerate(("int8", *config.weight_formats)):
        cycles, bits = hss_command_cycles(config, _M, _N, _K, mode), memory_bits(config, _M, _N, _K, mode)
        table.append({"mode": name, "cycles": cycles, "speedup": table[0]["cycles"] / cycles if table else 1.0,
                      "memory uJ": bits * coefficient / 1e6, "energy-delay over dense": 1.0})
        table[-1]["energy-delay over dense"] = (cycles * table[-1]["memory uJ"]) / (table[0]["cycles"] * table[0]["memory uJ"])
    return table
