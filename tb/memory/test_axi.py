"""Burst splitter and block check: every beat of a block once, in order, in legal bursts, one burst a cycle."""

import random
from typing import Any

import pytest

from hw.config import AcceleratorConfig, ceil_div
from hw.memory.axi import BurstSplitter
from hw.ports import AXI_PAGE_BYTES
from tb.memory.blocks import Block, random_block
from tb.sim import check_stream, get_all, put_all, simulate

CONFIGS = {
    "b64": AcceleratorConfig(bus_width=64, burst_beats=256),
    "b128": AcceleratorConfig(bus_width=128, burst_beats=7),
    "b256-single": AcceleratorConfig(bus_width=256, burst_beats=1, scratchpad_bytes=65536),
    "b512": AcceleratorConfig(bus_width=512, burst_beats=100, scratchpad_bytes=65536),
}


def beat_addresses(block: Block, beat: int) -> list[tuple[int, int, int, bool]]:
    """Return DRAM address, scratchpad address, tail and row end of each beat, in the order of the walk."""
    rows, beats, tail = block["rows"], ceil_div(block["row_bytes"], beat), block["row_bytes"] % beat
    room = beat << block["unpack"]
    if block["transpose"]:
        return [(block["dram_addr"] + r * block["dram_stride"] + c * beat, block["addr"] + c * room * block["stride"] + r,
                 tail if c == beats - 1 else 0, r == rows - 1) for c in range(beats) for r in range(rows)]
    return [(block["dram_addr"] + r * block["dram_stride"] + c * beat, block["addr"] + r * block["stride"] + c * room,
             tail if c == beats - 1 else 0, c == beats - 1) for r in range(rows) for c in range(beats)]


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("name", CONFIGS)
def test_bursts_cover_the_block(name: str, stall: float) -> None:
    config, rng = CONFIGS[name], random.Random(f"{name} {stall}")
    beat, dut = config.beat_bytes, BurstSplitter(CONFIGS[name])
    blocks = [random_block(rng, config, 65536, transpose=rng.random() < 0.3, unpack=rng.random() < 0.3,
                           most_beats=600 // beat * 8) for _ in range(20)]
    want, payloads = [], []
    for block in blocks:
        beats = beat_addresses(block, beat)
        want += [(*fields, index == len(beats) - 1) for index, fields in enumerate(beats)]
        payloads.append({**{k: v for k, v in block.items() if k != "row_bytes"},
                         "row_beats": ceil_div(block["row_bytes"], beat), "tail": block["row_bytes"] % beat})
    got: list[tuple[int, int, int, bool, bool]] = []
    bursts: list[Any] = []
    cycles: list[int] = []

    async def sink(ctx: Any) -> None:
        cycle, pause = 0, random.Random(1)
        while len(got) < len(want):
            ready = pause.random() >= stall
            ctx.set(dut.o.ready, ready)
            _, _, valid, burst = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            cycle += 1
            if ready and valid:
                cycles.append(cycle)
                bursts.append(burst)
                count = burst.length + 1
                assert count <= (1 if burst.transpose else config.burst_beats)
                assert burst.dram_addr // AXI_PAGE_BYTES == (burst.dram_addr + count * beat - 1) // AXI_PAGE_BYTES
                assert not burst.wrapped
                for i in range(count):
                    end = i == count - 1
                    got.append((burst.dram_addr + i * beat, burst.addr + i * (beat << burst.unpack), burst.tail if end else 0,
                                bool(burst.row_end and end), bool(burst.last and end)))

    simulate(dut, put_all(dut.i, payloads, stall=0.0, seed=1), sink, background=[check_stream(dut.o)], seed=1)
    assert got == want
    assert (len(bursts) < len(got)) == (config.burst_beats > 1)
    if not stall:
        assert cycles == list(range(cycles[0], cycles[0] + len(bursts)))


def test_bursts_are_as_long_as_they_can_be() -> None:
    config = CONFIGS["b128"]
    dut, got = BurstSplitter(config), []
    block = {"dram_addr": AXI_PAGE_BYTES - 3 * 16, "dram_stride": 0, "rows": 1, "row_beats": 20, "tail": 0, "addr": 0,
             "stride": 0, "transpose": 0, "unpack": 0}
    simulate(dut, put_all(dut.i, [block]), get_all(dut.o, 4, got), seed=0)
    assert [burst.length + 1 for burst in got] == [3, 7, 7, 3]
