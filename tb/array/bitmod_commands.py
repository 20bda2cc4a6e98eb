"""A small BitMoD engine with all kinds of modes, and random commands for it."""

import random

import numpy as np

from hw.config import AcceleratorConfig, ceil_div
from hw.engines.bitmod import bitmod_modes
from hw.isa import Dataflow
from sw.golden.array.bitmod import result_rows
from tb.array.engine import command_of

__all__ = ["CONFIG", "MODES", "PIECE", "SMALL", "C", "R", "random_command", "rows_of"]

R, C = 4, 2
SMALL = {"engine": "bitmod", "dataflows": ("ws",), "bus_width": 128, "vector_lanes": 2, "scratchpad_bytes": 2048,
         "scratchpad_banks": 4, "accumulator_rows": 32}
FORMATS = ("bitmod4-g16", "bitmod3-g32", "int6-g16-int8", "int8-g32-int8", "int5-g16-int8", "int4-g16-int8", "int3-g16-int8")
CONFIG = AcceleratorConfig(rows=R, columns=C, weight_formats=FORMATS, **SMALL)
MODES = bitmod_modes(CONFIG)
PIECE = 2 * C


def _pieces_of(mode: int, k: int) -> int:
    """Return the pieces (mode 0: slots) of K in a tile's weights."""
    if mode == 0:
        return k
    info = MODES[mode]
    inside = range(0, k, 4)
    high, low = (4 // width if width else 0 for width in (info.high, info.low))
    group = info.group // 4
    return ceil_div(k, info.group) + sum(1 for step in range(len(inside)) for each in (high, low)
                                         if each and step % group % each == 0)


def random_command(mode: int, rng: random.Random) -> dict[str, int]:
    """Return a command whose operands and rows lie inside the memories; strides may be 0."""
    m, n, k = (1 if rng.random() < 0.2 else rng.randint(1, largest) for largest in (2 * R + 1, 2 * C + 1, 2 * MODES[0].group + 7))
    fields = command_of(m, n, k, Dataflow.WS, accumulate=rng.randrange(2), mode=mode)
    groups = ceil_div(n, C)
    for operand, slot, count, tiles, size in (
            ("activation", R, m, 1, k), ("weight", PIECE if mode else C, _pieces_of(mode, k), groups, 1)):
        room = (CONFIG.scratchpad_bytes - size) // slot
        stride = rng.choice([0, 1, 1, rng.randint(0, max(0, room // 2 // max(1, count - 1)))])
        stride = min(stride, room // 2 // max(1, count - 1))
        tile_stride = rng.randint(0, room // 2 // max(1, tiles - 1))
        spare = room - stride * (count - 1) - tile_stride * (tiles - 1)
        fields |= {f"{operand}_addr": rng.randint(0, spare) * slot, f"{operand}_stride": stride * slot,
                   f"{operand}_tile_stride": tile_stride * slot}
    tile_stride = rng.randint(0, (CONFIG.accumulator_rows - m) // max(1, groups - 1))
    return fields | {"acc_tile_stride": tile_stride,
                     "acc_addr": rng.randint(0, CONFIG.accumulator_rows - m - (groups - 1) * tile_stride)}


def rows_of(command: dict[str, int], scratchpad: np.ndarray) -> list[tuple[int, int, list[int]]]:
    return [(row, accumulate, list(products)) for row, accumulate, products in result_rows(CONFIG, command, scratchpad)]
