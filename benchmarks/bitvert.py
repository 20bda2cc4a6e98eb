"""Area of a BitVert PE and of its array beside Stripes and multiply-accumulate units; cells of HEDDLE_LIBERTY, else NAND2."""

import os
from collections.abc import Callable
from typing import Any

from flows.synth.asic import synthesize
from flows.synth.generic import GENERIC_NAME
from flows.synth.options import AsicOptions
from hw.array.bitvert_array import BitvertArray
from hw.array.mesh import Mesh
from hw.array.stripes_array import StripesArray
from hw.pe import PESpec
from hw.pe.bitvert.pe import BitvertPE
from hw.pe.mac import MacPE
from hw.pe.stripes import StripesPE

__all__ = ["rows"]

PAPER_RATIO = 739.6 / 532.8
"""BitVert PE to Stripes PE in the paper (28 nm, 800 MHz)."""

_WIDTH, _SIDE = 24, 8
_PES: dict[str, tuple[Callable[[], Any], float, float]] = {
    "Stripes, 8 lanes": (lambda: StripesPE(lanes=8, psum_width=_WIDTH), 1, 1),
    "Stripes, 8 lanes, columns of 16 in two parts": (lambda: StripesPE(lanes=8, psum_width=_WIDTH, parts=2), 1, 1),
    "Stripes, 16 lanes": (lambda: StripesPE(lanes=16, psum_width=_WIDTH), 2, 2),
    "BitVert": (lambda: BitvertPE(psum_width=_WIDTH), 4, 2),
    "MAC int8 · int8 + int24": (
        lambda: MacPE(activation_width=8, weight_width=8, psum_width=_WIDTH, dataflows=("os",)), 1, 1),
}
"""Name → what builds it, multiply-accumulates a cycle with four columns stored, and with eight."""
_ARRAYS: dict[str, tuple[Callable[[], Any], float, float]] = {
    "array of Stripes": (lambda: StripesArray(rows=_SIDE, columns=_SIDE, psum_width=_WIDTH), 1, 1),
    "array of BitVert": (lambda: BitvertArray(rows=_SIDE, columns=_SIDE, psum_width=_WIDTH), 4, 2),
    "mesh of MAC int8": (lambda: Mesh(spec=PESpec(kind="mac", activation_width=8, weight_width=8, psum_width=_WIDTH,
                                                  dataflows=("os",)), rows=_SIDE, columns=_SIDE), 1, 1),
}
"""Of 8×8 PEs; areas are for each PE."""


def rows() -> list[dict[str, Any]]:
    """Return a row for each PE, flattened, and for each array: that has schedulers, ΣA, operand registers and control as well.

    Nets across the blocks of an array are not buffered, so that no clock is stated for them.
    """
    table: list[dict[str, Any]] = []
    for kinds, top, count in ((_PES, "pe", 1), (_ARRAYS, "array", _SIDE**2)):
        baseline = 0.0
        for name, (build, four, eight) in kinds.items():
            options = AsicOptions(liberty=os.environ.get("HEDDLE_LIBERTY", GENERIC_NAME), flatten=count == 1, timing=count == 1)
            found = synthesize(build(), top=top, options=options)
            area = found["area"] / count
            baseline = baseline or area
            table.append({
                "PE": name, "area": area, "unit": found["area_unit"], "of Stripes": area / baseline,
                "paper": f"{PAPER_RATIO:.3g}" if name == "BitVert" else "–", "flip-flops": found["flip_flops"] / count,
                "MHz": found.get("fmax_mhz") or "–", "MAC/cycle, 4 columns": four, "8 columns": eight,
                "area for 4-column MAC/cycle": area / four})
    return table
