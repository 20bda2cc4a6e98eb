"""Structured sparsity beside a dense core, 64 columns of 16 MACs: area, and estimates of energy and delay of every mode."""

import os
from typing import Any

from flows.synth.generic import GENERIC_NAME
from flows.synth.highlight import core_areas
from flows.synth.sparse_energy import energies, memory_bits

__all__ = ["areas", "energies", "memory_bits"]


def areas() -> list[dict[str, Any]]:
    """Return a row for each core, the least one first: cells of HEDDLE_LIBERTY, else NAND2 equivalents; no memories."""
    found = core_areas(os.environ.get("HEDDLE_LIBERTY", GENERIC_NAME))
    dense = found["dense"]
    return [{"core": name, "area": area, "over dense": f"{area / dense - 1:+.1%}"} for name, area in found.items()]
