"""The load unit's weight stream: beats past the scratchpad, in order with those that go there, held back as long as it takes."""

import random
from typing import Any

import numpy as np
import pytest

from hw.config import AcceleratorConfig
from hw.isa import ErrorCause
from tb.memory.blocks import Block, load_block, random_block
from tb.memory.dma import CONFIGS, DRAM_BYTES, LoadBench
from tb.sim import check_stream

HYBRID = AcceleratorConfig(engine="hybrid", dataflows=("ws",), rows=8, columns=8, weight_formats=("mxint4",), bus_width=128,
                           scratchpad_bytes=8192, outstanding_reads=4)
PLAIN: Block = {"dram_addr": 0, "dram_stride": 64, "rows": 2, "row_bytes": 40, "addr": 0, "stride": 64, "transpose": 0,
                "unpack": 0, "stream": 0}


class StreamBench(LoadBench):
    """With a sink that takes beats when it likes."""

    def __init__(self, *, stall: float, seed: int = 0):
        super().__init__(HYBRID, stall=stall, seed=seed)
        self.taken = bytearray()
        self.open, self.aborted = True, False

    async def sink(self, ctx: Any) -> None:
        """Take beats."""
        rng, stream = random.Random(self.seed + 1), self.dut.stream
        while True:
            ready = self.open and rng.random() >= self.stall
            ctx.set(stream.ready, ready)
            _, _, valid, payload = await ctx.tick().sample(stream.valid, stream.payload)
            if valid and ready:
                self.taken += payload.to_bytes(HYBRID.beat_bytes, "little")

    def background(self) -> Any:
        rules = () if self.aborted else (check_stream(self.dut.stream),)        # an abort withdraws what is offered
        return (*super().background(), self.sink, *rules)


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_streamed_blocks_between_others(stall: float) -> None:
    rng, beat = random.Random(2), HYBRID.beat_bytes
    blocks = [random_block(rng, HYBRID, DRAM_BYTES, transpose=i % 5 == 4, unpack=i % 7 == 6, most_beats=20) | {"stream": 0}
              for i in range(16)]
    for block in blocks[::2]:
        block.update(stream=1, transpose=0, unpack=0)
    bench = StreamBench(stall=stall, seed=3)
    scratchpad, expected = bench.scratchpad.copy(), bytearray()
    bench.run_blocks(blocks)
    for got, block in zip(bench.states, blocks, strict=True):
        if block["stream"]:
            for row in range(block["rows"]):
                start = block["dram_addr"] + row * block["dram_stride"]
                piece = bench.memory.data[start:start + block["row_bytes"]].tobytes()
                expected += piece.ljust(-(-len(piece) // beat) * beat, b"\0")
        else:
            load_block(block, bench.memory.data, scratchpad, beat)
        assert (got == scratchpad).all()
    assert bytes(bench.taken) == bytes(expected)
    assert len(expected) > 20 * beat


def test_a_stream_that_nobody_takes_waits_and_abort_ends_it() -> None:
    bench = StreamBench(stall=0.0)
    bench.open, bench.aborted = False, True

    async def drive(ctx: Any) -> None:
        await bench.send(ctx, [PLAIN | {"stream": 1}, PLAIN])
        for _ in range(100):
            assert ctx.get(bench.dut.unit.busy)
            await ctx.tick()
        assert not bench.done
        await bench.abort(ctx)
        bench.open = True
        await bench.send(ctx, [PLAIN | {"stream": 1, "dram_addr": 1024}])
        await bench.settle(ctx)

    bench.run(drive)
    expected = np.zeros((2, 48), np.uint8)
    expected[:, :40] = bench.memory.data[1024:1152].reshape(2, 64)[:, :40]
    assert bytes(bench.taken) == expected.tobytes()
    assert len(bench.done) == 1


@pytest.mark.parametrize(("config", "change"), [
    (CONFIGS["b128"], {}), (HYBRID, {"transpose": 1}), (HYBRID, {"unpack": 1}), (CONFIGS["b128"], {"addr": 3})])
def test_a_stream_that_cannot_be_is_refused(config: AcceleratorConfig, change: Block) -> None:
    bench = LoadBench(config)

    async def drive(ctx: Any) -> None:
        await bench.send(ctx, [PLAIN, PLAIN | {"stream": 1} | change])
        await ctx.tick().until(bench.dut.unit.error)
        assert ctx.get(bench.dut.unit.report.cause) == ErrorCause.UNSUPPORTED
        assert ctx.get(bench.dut.unit.report.addr) == 1

    bench.run(drive)
    assert len(bench.done) == 1
