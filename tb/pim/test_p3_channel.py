# amaranth: UnusedElaboratable=no
"""P3-LLM's channel on timing-checked DRAM against its integer model: modes, two vectors for a column, and its cycle law."""

import dataclasses

import numpy as np
import pytest

from hw.errors import ConfigError
from hw.pim.p3_channel import P3Channel
from hw.pim.presets import PIM_PRESETS
from hw.pim.timing_tables import DramCommand
from sw.golden.pim.p3_unit import p3_unit
from sw.pim.dram import DramChannel
from sw.pim.p3 import linear_cycles
from tb.pim.compute_bench import pack
from tb.pim.dram_port import DramModel
from tb.sim import check_stream, get_all, put_all, simulate

P3 = PIM_PRESETS["pim-p3"]
ONE = dataclasses.replace(P3, streams=1, segments=1, lanes=32, k_tile=256, xbuf_entries=16, dram_rows=16)
COLUMNS, PHASES = 32, 2


class Layer:
    """Jobs of whole rows, the weights, inputs and tables that they are for, and what the model makes of them."""

    def __init__(self, rng, *, modes, pages, two, sets=1):
        self.cells, self.x, self.sides, self.jobs, self.expected = {}, [], [], [], []
        count = COLUMNS * pages
        vectors = rng.integers(0, 0x7F, (2, count, 4), dtype=np.uint8)
        self.x = [{"valid": 1, "vector": v, "at": at, "data": pack(vectors[v, 8 * at:8 * at + 8].reshape(-1), 8)}
                  for v in range(2) for at in range(count // 8)]
        for tile, mode in enumerate(modes):
            columns = rng.integers(0, 16, (count, 16, 4), dtype=np.uint8)
            tables = rng.integers(0, 16, (pages, 16), dtype=np.uint8), rng.integers(0, 4, (pages, 16), dtype=np.uint8)
            for page in range(pages):
                number = tile * pages + page
                at, side = (number % sets, number // sets), number
                for column in range(COLUMNS):
                    nibbles = columns[page * COLUMNS + column].reshape(-1)
                    self.cells[(*at, column)] = nibbles[0::2] | nibbles[1::2] << 4
                self.sides.append({"valid": 1, "at": side, "data": {"zero_point": [tables[0][page].tolist()],
                                                                    "special": [tables[1][page].tolist()]}})
                self.jobs.append({"row": {"set": at[0], "row": at[1], "column": 0, "bursts": COLUMNS - 1, "write": 0, "kind": 0},
                                  "mode": mode, "two": two, "x": COLUMNS * page, "side": side, "first": page == 0,
                                  "last": page == pages - 1})
            total, clipped = p3_unit(mode, columns, vectors[:1 + two].transpose(1, 0, 2),
                                     zero_point=tables[0].repeat(COLUMNS, axis=0), special=tables[1].repeat(COLUMNS, axis=0))
            self.expected += [word for vector in total for word in vector.reshape(2, 8)]
            assert not clipped


def run(layer, *, stall=0.0, refresh=False):
    """Run a layer; return the DRAM clocks from its first row to its last result."""
    dut = P3Channel(ONE, inputs=1024, sides=16)
    model = DramModel(DramChannel(ONE.dram, interval=ONE.interval, rows=ONE.dram_rows, refresh=refresh), streams=1, phases=PHASES)
    for (index, row, column), data in layer.cells.items():
        model.fill(index, row, column, data)
    out, ended = [], 0

    async def fill(ctx):
        for port, values in ((dut.x, layer.x), (dut.side, layer.sides)):
            for fields in values:
                for name, value in fields.items():
                    ctx.set(getattr(port, name), value)
                await ctx.tick()
            ctx.set(port.valid, 0)
        await put_all(dut.job, layer.jobs, stall=stall, seed=1)(ctx)

    async def watch(ctx):
        nonlocal ended
        async for _, _, valid in ctx.tick().sample(dut.o.valid):
            ended = model.cycle if valid else ended

    async def drain(ctx):
        await get_all(dut.o, len(layer.expected), out, stall=stall, seed=2)(ctx)
        await ctx.tick()
        assert ctx.get(dut.idle)
        assert not ctx.get(dut.saturated) | ctx.get(dut.invalid)

    simulate(dut, fill, drain, background=[lambda ctx: model.serve(ctx, dut.dram), watch, check_stream(dut.o)])
    for found, golden in zip(out, layer.expected, strict=True):
        np.testing.assert_array_equal(np.frombuffer(found.to_bytes(32, "little"), np.int32), golden)
    assert model.dram.violations.total() == 0
    return ended * PHASES - model.times(DramCommand.ACT)[0]


def test_two_vectors_for_a_column_in_every_mode():
    run(Layer(np.random.default_rng(1), modes=(0, 1, 2), pages=2, two=1, sets=2), stall=0.3, refresh=True)


def test_the_cycle_law():
    def clocks(pages, tiles, two):
        return run(Layer(np.random.default_rng(pages), modes=(0,) * tiles, pages=pages, two=two))

    # Of one unit: 16 outputs. A page more is 128 inputs: 156 clocks by the law, and one more from read to PRE.
    law = {pages: linear_cycles(128 * pages, 16, 1) for pages in (1, 3)}
    base = clocks(1, 1, 0)
    assert clocks(3, 1, 0) - base == law[3] - law[1] + 2 == 2 * 157
    # The first row is opened, the last column comes after CL and BL, goes through the units, and 16 results are read out.
    dram = ONE.dram
    units = base - (dram.rcd + 31 * 4 + dram.cl + dram.bl + 32 // 8)
    assert 0 < units <= 8 * PHASES
    # A second vector costs its readout alone; four vectors are two times two, but that readout is beside the next columns.
    both = clocks(1, 1, 1)
    assert both - base == 32 // 8 + PHASES
    assert linear_cycles(128, 16, 2) - law[1] == 32
    assert clocks(1, 3, 1) - both == 2 * 157


def test_what_is_not_p3_is_refused():
    with pytest.raises(ConfigError, match=r"^PimConfig.wtype must be bitmod4 for P3-LLM's units, not 'float16'$"):
        P3Channel(PIM_PRESETS["pim-duplex"])
    with pytest.raises(ConfigError, match=r"^P3Channel.inputs must be a positive multiple of 32, not 100$"):
        P3Channel(P3, inputs=100)
    slow = dataclasses.replace(P3, clock_mhz=250, pim_per_burst=1, lanes=512, k_tile=512)
    with pytest.raises(ConfigError, match=r"^PimConfig.pim_per_burst must be 2, with bursts of 32 bytes, for P3-LLM's units, "
                                          r"not 1$"):
        P3Channel(slow)
    assert P3Channel(P3).units == 8
