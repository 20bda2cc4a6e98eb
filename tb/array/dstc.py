"""Commands and operands for benches of the dual-side sparse engine, and a bench that counts its products."""

import random
from typing import Any

import numpy as np

from hw.config import AcceleratorConfig, ceil_div
from hw.engines.dstc import dstc_chunk, dstc_records, dstc_tokens
from sw.engines.dstc import dstc_layout, pack_masked
from sw.golden.state import State
from tb.array.engine import command_of

__all__ = ["SMALL", "config_of", "place", "random_case", "sparse_weights", "state_of"]

SMALL = {"dataflows": ("ws",), "bus_width": 64, "scratchpad_bytes": 16384, "scratchpad_banks": 4, "accumulator_rows": 64,
         "os_depth": 32, "vector_lanes": 2}


def config_of(*formats: str, rows: int = 2, columns: int = 8, **more: Any) -> AcceleratorConfig:
    """Return a small config with these weight formats: chunks of 8 of K, tiles of 8 × 8 sums, steps of 2 × 4 products."""
    return AcceleratorConfig(engine="dstc", rows=rows, columns=columns, weight_formats=formats, **SMALL | more)


def state_of(config: AcceleratorConfig, scratchpad: np.ndarray) -> State:
    """Return a state with this scratchpad and an accumulator of zeros."""
    return State(config=config, memory=np.zeros(0, np.uint8), scratchpad=scratchpad, rows=np.zeros(16, np.float32),
                 accumulator=np.zeros((config.accumulator_rows, config.columns), np.int64),
                 counters={"macs": 0, "saturations": 0})


def sparse_weights(config: AcceleratorConfig, mode: int, n: int, k: int, rng: np.random.Generator, density: float) -> np.ndarray:
    """Return int8 (n, k) with zeros anywhere, of each record no more than it has room for."""
    w = np.where(rng.random((n, k)) < density, rng.integers(-128, 128, (n, k)), 0).astype(np.int8)
    if not mode:
        return w
    record = dstc_records(config)[mode - 1]
    for first in range(0, n, config.columns):
        for start in range(0, k, record.k):
            block = w[first:first + config.columns, start:start + record.k]
            places = rng.permutation(np.flatnonzero(block))[record.room(config.columns):]
            block[np.unravel_index(places, block.shape)] = 0
    return w


def place(config: AcceleratorConfig, mode: int, m: int, n: int, k: int, rng: np.random.Generator, scratchpad: np.ndarray, *,
          activation_addr: int = 0, weight_addr: int | None = None, densities: tuple[float, float] = (1.0, 1.0),
          **others: int) -> tuple[dict[str, int], np.ndarray, int]:
    """Lay random operands, zeros anywhere, into `scratchpad`; return command, product, and the next free line."""
    line, slot = config.line_bytes, config.weight_slot_bytes
    stride = ceil_div(k, line) * line
    a = np.where(rng.random((m, k)) < densities[0], rng.integers(-128, 128, (m, k)), 0).astype(np.int8)
    for row in range(m):
        scratchpad[activation_addr + row * stride:][:k] = a[row].view(np.uint8)
    weight_addr = activation_addr + m * stride if weight_addr is None else weight_addr
    w = sparse_weights(config, mode, n, k, rng, densities[1])
    if mode:
        layout = dstc_layout(config, mode, n, k)
        data, tile_stride = pack_masked(config, layout, w), layout.group_stride
    else:
        groups = ceil_div(n, config.columns)
        slots = np.zeros((groups * config.columns, k), np.int8)
        slots[:n] = w
        packed = slots.reshape(groups, config.columns, k).swapaxes(1, 2)
        data = np.pad(packed, ((0, 0), (0, 0), (0, slot - config.columns))).view(np.uint8).ravel()
        tile_stride = k * slot
    assert weight_addr + data.size <= scratchpad.size
    scratchpad[weight_addr:weight_addr + data.size] = data
    free = ceil_div(weight_addr + data.size, line) * line
    return command_of(m, n, k, 0, activation_addr=activation_addr, activation_stride=stride, weight_addr=weight_addr,
                      weight_stride=slot, weight_tile_stride=tile_stride, mode=mode, acc_tile_stride=m,
                      **others), a.astype(np.int64) @ w.T, free


def random_case(config: AcceleratorConfig, count: int, seed: int) -> tuple[np.ndarray, list[dict[str, int]]]:
    """Return a scratchpad and commands of all modes in turn, of all densities; some rows begin anywhere."""
    rng, choose = np.random.default_rng(seed), random.Random(seed)
    scratchpad = rng.integers(0, 256, config.scratchpad_bytes).astype(np.uint8)
    share = config.scratchpad_bytes // count // config.line_bytes * config.line_bytes
    commands = []
    for index in range(count):
        mode = index % (len(config.weight_formats) + 1)
        n, m = choose.randint(1, 2 * config.columns), choose.choice((1, 2, choose.randint(3, 2 * dstc_tokens(config))))
        k = choose.randint(1, 6 * dstc_chunk(config))
        while m * (k + config.line_bytes) + ceil_div(n, config.columns) * (k + 32) * 2 * config.columns > share:
            m, n, k = max(1, m * 2 // 3), max(1, n // 2), max(1, k * 2 // 3)
        command, *_ = place(config, mode, m, n, k, rng, scratchpad, activation_addr=index * share,
                            densities=(choose.choice((0.0, 0.1, 0.5, 1.0)), choose.choice((0.05, 0.3, 0.6, 1.0))),
                            accumulate=choose.randrange(2))
        if choose.random() < 0.4:               # rows that begin anywhere, of what lies there
            command |= {"activation_addr": index * share + choose.randrange(16), "activation_stride": choose.randrange(40)}
        groups = ceil_div(n, config.columns)
        commands.append(command | {"acc_addr": choose.randint(0, config.accumulator_rows - groups * m)})
    return scratchpad, commands
