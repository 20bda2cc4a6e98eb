# amaranth: UnusedElaboratable=no
"""Scoreboard and footprints of dynamic command scheduling."""

import random

import numpy as np
import pytest
from amaranth import *
from amaranth.sim import Simulator

from hw.errors import ConfigError
from hw.pim.footprint import ENTRY_WIDTH, Footprint
from hw.pim.isa import OPCODES, MacMode, PimOpcode, Queue
from hw.pim.presets import PIM_PRESETS
from hw.pim.scoreboard import QUEUES, EntryKind, Scoreboard
from sw.pim.assembler import command
from sw.pim.expand import Command, Settings
from sw.pim.work import reserved_periods, work_of
from tb.sim import check_stream, simulate

TINY = PIM_PRESETS["pim-tiny"]
KINDS = {EntryKind.X: "x", EntryKind.OUTPUT: "o", EntryKind.SOFTMAX: "s", EntryKind.SIDE: "z"}


def random_commands(rng, count):
    """Return commands on few entries: queue, and two ranges (kind, first, last, write)."""
    commands = []
    for _ in range(count):
        ranges = []
        for _ in range(2):
            first = rng.randrange(6)
            kind = rng.choice([EntryKind.NONE, EntryKind.X, EntryKind.X, EntryKind.OUTPUT, EntryKind.OUTPUT, EntryKind.SOFTMAX])
            ranges.append((kind if rng.random() > 0.04 else EntryKind.ALL, first, first + rng.randrange(3), rng.randrange(2)))
        commands.append((rng.randrange(2), ranges))
    return commands


def shares(one, other):
    """Return whether two commands share an entry that one of them writes, entry by entry."""
    for kind_a, first_a, last_a, write_a in one[1]:
        for kind_b, first_b, last_b, write_b in other[1]:
            if EntryKind.NONE in (kind_a, kind_b):
                continue
            if EntryKind.ALL in (kind_a, kind_b):
                return True
            common = set(range(first_a, last_a + 1)) & set(range(first_b, last_b + 1))
            if kind_a == kind_b and common and (write_a or write_b):
                return True
    return False


def run(commands, *, depth=4, dynamic=True, stall=0.0, seed=0, longest=9):
    """Return for each command the cycles in which it came in, left and was done."""
    dut = Scoreboard(shape=8, width=4, depth=depth, dynamic=dynamic)
    rng = random.Random(seed)
    came, left, done = {}, {}, {}

    async def feed(ctx):
        now, number, offered = 0, 0, False
        while number < len(commands):
            queue, ranges = commands[number]
            fields = {name: {"kind": kind, "first": first, "last": last, "write": write}
                      for name, (kind, first, last, write) in zip("ab", ranges, strict=True)}
            offered = offered or rng.random() >= stall
            ctx.set(dut.i.payload, {"compute": queue, "payload": number, **fields})
            ctx.set(dut.i.valid, offered)
            _, _, ready = await ctx.tick().sample(dut.i.ready)
            if offered and ready:
                came[number] = now
                number, offered = number + 1, False
            now += 1
        ctx.set(dut.i.valid, 0)
        while not ctx.get(dut.idle):
            await ctx.tick()

    def unit(queue):
        output, finished = getattr(dut, f"o_{QUEUES[queue]}"), getattr(dut, f"done_{QUEUES[queue]}")

        async def bench(ctx):
            now, under_way = 0, []                      # of commands: number, cycle in which it is done
            while True:
                ready = rng.random() >= stall
                due = bool(under_way) and under_way[0][1] <= now
                ctx.set(output.ready, ready)
                ctx.set(finished, due)
                _, _, valid, number = await ctx.tick().sample(output.valid, output.payload)
                if due:
                    done[under_way.pop(0)[0]] = now
                if valid and ready:
                    left[number] = now
                    under_way.append((number, now + 1 + rng.randrange(longest)))
                now += 1

        return bench

    simulate(dut, feed, background=[unit(0), unit(1), check_stream(dut.o_io), check_stream(dut.o_compute)], seed=seed)
    return came, left, done


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("depth", [2, 8])
@pytest.mark.parametrize("dynamic", [True, False])
def test_commands_leave_as_soon_as_what_they_share_is_done(stall, depth, dynamic):
    commands = random_commands(random.Random(depth), 120)
    came, left, done = run(commands, depth=depth, dynamic=dynamic, stall=stall, seed=depth)
    assert set(left) == set(done) == set(range(120))
    passed = waited = 0
    for b in range(120):
        for a in range(b):
            if commands[a][0] == commands[b][0]:
                assert left[a] < left[b]
            elif not dynamic or shares(commands[a], commands[b]):
                assert done[a] < left[b]
                waited += 1
            else:
                passed += left[b] < done[a]
        if not stall:
            before = [left[a] for a in range(b) if commands[a][0] == commands[b][0]]
            shared = [done[a] for a in range(b) if commands[a][0] != commands[b][0] and
                      (not dynamic or shares(commands[a], commands[b]))]
            # In the cycle after the last of: it came in, the one before left, what it shares was done.
            assert left[b] == 1 + max([came[b], *before[-1:], *shared[-depth:]])
    assert waited
    assert (passed > 0) is dynamic


def test_what_shares_nothing_is_faster_with_dynamic_scheduling():
    free = [(n % 2, [(EntryKind.X, n % 2, n % 2, 1), (EntryKind.NONE, 0, 0, 0)]) for n in range(60)]
    ends = {dynamic: max(run(free, dynamic=dynamic)[2].values()) for dynamic in (True, False)}
    assert ends[True] < 0.7 * ends[False]


@pytest.mark.parametrize("depth", [0, 1, 6])
def test_an_impossible_depth_is_refused(depth):
    with pytest.raises(ConfigError, match=rf"^Scoreboard.depth must be a power of two of at least 2, not {depth}$"):
        Scoreboard(shape=8, width=4, depth=depth)


@pytest.mark.parametrize("name", ["pim-tiny", "pim-duplex", "pim-attacc", "pim-p3"])
def test_footprints_are_what_the_model_says(name):
    config = PIM_PRESETS[name]
    dut = Footprint(config)
    rng = np.random.default_rng(1)
    limits = {"cnt": config.dram.columns, "xidx": config.xbuf_entries, "aidx": 64, "mode": 2}
    cases = []
    for opcode, info in OPCODES.items():
        if info.queue is not Queue.SEQUENCER:
            for _ in range(40):
                fields = {field: int(rng.integers(0, limits.get(field, 2))) for field in info.fields}
                if opcode is PimOpcode.MRG and rng.integers(0, 2):
                    fields["xidx"] = fields["aidx"]
                if opcode is PimOpcode.AF:
                    fields["mode"] = int(rng.integers(0, 4))
                cases.append((opcode, fields, int(rng.integers(1, 17)), int(rng.integers(1, 5)), int(rng.integers(0, 50))))

    async def bench(ctx):
        for opcode, fields, k_beats, head_slices, output in cases:
            settings = Settings()
            settings.registers[2], settings.registers[3] = k_beats, head_slices * config.width
            settings.registers[15] = operands = int(rng.integers(0, 3))
            settings.heads[fields.get("aidx", 0)] = {"output": output}
            work = work_of(config, Command(0, opcode, fields, 0), settings)
            ctx.set(Value.cast(dut.i), command(opcode, **fields))
            ctx.set(dut.k_beats, k_beats)
            ctx.set(dut.head_slices, head_slices)
            ctx.set(dut.output, output)
            ctx.set(dut.operands, operands)
            assert ctx.get(dut.compute) == (work.queue is Queue.COMPUTE)
            found = {0: set(), 1: set()}
            for one in (dut.a, dut.b, dut.c):
                kind = EntryKind(ctx.get(one.kind))
                if kind is EntryKind.ALL:
                    assert opcode is PimOpcode.MRG
                    assert fields["aidx"] != fields["xidx"]
                elif kind is not EntryKind.NONE:
                    first, last = ctx.get(one.first), ctx.get(one.last)
                    found[ctx.get(one.write)] |= {(KINDS[kind], n) for n in range(first, last + 1)}
            if opcode is PimOpcode.MRG and fields["aidx"] != fields["xidx"]:
                continue
            writes, reads = (  # sums of the dequantizer and pasts of the softmax unit are of one queue
                {entry for entry in touched if entry[0] not in "dl"}
                for touched in (work.writes, set(work.reads) - set(work.writes)))
            if opcode is PimOpcode.MAC and fields["mode"] == MacMode.TREE:
                assert len(found[1]) == reserved_periods((fields["cnt"] + 1) * config.beats, k_beats)
            assert writes <= found[1], (opcode, fields, k_beats)
            assert reads <= found[0], (opcode, fields, k_beats)
            if opcode is not PimOpcode.MAC or k_beats & (k_beats - 1) == 0:
                assert writes == found[1]
                assert reads == found[0]

    simulator = Simulator(dut)
    simulator.add_testbench(bench)
    simulator.run()
    assert ENTRY_WIDTH >= 12
