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
        self.config, self.dut = config, PimChannel(config)
        self.x_bits = operand_named(config.xtype).element.bits
        self.model = DramModel(DramChannel(config.dram, interval=config.interval, rows=config.dram_rows, refresh=refresh),
                               streams=config.streams, phases=dram_phases(config))
        self.jobs, self.writes, self.slices, self.sides = [], [], [], []
        self.order = []
        self.counts = dict.fromkeys(
            ("active", "done", "copied", "stored", "finished", "stall_row", "stall_refresh", "stall_credit", "stall_hazard"), 0)

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
        store = mac.pop("store", None)
        first = {"set": index, "row": row, "column": column, "bursts": bursts - 1,
                 "write": int("data" in mac or store is not None)}
        if "data" in mac:
            self.writes += [{"data": int.from_bytes(burst.tobytes(), "little"), "mask": (1 << self.config.streams) - 1}
                            for burst in mac.pop("data")]
        second = {"bcast": 0, "select": 0, "bursts": bursts - 1, "period": self.config.beats - 1, "x": 0, "entry": 0, "clr": 1,
                  "last": 1, "copy": 0, **mac}
        self.jobs.append({"row": first, "mac": second, "from_x": int(store is not None),
                          **({"store": store} if store else {})})

    def run(self, entries, *, seed=0, deadline=8000, error=0):
        """Run, and return words (entries, lanes, rows)."""
        dut, config = self.dut, self.config
        found = np.zeros((entries, config.lanes, config.rows_x), np.uint32)

        async def bench(ctx):
            for index, row, word in self.slices:
                ctx.set(dut.x.slice, index)
                ctx.set(dut.x.row, row)
                ctx.set(dut.x.data.as_value(), word)
                ctx.set(dut.x.valid, 1)
                await ctx.tick()
            ctx.set(dut.x.valid, 0)
            for index, zero_point, special in self.sides:
                word, byte = divmod(index, self.config.word_bytes)
                ctx.set(dut.side.word, word)
                ctx.set(dut.side.mask, 1 << byte)
                ctx.set(dut.side.data, (zero_point | special << 6) << 8 * byte)
                ctx.set(dut.side.valid, 1)
                await ctx.tick()
            if self.sides:
                ctx.set(dut.side.valid, 0)
            await put_all(dut.job, self.jobs, seed=seed)(ctx)
            while not ctx.get(dut.idle):
                await ctx.tick()
            for entry in range(entries):
                ctx.set(dut.entry, entry)
                await ctx.tick()
                word = ctx.get(dut.o.as_value())
                found[entry] = [[word >> 32 * (lane * config.rows_x + row) & 0xFFFFFFFF for row in range(config.rows_x)]
                                for lane in range(config.lanes)]
            assert ctx.get(dut.range_error) == error
            assert not ctx.get(dut.nan_error)

        async def count(ctx):
            ports = [getattr(dut, name) for name in self.counts]
            async for _, _, *values in ctx.tick().sample(*ports):
                for name, value in zip(self.counts, values, strict=True):
                    self.counts[name] += value
                    if value and name in ("done", "copied", "stored"):
                        self.order.append(name)

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
        channel.job((row, 5, 0), 32, period=7, entry=row * per_row)
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
            channel.job((row % 2, row // 2, 0), 32, period=32 * config.beats // per_row - 1, x=number * tile, entry=entry)
    found = channel.run(config.obuf_entries).view(np.int32)[:, 0].reshape(passes, -1, config.rows_x)[:, :len(weights)]
    expected = weights.astype(np.int64) @ x.T.astype(np.int64)
    assert (np.concatenate(found, axis=1) == expected).all()
    # ⌈n/X⌉·K·M·w / (bytes a cycle): every cycle from the first beat to the last has one.
    law = passes * k * len(weights) // (config.lanes * 1)
    reads = channel.model.times(RD)
    assert channel.counts["active"] == law
    assert (reads[-1] + config.interval - reads[0]) // dram_phases(config) == law
    assert channel.counts["stall_credit"] == channel.counts["stall_hazard"] == 0


def test_v_is_multiplied_with_tokens_appended_in_between():
    """Attention's second half: rows of two sets, tokens written behind those that are there, and read at once."""
    rng = np.random.default_rng(5)
    brisk = dataclasses.replace(BYTES, n_acc_slots=4)
    channel, config = Channel(brisk), brisk
    tokens, head = 40, 32
    values = rng.integers(-128, 128, (tokens, head), dtype=np.int8)
    more = rng.integers(-128, 128, (8, head), dtype=np.int8)    # tokens that are appended, one burst each, then read too
    p = rng.integers(0, 256, (config.rows_x, tokens + 8), dtype=np.uint8)
    channel.x(np.pad(p, ((0, 0), (0, -p.shape[1] % config.lanes))))
    place, per_row = [(2, 7, 0), (9, 7, 0)], config.dram.columns
    for index in range(0, tokens, per_row):
        channel.fill(place[index // per_row], values[index:index + per_row])
    rest = tokens - per_row
    channel.job((place[1][0], 7, rest), 8, data=more.view(np.uint8))
    channel.job(place[0], per_row, bcast=1, entry=2, last=0)
    channel.job(place[1], rest, bcast=1, x=per_row, entry=2, clr=0, last=0)
    channel.job((place[1][0], 7, rest), 8, bcast=1, x=tokens, entry=2, clr=0)
    found = channel.run(4).view(np.int32)[2:4]
    expected = np.concatenate([values, more]).astype(np.int64).T @ p.view(np.int8).astype(np.int64).T
    assert (found.reshape(head, config.rows_x) == expected).all()
    assert channel.model.times(WR)
    assert channel.counts["stored"] == 1
    assert channel.counts["done"] == 3


P3 = dataclasses.replace(SMALL, wtype="bitmod4", kvtype="p3-kv", xtype="float8_e4m3fn", ptype="float8_s0e4m4", acc="int32",
                         lanes=32, k_tile=128, n_acc_slots=2, xbuf_entries=8, obuf_entries=32)


def nibbles(codes):
    return (codes[..., 0::2] | codes[..., 1::2] << 4).astype(np.uint8)


def test_p3_reads_weights_k_and_v_each_its_way():
    """W4A8KV4P8: a column serves two vectors; zero points of K by token, of V by token, special values by output."""
    rng = np.random.default_rng(6)
    channel, config = Channel(P3, refresh=False), P3
    k, outputs, tokens = 64, 16, 16
    weights, keys, values = (rng.integers(0, 16, shape, dtype=np.uint8) for shape in ((outputs, k), (tokens, k), (tokens, k)))
    x = rng.integers(0, 256, (2, k), dtype=np.uint8)
    x[x & 0x7F == 0x7F] = 0                                     # no NaN
    p = rng.integers(0, 256, (2, config.lanes), dtype=np.uint8)
    special, zeros = rng.integers(0, 4, outputs), rng.integers(0, 16, tokens)
    channel.x(x)
    channel.x(p, 2)
    channel.sides = [(index, int(zeros[index]), int(special[index])) for index in range(16)]
    channel.sides += [(2 * config.lanes + index, int(zeros[index]), 0) for index in range(16)]
    for index, codes in enumerate((weights, keys, values)):
        assert channel.fill((index, 1, 0), nibbles(codes)) == 16
    channel.job((0, 1, 0), 16, entry=0)
    channel.job((1, 1, 0), 16, entry=16, select=1)
    channel.sides += [(16 + index, int(zeros[index]), 0) for index in range(16)]
    channel.job((2, 1, 0), 16, bcast=1, entry=0, x=2 * config.lanes, select=2)
    found = channel.run(32).view(np.int32)
    linear, element = operand_named("bitmod4"), operand_named("float8_e4m3fn").element
    table = np.array([[2 * (linear.specials[side] if code == linear.special_code else linear.element.value(code))
                       for code in range(16)] for side in range(4)])
    e4m3 = np.array([element.value(code) for code in range(256)]) * 2.0**11
    s0e4m4 = np.array([operand_named("float8_s0e4m4").element.value(code) for code in range(256)]) * 2.0**19
    by_output = np.stack([table[side][codes] for side, codes in zip(special, weights, strict=True)])
    assert (found[16:, 0] == ((keys - zeros[:, None].astype(float)) @ e4m3[x].T)).all()
    assert (found[2:16, 0] == (by_output @ e4m3[x].T)[2:]).all()
    assert (found[:2].reshape(k, 2) == (s0e4m4[p[:, :tokens]] @ (values - zeros[:, None].astype(float))).T).all()


def test_slices_of_x_are_stored_and_read_back_into_x():
    """KV append and copies: two slices make a burst, a store may begin in the middle of one; what was stored is multiplied."""
    rng = np.random.default_rng(8)
    channel, config = Channel(BYTES), BYTES
    k = 6 * config.lanes
    x = rng.integers(-128, 128, (config.rows_x, k), dtype=np.int8)
    old = rng.integers(-128, 128, (4, 32), dtype=np.int8)
    channel.x(x.view(np.uint8))
    channel.fill((3, 2, 10), old)
    channel.job((3, 2, 20), 1, entry=1)                                        # something that is under way
    channel.job((3, 2, 10), 2, store={"x": 1, "slices": 3, "beat": 0})         # slices 1 to 4: columns 10 and 11
    channel.job((3, 2, 10), 2, copy=1, x=16)                                   # and back into all rows, from slice 16 on
    channel.job((3, 2, 10), 2, period=3, x=16, entry=7)                        # the stored times themselves: no order but theirs
    channel.job((3, 2, 13), 1, store={"x": 16, "slices": 1, "beat": 0})        # what was copied is stored
    found = channel.run(8).view(np.int32)
    stored = x[0, config.lanes:5 * config.lanes].astype(np.int64)
    assert (channel.model.burst(3, 2, 10).view(np.int8) == stored[:32]).all()
    assert (channel.model.burst(3, 2, 11).view(np.int8) == stored[32:]).all()
    assert (channel.model.burst(3, 2, 12).view(np.int8) == old[2]).all()
    assert (channel.model.burst(3, 2, 13).view(np.int8) == stored[:32]).all()
    assert channel.order == ["done", "stored", "copied", "done", "stored"]
    assert channel.counts["finished"] == 5
    assert (found[7, 0] == (stored * stored).sum()).all()


def test_what_cannot_be_stored_or_copied_is_reported():
    for job in ({"store": {"x": 0, "slices": 0, "beat": 0}}, {"copy": 1}):
        channel = Channel(P3, refresh=False)
        channel.job((0, 0, 0), 1, **job)
        channel.run(1, error=1)
        assert not channel.model.times(WR)
