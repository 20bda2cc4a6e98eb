"""BitVert commands for benches: small configs, random commands that stay inside the memories, states of the golden model."""

import dataclasses
import random

import numpy as np

from hw.config import AcceleratorConfig, ceil_div
from hw.engines.bitvert import BITVERT_LANES, bitvert_formats
from hw.isa import Dataflow
from sw.golden.state import State
from tb.array.engine import command_of

__all__ = ["CONFIG", "FORMATS", "STRIPES", "golden_state", "random_command", "weight_bytes"]

FORMATS = ("int8", "bbs-average-g32", "bbs-shift-g32")
CONFIG = AcceleratorConfig(engine="bitvert", dataflows=("ws",), rows=2, columns=4, weight_formats=FORMATS, os_depth=64,
                           bus_width=64, vector_lanes=4, scratchpad_bytes=8192, scratchpad_banks=4, accumulator_rows=64)
"""2×4 PEs, lines of 16 bytes: one chunk of activations, two slots of columns."""
STRIPES = dataclasses.replace(CONFIG, engine="stripes", weight_formats=("int8",))


def golden_state(config: AcceleratorConfig, scratchpad: np.ndarray) -> State:
    """Return a state with this scratchpad and an empty accumulator."""
    return State(config=config, memory=np.zeros(0, np.uint8), scratchpad=scratchpad,
                 accumulator=np.zeros((config.accumulator_rows, config.columns), np.int64),
                 rows=np.zeros(config.vector_rows, np.float32),
                 counters=dict.fromkeys(("macs", "bytes_written", "saturations"), 0))


def weight_bytes(config: AcceleratorConfig, mode: int, k: int) -> int:
    """Return the bytes of a stream of packed weights up to what a command reads last."""
    fmt = bitvert_formats(config)[mode - 1]
    return 2 * config.columns * (ceil_div(k, 64) * fmt.metadata + ceil_div(k, BITVERT_LANES) * fmt.columns)


def random_command(config: AcceleratorConfig, rng: random.Random, mode: int, k_most: int = 150) -> dict[str, int]:
    """Return a command of a mode whose operands and rows lie inside the memories; strides may be 0."""
    m, n, k = (1 if rng.random() < 0.2 else rng.randint(1, largest)
               for largest in (2 * config.rows + 1, 2 * config.columns + 1, k_most))
    fields = command_of(m, n, k, Dataflow.WS, accumulate=rng.randrange(2), mode=mode)
    size, groups = config.scratchpad_bytes, ceil_div(n, config.columns)
    most = size // 2 // (config.line_bytes * max(1, m - 1)) // 4
    stride = rng.choice((config.rows, 8, 16, 32, config.line_bytes)) * rng.randint(0, most)
    spare = (size - k - (m - 1) * stride) // BITVERT_LANES - 1
    fields |= {"activation_stride": stride,
               "activation_addr": rng.randint(0, spare) * BITVERT_LANES + rng.choice((0, 0, config.rows)),
               "activation_tile_stride": rng.randrange(1 << 24)}
    if mode:
        slot, span = 2 * config.columns, weight_bytes(config, mode, k)
        fields["weight_stride"] = rng.randrange(1 << 24)
    else:
        slot = config.columns
        fields["weight_stride"] = rng.randint(0, 4) * slot
        span = (k - 1) * fields["weight_stride"] + slot
    tile_stride = rng.randint(0, max(0, (size - span) // 2 // slot)) * slot if groups > 1 else 0
    spare = (size - span - (groups - 1) * tile_stride) // slot
    fields |= {"weight_tile_stride": tile_stride // max(1, groups - 1) // slot * slot,
               "weight_addr": rng.randint(0, spare) * slot}
    acc_stride = rng.randint(0, (config.accumulator_rows - m) // max(1, groups - 1))
    return fields | {"acc_tile_stride": acc_stride,
                     "acc_addr": rng.randint(0, config.accumulator_rows - m - (groups - 1) * acc_stride)}
