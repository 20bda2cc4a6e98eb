"""Commands and weights for benches of the structured-sparsity engine, and a bench that counts each row's multiplications."""

import random
from typing import Any

import numpy as np

from hw.config import AcceleratorConfig, ceil_div
from hw.engines.hss import HssMode, hss_granule, hss_modes, hss_record_slots
from sw.engines.hss import hss_layout, pack_sdq, pack_series
from tb.array.engine import EngineBench, command_of

__all__ = ["ALL", "SDQ", "SERIES", "SMALL", "HssBench", "config_of", "place", "random_case", "random_sdq", "random_sparse"]

ALL = tuple(f"hss-4:{h1}-2:{h0}" for h1 in range(4, 9) for h0 in range(2, 5))
SERIES = ("tasd-2:4+1:8", "tasd-1:8+1:8", "tasd-2:4+2:4", "tasd-1:8+2:4+1:4")
SDQ = "sdq-7:8-1:8int8-6:8fp4"
SMALL = {"dataflows": ("ws",), "bus_width": 256, "scratchpad_bytes": 8192, "scratchpad_banks": 4, "accumulator_rows": 64,
         "vector_lanes": 2}


def config_of(*formats: str, rows: int = 8, columns: int = 2, engine: str = "hss", **more: Any) -> AcceleratorConfig:
    """Return a small config with these weight formats."""
    return AcceleratorConfig(engine=engine, rows=rows, columns=columns, weight_formats=formats, **SMALL | more)


def random_sparse(mode: HssMode, n: int, k: int, rng: np.random.Generator, density: float = 1.0) -> np.ndarray:
    """Return int8 (n, k) of a mode's pattern: places anywhere; of the values `density` are kept, the rest zero."""
    padded = -(-k // mode.group) * mode.group
    blocks = np.zeros((n, padded // mode.group, mode.h1, mode.h0), np.int8)
    for index in np.ndindex(blocks.shape[:2]):
        for block in rng.permutation(mode.h1)[:4]:
            for place in rng.permutation(mode.h0)[:2]:
                blocks[(*index, block, place)] = rng.integers(-128, 128) if rng.random() < density else 0
    return blocks.reshape(n, padded)[:, :k]


def random_sdq(n: int, k: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return outliers, inlier codes (n, k) and shifts (n, k / 16); some inliers are zero, some −0."""
    eights = (n, k // 8, 8)
    order = np.argsort(rng.random(eights), axis=-1)
    outliers = np.where(order == 0, rng.integers(-128, 128, eights), 0).astype(np.int8)
    inliers = np.where(np.argsort(rng.random(eights), axis=-1) < 6, rng.integers(0, 16, eights), 0).astype(np.uint8)
    return outliers.reshape(n, k), inliers.reshape(n, k), rng.integers(0, 5, (n, k // 16))


def place(config: AcceleratorConfig, mode: int, m: int, n: int, k: int, rng: np.random.Generator, scratchpad: np.ndarray, *,
          activation_addr: int = 0, weight_addr: int | None = None, density: float = 1.0,
          **others: int) -> tuple[dict[str, int], np.ndarray, int]:
    """Lay random operands into `scratchpad`; return command, exact product (zeros where the mode is SDQ), and the next free line.

    Rows of activations begin at lines; of activations, `density` are kept.
    """
    line = config.line_bytes
    stride = ceil_div(k, line) * line
    a = np.where(rng.random((m, k)) < density, rng.integers(-128, 128, (m, k)), 0).astype(np.int8)
    for row in range(m):
        scratchpad[activation_addr + row * stride:][:k] = a[row].view(np.uint8)
    chosen = hss_modes(config)[mode]
    weight_addr = activation_addr + m * stride if weight_addr is None else weight_addr
    slot = config.weight_slot_bytes
    product = np.zeros((m, n), np.int64)
    if chosen.packed:
        layout = hss_layout(config, mode, n, k)
        if chosen.sdq:
            padded = ceil_div(k, layout.granule) * layout.granule
            data = pack_sdq(config, layout, *random_sdq(n, padded, rng))
        else:
            terms = [random_sparse(term, n, k, rng) for term in chosen.terms]
            product = a.astype(np.int64) @ sum(term.astype(np.int64) for term in terms).T
            data = pack_series(config, layout, terms)
        tile_stride = layout.group_stride
    else:
        w = rng.integers(-128, 128, (k, n)).astype(np.int8)
        product = a.astype(np.int64) @ w
        groups = ceil_div(n, config.columns)
        slots = np.zeros((groups, k, slot), np.uint8)
        for j in range(groups):
            part = w[:, j * config.columns:(j + 1) * config.columns]
            slots[j, :, :part.shape[1]] = part.view(np.uint8)
        data, tile_stride = slots.ravel(), k * slot
    scratchpad[weight_addr:weight_addr + data.size] = data
    assert weight_addr + data.size <= scratchpad.size
    free = ceil_div(weight_addr + data.size, line) * line
    return command_of(m, n, k, 0, activation_addr=activation_addr, activation_stride=stride, weight_addr=weight_addr,
                      weight_stride=slot, weight_tile_stride=tile_stride, mode=mode, acc_tile_stride=m, **others), product, free


def random_case(config: AcceleratorConfig, count: int, seed: int) -> tuple[np.ndarray, list[dict[str, int]]]:
    """Return a scratchpad and commands of all modes in turn, each with operands of its own place; some rows begin anywhere."""
    rng, choose = np.random.default_rng(seed), random.Random(seed)
    scratchpad = rng.integers(0, 256, config.scratchpad_bytes).astype(np.uint8)
    modes = hss_modes(config)
    share = config.scratchpad_bytes // count // config.line_bytes * config.line_bytes
    commands = []
    for index in range(count):
        mode = index % len(modes)
        granule = hss_granule(config, modes[mode])
        slots = hss_record_slots(config, modes[mode])
        n, m = choose.randint(1, 2 * config.columns), choose.choice((1, 2, choose.randint(3, 14)))
        k = choose.randint(1, 2 * granule + 3)
        while ceil_div(k, config.line_bytes) * config.line_bytes * m + ceil_div(n, config.columns) * (
                ceil_div(k, granule) * slots + config.line_bytes) * config.weight_slot_bytes > share:
            m, n = max(1, m // 2), max(1, n // 2)
        command, *_ = place(config, mode, m, n, k, rng, scratchpad, activation_addr=index * share, density=0.7,
                           accumulate=choose.randrange(2))
        if choose.random() < 0.4:               # rows that begin anywhere, of what lies there
            command |= {"activation_addr": index * share + choose.randrange(16), "activation_stride": choose.randrange(40)}
        groups = ceil_div(n, config.columns)
        commands.append(command | {"acc_addr": choose.randint(0, config.accumulator_rows - groups * m)})
    return scratchpad, commands


class HssBench(EngineBench):
    """`EngineBench` that records the multiplications of each row, with all that are possible, rather than their sums.

    Attributes
    ----------
    counted : list of (macs, macs_gated)
        Of each row, in order.
    fetched : int
        Lines of activations that were read.
    """

    def __init__(self, *args: Any, **named: Any):
        super().__init__(*args, **named)
        self.counted: list[tuple[int, int]] = []
        self.fetched = 0

    async def record(self, ctx: Any) -> None:
        dut = self.dut
        watched = (dut.unit.command.valid, dut.unit.command.ready, dut.unit.done, dut.unit.error, dut.active, dut.macs,
                   dut.macs_gated, dut.activation.valid & dut.activation.ready, dut.acc.valid, dut.acc.addr, dut.acc.accumulate,
                   dut.acc.data)
        async for _, _, valid, ready, done, error, active, macs, gated, fetched, *acc in ctx.tick().sample(*watched):
            self.fetched += fetched
            if valid and ready:
                self.taken.append(self.cycle)
            if done:
                self.done.append(self.cycle)
            if error and self.error_cycle is None:
                self.error_cycle = self.cycle
            assert active == acc[0]
            if acc[0]:
                self.rows.append((self.cycle, acc[1], acc[2], [acc[3][c] for c in range(dut.config.columns)]))
                self.counted.append((macs, gated))
            else:
                assert macs == gated == 0
            self.cycle += 1
