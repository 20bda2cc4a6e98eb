"""Structured sparsity beside a dense core, 64 columns of 16 MACs: area, and estimates of energy and delay of every mode."""

import os
from typing import Any

from flows.synth.generic import GENERIC_NAME
from flows.synth.highlight import core_areas
from flows.synth.sparse_energy import energies, memory_bits
from flows.synth.technology import technology
from hw.engines.hss import TOKENS
from hw.presets import preset_named

__all__ = ["areas", "energies", "memory_bits"]


def areas() -> list[dict[str, Any]]:
    """Return a row for each core, the least one first: cells of HEDDLE_LIBERTY, else NAND2 equivalents; and with its memories.

    Those are scratchpad and accumulator of `hss-16x64`, and where there is sparsity the lines that the fetch unit keeps, by the
    model of macros.
    """
    liberty = os.environ.get("HEDDLE_LIBERTY", GENERIC_NAME)
    config, macros = preset_named("hss-16x64"), technology()
    unit = 1.0 if liberty == GENERIC_NAME else macros["reference_nand2"]
    line = 8 * config.line_bytes
    memories = config.scratchpad_banks * macros.memory_area(config.scratchpad_lines // config.scratchpad_banks, line, 2)
    memories += config.accumulator_banks * macros.memory_area(config.accumulator_bank_rows, config.columns * config.acc_width, 2)
    kept = macros.memory_area(TOKENS, line, 2)
    found = core_areas(liberty)
    whole = {name: area + unit * (memories + (0 if name.startswith("dense") else kept)) for name, area in found.items()}
    return [{"core": name, "area": area, "over dense": f"{area / found['dense'] - 1:+.1%}", "with memories": whole[name],
             "over dense with them": f"{whole[name] / whole['dense'] - 1:+.1%}"} for name, area in found.items()]
