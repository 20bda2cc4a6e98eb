"""Areas of the compute core with and without structured sparsity."""

import functools
from collections.abc import Callable
from typing import Any

from flows.synth.asic import synthesize
from flows.synth.options import AsicOptions
from hw.array.hss_check import CoordinateCheck
from hw.array.hss_column import HssColumn
from hw.array.hss_former import BlockFormer
from hw.array.hss_fp4 import Fp4Quantizer
from hw.array.hss_shape import HssShape
from hw.engines.hss import DENSE, GROUP, TOKENS, HssMode
from hw.memory.vfmu import VariableFetch
from hw.presets import preset_named

__all__ = ["CORES", "core_areas"]

_COLUMNS, _GROUPS = 64, 2
_HIGHLIGHT = tuple(HssMode(h1=h1, h0=h0) for h1 in range(4, 9) for h0 in range(2, 5))
CORES: dict[str, HssShape] = {
    "dense": HssShape(groups=_GROUPS, modes=(DENSE,), psum_width=20, gating=False),
    "dense, gated": HssShape(groups=_GROUPS, modes=(DENSE,), psum_width=20),
    "2:4": HssShape(groups=_GROUPS, modes=(DENSE, HssMode(h1=4, h0=4)), psum_width=20),
    "15 modes": HssShape(groups=_GROUPS, modes=(DENSE, *_HIGHLIGHT), psum_width=20),
    "15 modes and SDQ": HssShape(groups=_GROUPS, modes=(DENSE, *_HIGHLIGHT, HssMode(h1=4, h0=4, sdq=True)), psum_width=21),
}
"""What the core can do, the least first."""


def core_areas(liberty: str) -> dict[str, float]:
    """Return the area of 64 columns of 16 MACs and what they share, for each of `CORES`, in the library's unit.

    One column is synthesized and counted 64 times. Scratchpad, accumulator, vector unit and the lines of the fetch unit, which
    are SRAM, are left out.

    Raises
    ------
    ValueError, ToolError
        As `flows.synth.asic.synthesize`.
    """
    def area(build: Callable[[], Any]) -> float:
        return float(synthesize(build(), top="block", options=AsicOptions(liberty=liberty, timing=False, flatten=True))["area"])

    config = preset_named("hss-16x64")
    found = {}
    for name, shape in CORES.items():
        shared: list[Callable[[], Any]] = [
            functools.partial(VariableFetch, config, streams=TOKENS, groups=_GROUPS, group_bytes=shape.group_bytes),
            functools.partial(BlockFormer, groups=_GROUPS, blocks=shape.blocks, lengths=shape.lengths)]
        if shape.metadata:
            shared.append(functools.partial(CoordinateCheck, shape, columns=_COLUMNS))
        if shape.sdq:
            shared += [functools.partial(Fp4Quantizer, lanes=2 * GROUP)] * _GROUPS
        found[name] = _COLUMNS * area(functools.partial(HssColumn, shape)) + sum(map(area, shared))
    return found
