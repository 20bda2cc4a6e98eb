"""Estimates of energy and delay of the modes of the structured-sparsity engine."""

from typing import Any

from flows.synth.highlight import core_energies
from flows.synth.technology import technology
from hw.config import AcceleratorConfig, ceil_div
from hw.engines.hss import hss_command_cycles, hss_fetches, hss_load_cycles, hss_modes, hss_steps
from hw.presets import preset_named

__all__ = ["energies", "memory_bits"]

_M, _N, _K = 128, 64, 20160           # K: whole steps of every mode


def memory_bits(config: AcceleratorConfig, m: int, n: int, k: int, mode: int) -> int:
    """Return the bits of SRAM that a command reads or writes, rows of activations beginning at lines.

    Lines of the scratchpad, each kept in the fetch unit and read again for every further step that begins in it; slots of
    weights; accumulator rows, read and written for every token and step.
    """
    chosen = hss_modes(config)[mode]
    loads, steps = hss_load_cycles(config, chosen, k), hss_steps(config, chosen, k)
    groups, line = ceil_div(n, config.columns), 8 * config.line_bytes
    fetched = hss_fetches(config, m, n, k, mode)
    kept = groups * m * sum(step.first % config.line_bytes != 0 and not step.again for step in steps)
    weights = groups * sum(loads) * 8 * config.weight_slot_bytes
    accumulated = groups * m * len(loads) * config.columns * config.acc_width * 2
    return (2 * fetched + kept) * line + weights + accumulated


def energies(liberty: str | None = None) -> list[dict[str, Any]]:
    """Return a row for each mode: cycles by the law, energy, and their product over that of dense weights on the dense core.

    An estimate. Memory: bits that are read or written × a coefficient. Logic, with a cell library: OpenSTA's power of the core
    that has the mode, at one activity for all nets, × cycles; without a library it is left out. So is DRAM.

    Parameters
    ----------
    liberty : str or None
        Cell library with power.

    Raises
    ------
    ValueError, ToolError
        As `core_energies`.
    """
    config = preset_named("hss-16x64")
    coefficient = technology()["sram_energy"]
    logic = core_energies(liberty) if liberty is not None else {}
    cases = [("int8", "dense", 0)] if logic else []
    for mode, name in enumerate(("int8", *config.weight_formats)):
        cases.append((name, "15 modes and SDQ" if name.startswith("sdq") else "15 modes", mode))
        if name == "2:4" and logic:
            cases.append((name, "2:4", mode))
    table: list[dict[str, Any]] = []
    for name, core, mode in cases:
        cycles, bits = hss_command_cycles(config, _M, _N, _K, mode), memory_bits(config, _M, _N, _K, mode)
        memory, spent = bits * coefficient / 1e6, cycles * logic[core] / 1e6 if logic else 0.0
        first = table[0] if table else {"cycles": cycles, "product": cycles * (memory + spent)}
        product = cycles * (memory + spent)
        row = {"mode": name, **({"core": core} if logic else {}), "cycles": cycles, "speedup": first["cycles"] / cycles,
               **({"logic uJ": spent} if logic else {}), "memory uJ": memory,
               "energy-delay over dense": product / first["product"], "product": product}
        table.append(row)
    return [{key: value for key, value in row.items() if key != "product"} for row in table]
