"""Area of a BitMoD PE and of its tile beside multiply-accumulate units; cells of HEDDLE_LIBERTY, else NAND2 equivalents."""

import os
from collections.abc import Callable
from typing import Any

from flows.synth.asic import synthesize
from flows.synth.generic import GENERIC_NAME
from flows.synth.options import AsicOptions
from hw.arith.float_add import FloatAdd
from hw.arith.float_fma import FloatFma
from hw.arith.float_product import FloatProduct
from hw.arith.half_mul_add import HalfMulAdd
from hw.array.bitmod_array import BitmodArray
from hw.array.bitmod_tile import BitmodTile
from hw.array.float_column import FloatColumn
from hw.array.mesh import Mesh
from hw.elements import BF16, ELEMENTS, FP16, FP32
from hw.engines.bitmod import BITMOD_TERMS
from hw.pe import PESpec
from hw.pe.bitmod.pe import BitmodPE
from hw.pe.bitmod.shape import BitmodShape
from hw.pe.mac import MacPE

PAPER_RATIO = 1507.7 / 1968.7
"""BitMoD PE to FP16 PE in the authors' performance model (28 nm, 1 GHz)."""

_BASELINE = "MAC float16 · float16 + float16 into float32"
_PES: dict[str, tuple[Callable[[], Any], bool]] = {
    _BASELINE: (HalfMulAdd, False),
    "float16 · float16, exact in float32": (lambda: FloatProduct(fmt=FP16), False),
    "float32 + float32": (lambda: FloatAdd(fmt=FP32), False),
    "MAC float16 · float16 + float16": (lambda: FloatFma(fmt=FP16), False),
    "MAC int8 · int8 + int24": (lambda: MacPE(activation_width=8, weight_width=8, psum_width=24, dataflows=("os",)), False),
    "BitMoD float16, all precisions": (lambda: BitmodPE(BitmodShape()), True),
    "BitMoD float16, fp4 and fp3": (lambda: BitmodPE(BitmodShape(precisions=("fp4", "fp3"))), True),
    "BitMoD bfloat16, all precisions": (lambda: BitmodPE(BitmodShape(activation=BF16)), True),
    "BitMoD int8, all precisions": (lambda: BitmodPE(BitmodShape(activation=ELEMENTS["int8"])), True),
}
_SIDE = 8
_ARRAYS: dict[str, tuple[Callable[[], Any], bool]] = {
    "mesh of MAC int8": (lambda: Mesh(spec=PESpec(kind="mac", activation_width=8, weight_width=8, psum_width=24,
                                                  dataflows=("os",)), rows=_SIDE, columns=_SIDE), False),
    "array of BitMoD int8, fp4 and fp3": (lambda: _array(activation=ELEMENTS["int8"], precisions=("fp4", "fp3")), True),
    "array of BitMoD int8, all precisions": (lambda: _array(activation=ELEMENTS["int8"]), True),
    "array of BitMoD float16, fp4 and fp3": (lambda: _array(precisions=("fp4", "fp3")), True),
    "array of BitMoD float16, all precisions": (lambda: _array(), True),
    "the same with column sums: tile": (lambda: BitmodTile(BitmodShape(), rows=_SIDE, columns=_SIDE), True),
}
"""Of 8×8 PEs; areas are for each PE."""


def _array(**shape: Any) -> BitmodArray:
    return BitmodArray(BitmodShape(**shape), rows=_SIDE, columns=_SIDE)


def _options(**more: Any) -> AsicOptions:
    return AsicOptions(liberty=os.environ.get("HEDDLE_LIBERTY", GENERIC_NAME), **more)


def _row(name: str, area: float, found: dict[str, Any], flip_flops: float, baseline: float, serial: bool) -> dict[str, Any]:
    fastest, slowest = (4 / BITMOD_TERMS[precision] if serial else 1.0 for precision in ("fp4", "int8"))
    return {"PE": name, "area": area, "unit": found["area_unit"], "of the first": area / baseline, "paper": "–",
            "flip-flops": flip_flops, "depth": found["depth"], "MHz": found["fmax_mhz"] or "–", "MAC/cycle fp4": fastest,
            "int8": slowest, "area for fp4 MAC/cycle": area / fastest}


def rows() -> list[dict[str, Any]]:
    """Return a row for each PE, flattened, and for each array: that has encoders, operand registers and control as well.

    Nets across the blocks of an array are not buffered, so that no clock is stated for them.
    """
    table: list[dict[str, Any]] = []
    baseline = 0.0
    for name, (build, serial) in _PES.items():
        found = synthesize(build(), top="pe", options=_options(flatten=True))
        baseline = baseline or found["area"]
        table.append(_row(name, found["area"], found, found["flip_flops"], baseline, serial))
    table[5]["paper"] = f"{PAPER_RATIO:.3g}"
    found = synthesize(FloatColumn(fmt=FP16, rows=_SIDE), top="array", options=_options(timing=False))
    table.append(_row("column of float16 MACs, a tree of adders", found["area"] / _SIDE, found, found["flip_flops"] / _SIDE,
                      baseline, False))
    for name, (build, serial) in _ARRAYS.items():
        found = synthesize(build(), top="array", options=_options(timing=False))
        table.append(_row(name, found["area"] / _SIDE**2, found, found["flip_flops"] / _SIDE**2, baseline, serial))
    return table
