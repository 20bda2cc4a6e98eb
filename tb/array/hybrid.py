"""Configs and commands for benches of the hybrid engine, and the accumulator that its rows make."""

import random
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig, ceil_div
from hw.engines.hybrid import MODE_MESH, block_shape, record_bytes
from hw.isa import Dataflow
from sw.golden.array import matrix_model
from sw.golden.state import State
from tb.array.engine import EngineBench, command_of

__all__ = ["HYBRID_CONFIGS", "SMALL_HYBRID", "accumulated", "golden_state", "random_hybrid_command"]

SMALL_HYBRID: dict[str, Any] = {
    "engine": "hybrid", "dataflows": ("ws",), "scratchpad_bytes": 8192, "scratchpad_banks": 4, "accumulator_rows": 128,
    "bus_width": 64}
HYBRID_CONFIGS = {
    "4-2": AcceleratorConfig(weight_formats=("mxint4", "int4-g64-int8"), **SMALL_HYBRID),
    "4-1": AcceleratorConfig(weight_formats=("mxint4-b64",), hybrid_clusters=1, guard_bits=3, **SMALL_HYBRID),
    "8-2": AcceleratorConfig(rows=8, columns=8, weight_formats=("int4-g32-int8", "mxint4-b128"), **SMALL_HYBRID),
    "8-4": AcceleratorConfig(rows=8, columns=8, weight_formats=("mxint4",), hybrid_clusters=4,
                             **(SMALL_HYBRID | {"bus_width": 128})),
}
"""Clusters that take a whole beat and half a one, one cluster, scales of both kinds, blocks of 4 to 16 passes."""


def random_hybrid_command(config: AcceleratorConfig, rng: random.Random, kind: str) -> dict[str, int]:
    """Return a legal command: "clusters", "mesh" (packed, one token or more) or "plain"; any bytes are weights."""
    size, pad = config.rows, config.scratchpad_bytes
    mode = 0 if kind == "plain" else rng.randint(1, len(config.weight_formats))
    m = 1 if kind == "clusters" or rng.random() < 0.3 else rng.randint(2, size + 2)
    n, k = rng.randint(1, 2 * size + 1), rng.randint(1, 45)
    groups = ceil_div(n, size)
    stride = rng.randrange(12) * size
    spare = (pad - (m - 1) * stride - ceil_div(k, size) * size) // size
    fields = {"activation_addr": rng.randint(0, spare) * size, "activation_stride": stride, "accumulate": rng.randrange(2)}
    if mode:
        length, step = ceil_div(k, block_shape(config, mode).block) * record_bytes(config, mode), config.beat_bytes
        tile_stride = rng.randint(0, (pad - length) // max(1, groups - 1) // step) * step
        fields |= {"weight_tile_stride": tile_stride,
                   "weight_addr": rng.randint(0, (pad - length - (groups - 1) * tile_stride) // step) * step}
        mode |= MODE_MESH * (kind == "mesh" and (m == 1 or rng.random() < 0.5))
    else:
        fields |= {"weight_stride": size * rng.randint(0, 3), "weight_tile_stride": size * rng.randint(0, 9),
                   "weight_addr": size * rng.randint(0, 20)}
    acc_stride = rng.randint(0, (config.accumulator_rows - m) // groups)
    fields |= {"acc_tile_stride": acc_stride, "acc_addr": rng.randint(0, config.accumulator_rows - m - (groups - 1) * acc_stride)}
    return command_of(m, n, k, Dataflow.WS, mode=mode, **fields)


def golden_state(config: AcceleratorConfig, scratchpad: npt.NDArray[np.uint8], commands: list[dict[str, int]],
                 start: int = 0) -> State:
    """Return the memories after `commands`, whose words of the accumulator all were `start`."""
    state = State(config=config, memory=np.zeros(0, np.uint8), scratchpad=scratchpad,
                  accumulator=np.full((config.accumulator_rows, config.columns), start, np.int64),
                  rows=np.zeros(config.vector_rows, np.float32),
                  counters=dict.fromkeys(("macs", "bytes_written", "saturations", *config.engine_counters), 0))
    for command in commands:
        matrix_model(config)(state, command)
    return state


def accumulated(bench: EngineBench, start: int = 0) -> npt.NDArray[np.int64]:
    """Return the accumulator after the rows that a bench has seen, as `hw.memory.accumulator` adds."""
    config = bench.dut.config
    accumulator = np.full((config.accumulator_rows, config.columns), start, np.int64)
    for _, row, accumulate, psums in bench.rows:
        accumulator[row] = np.clip((accumulator[row] if accumulate else 0) + np.array(psums), -1 << 31, (1 << 31) - 1)
    return accumulator
