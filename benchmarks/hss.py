"""Area of structured sparsity beside a dense core, 64 columns of 16 MACs; cells of HEDDLE_LIBERTY, else NAND2 equivalents.

Columns and what they share are synthesized apart. The scratchpad, accumulator and vector unit of `hss-16x64` are left out: shares
are of the compute core alone.
"""

import functools
import os
from collections.abc import Callable
from typing import Any

from flows.synth.asic import synthesize
from flows.synth.generic import GENERIC_NAME
from flows.synth.options import AsicOptions
from hw.array.hss_check import CoordinateCheck
from hw.array.hss_column import HssColumn
from hw.array.hss_former import BlockFormer
from hw.array.hss_fp4 import Fp4Quantizer
from hw.array.hss_shape import HssShape
from hw.engines.hss import DENSE, GROUP, TOKENS, HssMode
from hw.memory.vfmu import VariableFetch
from hw.presets import preset_named

__all__ = ["rows"]

COLUMNS = 64
_GROUPS = 2
_STC = HssMode(h1=4, h0=4)
_HIGHLIGHT = tuple(HssMode(h1=h1, h0=h0) for h1 in range(4, 9) for h0 in range(2, 5))
_SDQ = HssMode(h1=4, h0=4, sdq=True)
_CORES: dict[str, HssShape] = {
    "dense": HssShape(groups=_GROUPS, modes=(DENSE,), psum_width=20, gating=False),
    "dense, gated": HssShape(groups=_GROUPS, modes=(DENSE,), psum_width=20),
    "2:4": HssShape(groups=_GROUPS, modes=(DENSE, _STC), psum_width=20),
    "15 modes of HighLight": HssShape(groups=_GROUPS, modes=(DENSE, *_HIGHLIGHT), psum_width=20),
    "15 modes and SDQ": HssShape(groups=_GROUPS, modes=(DENSE, *_HIGHLIGHT, _SDQ), psum_width=21),
}


def _area(build: Callable[[], Any]) -> float:
    options = AsicOptions(liberty=os.environ.get("HEDDLE_LIBERTY", GENERIC_NAME), timing=False, flatten=True)
    return float(synthesize(build(), top="block", options=options)["area"])


def _shared(shape: HssShape) -> float:
    """Return the area of what all columns share: fetch (its lines are SRAM, and left out), block former, FP4, checks."""
    config = preset_named("hss-16x64")
    parts: list[Callable[[], Any]] = [
        lambda: VariableFetch(config, streams=TOKENS, groups=_GROUPS, group_bytes=shape.group_bytes),
        lambda: BlockFormer(groups=_GROUPS, blocks=shape.blocks, lengths=shape.lengths)]
    if shape.metadata:
        parts.append(lambda: CoordinateCheck(shape, columns=COLUMNS))
    quantizers = _GROUPS * _area(lambda: Fp4Quantizer(lanes=2 * GROUP)) if shape.sdq else 0.0
    return sum(map(_area, parts)) + quantizers


def rows() -> list[dict[str, Any]]:
    """Return a row for each core, the least one first: its columns, what they share, and how much more than the dense core."""
    table: list[dict[str, Any]] = []
    baseline = 0.0
    for name, shape in _CORES.items():
        column, shared = _area(functools.partial(HssColumn, shape)), _shared(shape)
        total = COLUMNS * column + shared
        baseline = baseline or total
        table.append({"core": name, "column": column, "shared": shared, "of 64 columns": total,
                      "over dense": f"{total / baseline - 1:+.1%}"})
    return table
