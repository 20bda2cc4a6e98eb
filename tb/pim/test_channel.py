"""A channel of the logic die on timing-checked DRAM: matrix-vector and matrix-matrix products, attention's V, writes, cycles."""

import dataclasses

import numpy as np

from hw.pim.channel import PimChannel, dram_phases
from hw.pim.multiplier import operand_named
from hw.pim.presets import PIM_PRESETS
from hw.pim.timing_tables import DramCommand
from sw.golden.pim.reduction import tree_product
from sw.pim.dram import DramChannel
from tb.pim.compute_bench import pack
from tb.pim.dram_port import DramModel
from tb.sim import check_stream, put_all, simulate

SMALL = dataclasses.replace(PIM_PRESETS["pim-tiny"], streams=1, lanes=8, rows_x=2, n_acc_slots=8, k_tile=64, xbuf_entries=16,
                            obuf_entries=32)
ACT, ACTM, PRE, REF, REFSB, RD, MAC, WR = DramCommand


class Channel:
    """A channel, its DRAM, and the jobs of a bench."""

    def __init__(self, config=SMALL, *, refresh=True):
        self.config, self.dut, self.x_bits = config, PimChannel(config), operand_named(config.xtype).element.bits
        self.model = DramModel(DramChannel(config.dram, interval=config.interval, rows=config.dram_rows, refresh=refresh),
                               streams=config.streams, phases=dram_phases(config))
        self.jobs, self.writes, self.slices = [], [], []
        self.counts = {"active": 0, "stall_row": 0, "stall_refresh": 0, "stall_credit": 0, "stall_hazard": 0}

    def x(self, codes, first=0):
        """Put (rows, n) codes into slices from `first` on."""
        lanes = self.config.lanes
        for row, values in enumerate(codes):
            self.slices += [(first + index // lanes, row, pack(values[index:index + lanes], self.x_bits))
                            for index in range(0, len(values), lanes)]

    def fill(self, place, codes):
        """Put codes into columns from (set, row, column) on."""
        index, row, column = place
        data = np.ascontiguousarray(codes).view(np.uint8).reshape(-1, self.config.burst_bytes * self.config.streams)
        for offset, burst in enumerate(data):
            self.model.fill(index, row, column + offset, burst)
        return len(data)

    def job(self, place, bursts, **mac):
        index, row, column = place
        first = {"set": index, "row": row, "column": column, "bursts": bursts - 1, "write": int("data" in mac)}
        if "data" in mac:
            self.writes += [{"data": int.from_bytes(burst.tobytes(), "little"), "mask": (1 << self.config.streams) - 1}
                            for burst in mac.pop("data")]
        second = {"bcast": 0, "select": 0, "bursts": bursts - 1, "period": 0, "x": 0, "entry": 0, "clr": 1, "last": 1, **mac}
        self.jobs.append({"row": first, "mac": second})

    def run(self, entries, *, seed=0, deadline=8000):
        """Run, and return words (entries, lanes, rows)."""
        dut, config = self.dut, self.config
        found = np.zeros((entries, config.lanes, config.rows_x), np.uint32)
        ready = False

        async def bench(ctx):
            nonlocal ready
            for index, row, word in self.slices:
                ctx.set(dut.x.slice, index)
                ctx.set(dut.x.row, row)
                ctx.set(dut.x.data.as_value(), word)
                ctx.set(dut.x.valid, 1)
                await ctx.tick()
            ctx.set(dut.x.valid, 0)
            ready = True
            await put_all(dut.job, self.jobs, seed=seed)(ctx)
            while not ctx.get(dut.idle):
                await ctx.tick()
            for entry in range(entries):
                ctx.set(dut.entry, entry)
                await ctx.tick()
                word = ctx.get(dut.o.as_value())
                found[entry] = [[word >> 32 * (lane * config.rows_x + row) & 0xFFFFFFFF for row in range(config.rows_x)]
                                for lane in range(config.lanes)]
            assert not ctx.get(dut.range_error)
            assert not ctx.get(dut.nan_error)

        async def count(ctx):
            ports = [getattr(dut, name) for name in self.counts]
            async for _, _, *values in ctx.tick().sample(*ports):
                for name, value in zip(self.counts, values, strict=True):
                    self.counts[name] += value

        benches = [bench, *([put_all(dut.write, self.writes)] if self.writes else [])]
        simulate(dut, *benches, background=[lambda ctx: self.model.serve(ctx, dut.dram), count, check_stream(dut.job)],
                 seed=seed, deadline=deadline)
        return found


def halves(rng, *shape):
    return rng.standard_normal(shape).astype(np.float16)


def floats(words):
    return np.asarray(words, np.uint32).view(np.float32)


def test_gemv_from_dram_rows_to_the_output_buffer():
    rng = np.random.default_rng(1)
    channel = Channel()
    outputs, k, per_row = 16, 64, 8                             # 4 bursts an output, two rows in two sets
    weights, x = halves(rng, outputs, k), halves(rng, SMALL.rows_x, k)
    channel.x(x.view(np.uint16))
    for row in range(2):
        part = weights[row * per_row:(row + 1) * per_row]
        assert channel.fill((row, 5, 0), part) == 32
        channel.job((row, 5, 0), 32, period=3, entry=row * per_row)
    found = floats(channel.run(outputs))
    expected = tree_product(weights.astype(np.float32), x.astype(np.float32), lanes=SMALL.lanes, slots=SMALL.n_acc_slots)
    assert (found[:, 0] == expected).all()
    assert channel.counts["active"] == outputs * k // SMALL.lanes
    assert channel.model.dram.violations.total() == 0


BYTES = dataclasses.replace(SMALL, wtype="int8", kvtype="int8", xtype="int8", ptype="float8_e4m3fn", acc="int32", lanes=16,
                            k_tile=64, n_acc_slots=4, xbuf_entries=32, obuf_entries=64)


def whole_rows(channel, rng, *, rows, outputs_per_row):
    """Fill rows of two sets in turn with weights, and return them, (outputs, k)."""
    config = channel.config
    k = config.row_bytes // outputs_per_row
    weights = rng.integers(-128, 128, (rows * outputs_per_row, k), dtype=np.int8)
    for row in range(rows):
        part = weights[row * outputs_per_row:(row + 1) * outputs_per_row]
        channel.fill((row % 2, row // 2, 0), part)
    return weights


def test_gemm_takes_no_cycle_but_those_of_its_weights():
    rng = np.random.default_rng(2)
    channel, config = Channel(BYTES, refresh=False), BYTES
    rows, per_row, passes = 4, 8, 2
    weights = whole_rows(channel, rng, rows=rows, outputs_per_row=per_row)
    k = weights.shape[1]
    x = rng.integers(-128, 128, (passes * config.rows_x, k), dtype=np.int8)
    tile = k // config.lanes                                    # a tile of X for each pass
    for number in range(passes):
        part = x[number * config.rows_x:(number + 1) * config.rows_x].view(np.uint8)
        channel.x(part, number * tile)
        for row in range(rows):
            entry = row * per_row + number * config.obuf_entries // 2
            channel.job((row % 2, row // 2, 0), 32, period=32 // per_row - 1, x=number * tile, entry=entry)
    found = channel.run(config.obuf_entries).view(np.int32)[:, 0].reshape(passes, -1, config.rows_x)[:, :len(weights)]
    expected = weights.astype(np.int64) @ x.T.astype(np.int64)
    assert (np.concatenate(found, axis=1) == expected).all()
    # ⌈n/X⌉·K·M·w / (bytes a cycle): every cycle from the first beat to the last has one.
    law = passes * k * len(weights) // (config.lanes * 1)
    reads = channel.model.times(RD)
    assert channel.counts["active"] == law
    assert (reads[-1] + config.interval - reads[0]) // dram_phases(config) == law
    assert channel.counts["stall_credit"] == channel.counts["stall_hazard"] == 0
