"""Areas and power of the compute core with and without structured sparsity."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

from flows.synth.asic import synthesize
from flows.synth.generic import GENERIC_NAME
from flows.synth.options import AsicOptions, load_liberty
from flows.synth.technology import technology
from hw.array.hss_check import CoordinateCheck
from hw.array.hss_column import HssColumn
from hw.array.hss_former import BlockFormer
from hw.array.hss_fp4 import Fp4Quantizer
from hw.array.hss_shape import HssShape
from hw.engines.hss import DENSE, GROUP, TOKENS, HssMode
from hw.memory.vfmu import VariableFetch
from hw.presets import preset_named

__all__ = ["CORES", "core_areas", "core_energies", "core_parts", "memory_areas"]

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


def core_parts(liberty: str, *, power: bool = False) -> dict[str, dict[str, tuple[int, dict[str, Any]]]]:
    """Return for each of `CORES` its parts: name → how many there are, and what `flows.synth.asic.synthesize` says of one.

    64 columns of 16 MACs, and what they share. Scratchpad, accumulator, vector unit and the lines of the fetch unit, which are
    SRAM, are left out. The same part is synthesized once.

    Parameters
    ----------
    liberty : str
    power : bool
        Whether OpenSTA is asked, too.

    Raises
    ------
    ValueError, ToolError
        As `flows.synth.asic.synthesize`.
    """
    chosen = AsicOptions(liberty=liberty, timing=power, flatten=True)
    return {name: {part: (count, synthesize(build(), top="block", options=chosen)) for part, count, build in _parts(shape)}
            for name, shape in CORES.items()}


def _parts(shape: HssShape) -> Iterator[tuple[str, int, Callable[[], Any]]]:
    """Yield name, number and what builds it, of each part of a core."""
    config = preset_named("hss-16x64")
    yield "column", _COLUMNS, functools.partial(HssColumn, shape)
    yield "fetch", 1, functools.partial(VariableFetch, config, streams=TOKENS, groups=_GROUPS, group_bytes=shape.group_bytes)
    yield "block former", 1, functools.partial(BlockFormer, groups=_GROUPS, blocks=shape.blocks, lengths=shape.lengths)
    if shape.metadata:
        yield "check of coordinates", 1, functools.partial(CoordinateCheck, shape, columns=_COLUMNS)
    if shape.sdq:
        yield "quantizer to FP4", _GROUPS, functools.partial(Fp4Quantizer, lanes=2 * GROUP)


def core_areas(liberty: str) -> dict[str, float]:
    """Return the area of each of `CORES`, in the library's unit, memories left out.

    Raises
    ------
    ValueError, ToolError
        As `flows.synth.asic.synthesize`.
    """
    return {name: sum(count * float(found["area"]) for count, found in parts.values())
            for name, parts in core_parts(liberty).items()}


def memory_areas(liberty: str) -> dict[str, float]:
    """Return the area of the memories of each of `CORES` by the model of macros, in the library's unit.

    Those are scratchpad and accumulator of `hss-16x64`, and where there is sparsity the lines that the fetch unit keeps.
    """
    config, macros = preset_named("hss-16x64"), technology()
    unit = 1.0 if liberty == GENERIC_NAME else load_liberty(liberty).nand2.area
    line = 8 * config.line_bytes
    memories = config.scratchpad_banks * macros.memory_area(config.scratchpad_lines // config.scratchpad_banks, line, 2)
    memories += config.accumulator_banks * macros.memory_area(config.accumulator_bank_rows, config.columns * config.acc_width, 2)
    kept = macros.memory_area(TOKENS, line, 2)
    return {name: unit * (memories + (kept if shape.metadata else 0)) for name, shape in CORES.items()}


def core_energies(liberty: str) -> dict[str, float]:
    """Return the pJ that the logic of each of `CORES` takes a cycle: OpenSTA's power at one activity for all nets.

    So what gating saves where operands are zero is not in it.

    Raises
    ------
    ValueError
        As `flows.synth.asic.synthesize`, or if there is no power: the library states none, or OpenSTA is missing.
    ToolError
        As `flows.synth.asic.synthesize`.
    """
    found = {}
    for name, parts in core_parts(liberty, power=True).items():
        found[name] = 0.0
        for part, (count, result) in parts.items():
            power: dict[str, float] | None = result["power_mw"]
            if power is None:
                raise ValueError(f"energy of logic must come from a cell library with power, and OpenSTA, not from {liberty} "
                                 f"({part}: {'; '.join(result.get('notes', ())) or 'no power'})")
            found[name] += count * power["total"] * result["clock_ns"]
    return found
