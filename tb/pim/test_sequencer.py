# amaranth: UnusedElaboratable=no
"""Sequencer: command lists against the software's idea of loops, settings and composites; why lists stop."""

import random

import numpy as np
import pytest
from amaranth.hdl import Value

from hw.errors import ConfigError
from hw.pim.isa import MODIFIABLE, OPCODES, PimErrorCause, PimOpcode, PimRegister, Queue
from hw.pim.sequencer import PimSequencer
from sw.pim.assembler import assemble, command, decode
from sw.pim.expand import CommandError, Settings, expand
from tb.sim import check_stream, simulate

COMMANDS = 32
QUEUED = tuple(opcode for opcode, info in OPCODES.items() if info.queue is not Queue.SEQUENCER)


def run(words, *, opcodes=QUEUED, stall=0.0, seed=0, refuse=None, deadline=20_000):
    """Return what is given out (word, K_BEATS, HEAD_DIM, SCALE, whether `hold`), heads' settings, error and index."""
    dut = PimSequencer(commands=COMMANDS, heads=4, opcodes=opcodes)
    rng = random.Random(seed)
    issued, heads = [], []
    under_way = 0

    async def host(ctx):
        for address, word in enumerate(words):
            ctx.set(dut.write.address, address)
            ctx.set(dut.write.data, int(word))
            ctx.set(dut.write.valid, 1)
            await ctx.tick()
        ctx.set(dut.write.valid, 0)
        ctx.set(dut.go, 1)
        await ctx.tick()
        ctx.set(dut.go, 0)
        while ctx.get(dut.busy):
            await ctx.tick()
        assert under_way == 0
        assert not ctx.get(dut.hold)

    async def units(ctx):
        nonlocal under_way
        timers = []
        while True:
            ready, spare = rng.random() >= stall, rng.random() >= stall
            under_way = len(timers)
            ctx.set(dut.o.ready, ready)
            ctx.set(dut.spare, spare)
            ctx.set(dut.idle, not timers)
            if refuse is not None:
                wanted = decode(ctx.get(Value.cast(dut.o.payload.command)))
                ctx.set(dut.refuse, wanted is not None and wanted[0] is refuse)
                ctx.set(dut.refuse_cause, PimErrorCause.ROW_RANGE)
            sampled = await ctx.tick().sample(dut.o.valid, Value.cast(dut.o.p.command), dut.o.p.k_beats, dut.o.p.head_dim,
                                              dut.o.p.scale, dut.hold, dut.head.valid, dut.head.head, dut.head.setting,
                                              dut.head.value)
            _, _, valid, word, *settings, hold, head_valid, head, setting, value = sampled
            timers = [left - 1 for left in timers if left > 1]
            if valid and ready:
                issued.append((word, *settings, hold))
                timers.append(rng.randrange(1, 8))
            if head_valid:
                heads.append((head, setting, value))

    found = {}

    async def result(ctx):
        await host(ctx)
        found["error"], found["index"] = PimErrorCause(ctx.get(dut.error)), ctx.get(dut.index)

    simulate(dut, result, background=[units, check_stream(dut.o)] if refuse is None else [units], seed=seed, deadline=deadline)
    return issued, heads, found["error"], found["index"]


def expected(words):
    """Return the same from the software."""
    padded = [*(int(word) for word in words), *[0] * (COMMANDS - len(words))]
    settings, issued, heads = Settings(), [], []
    try:
        for one in expand(padded, settings):
            if one.opcode is PimOpcode.SETH:
                heads.append((one.fields["aidx"], one.fields["grp"], one.fields["value"]))
            if one.opcode in QUEUED:
                k_beats, head_dim = settings.of(PimRegister.K_BEATS), settings.of(PimRegister.HEAD_DIM)
                issued.append((command(one.opcode, **one.fields), k_beats if k_beats < 1 << 10 else 0,
                               head_dim if head_dim < 1 << 16 else 0, settings.of(PimRegister.SCALE)))
    except CommandError as problem:
        return issued, heads, problem.cause, problem.index
    return issued, heads, PimErrorCause.NONE, 0


def random_list(rng):
    """Return a list with loops, MODIs, settings and now and then something wrong."""
    words = []
    while len(words) < 22:
        kind = rng.random()
        if kind < 0.1:
            value = rng.choice([rng.randrange(4), rng.getrandbits(32)])
            words.append(command(PimOpcode.SETM, aidx=rng.choice([2, 3, 6]) if value > 3 else 9, value=value))
        elif kind < 0.14:
            words.append(command(PimOpcode.SETH, aidx=rng.randrange(4), grp=rng.randrange(4), value=rng.getrandbits(32)))
        elif kind < 0.32:
            for _ in range(rng.randrange(3)):
                words.append(command(PimOpcode.MODI, xidx=rng.randrange(3), grp=rng.randrange(len(MODIFIABLE)),
                                     row=rng.choice([1, 2, 3, -1])))
            words.append(command(PimOpcode.LOOP, aidx=rng.choice([0, 0, 0, 9]), row=rng.randrange(4), xidx=rng.randrange(1, 7)))
        elif kind < 0.38:
            words.append(command(PimOpcode.HEADER, cnt=rng.randrange(3)))
        elif kind < 0.42:
            words.append(command(rng.choice([PimOpcode.NOP, PimOpcode.BARRIER, PimOpcode.SYNC])))
        else:
            words.append(command(PimOpcode.MAC, mode=rng.randrange(2), grp=rng.randrange(3, 9), row=rng.randrange(60), col=30,
                                 cnt=rng.randrange(8, 32), xidx=rng.randrange(9, 300), aidx=rng.randrange(8, 200)))
    return [*words, command(PimOpcode.EOC)]


@pytest.mark.parametrize("seed", range(4))
def test_random_lists_run_as_the_software_says(seed):
    rng = random.Random(seed)
    causes = set()
    for number in range(3):
        words = random_list(rng)
        issued, heads, error, index = run(words, seed=number, stall=rng.choice([0.0, 0.3]))
        want, want_heads, want_error, want_index = expected(words)
        assert [one[:4] for one in issued] == want
        assert heads == want_heads
        assert error == want_error
        if error not in (PimErrorCause.NONE, PimErrorCause.NO_END):
            assert index == want_index
        causes.add(error)
    assert len(causes) > 1 or PimErrorCause.NONE in causes


def test_nested_loops_and_growth():
    text = """
        setm r7, 2
        modi 2, row, 100
        modi 3, col, 1
        loop r7 + 1, 4
          modi 0, row, 1
          loop 3, 1
            mac row=5
          rdcp col=4
        eoc"""
    # Command 2 of the outer body is the MAC inside, 3 the RDCP.
    issued, _, error, _ = run(assemble(text))
    assert error is PimErrorCause.NONE
    fields = [decode(one[0]) for one in issued]
    assert [f["row"] for op, f in fields if op is PimOpcode.MAC] == [5 + 100 * i + j for i in range(3) for j in range(3)]
    assert [f["col"] for op, f in fields if op is PimOpcode.RDCP] == [4, 5, 6]


def test_a_composite_is_held_together():
    issued, _, error, _ = run(assemble("wrx\nheader cnt=2\nmac\nnop\nmac\nwrx\nmac\neoc"), stall=0.5, seed=3)
    assert error is PimErrorCause.NONE
    assert [one[4] for one in issued] == [0, 1, 1, 0, 0]


@pytest.mark.parametrize(("text", "cause", "index"), [
    ("nop", "NO_END", COMMANDS - 1),
    ("nop\n.word 0xffffffffffffffff", "ILLEGAL_COMMAND", 1),
    ("wrx\n.word 0x4000000000000080\neoc", "ILLEGAL_COMMAND", 1),               # WRX has no aidx
    ("seth tokens, 4, 1\neoc", "HEAD_RANGE", 0),
    ("loop 1, 3\nloop 1, 2\nloop 1, 1\nnop\neoc", "LOOP_RANGE", 2),
    ("loop 1, 3\nloop 1, 2\nmodi 0, row, 1\nnop\neoc", "LOOP_RANGE", 2),
    ("loop 1, 2\nnop\nmodi 0, row, 1\neoc", "LOOP_RANGE", 2),
    ("modi 1, row, 1\nloop 1, 1\nmac\neoc", "LOOP_RANGE", 1),
    ("modi 0, row, 1\n" * 5 + "loop 1, 1\nmac\neoc", "LOOP_RANGE", 4),
    ("modi 0, row, 30000\nloop 4, 1\nmac row=10\neoc", "FIELD_OVERFLOW", 2),
    ("modi 0, aidx, -1\nloop 2, 1\nmac\neoc", "FIELD_OVERFLOW", 2),
    ("modi 0, row, 1\nloop 2, 1\nwrx\neoc", "ILLEGAL_COMMAND", 2),
    ("header cnt=3\nmac\nloop 1, 1\nmac\neoc", "ILLEGAL_COMMAND", 2),
    ("loop 2, 40\nmac\neoc", "LOOP_RANGE", 0),
])
def test_why_a_list_stops(text, cause, index):
    _, _, error, at = run(assemble(text))
    assert (error, at) == (PimErrorCause[cause], index)


def test_what_is_not_built_or_refused_stops_the_list():
    words = assemble("wrx\nmac\nsfo value=3\neoc")
    assert run(words, opcodes=(PimOpcode.WRX, PimOpcode.MAC))[2:] == (PimErrorCause.UNSUPPORTED, 2)
    issued, _, error, index = run(words, refuse=PimOpcode.MAC)
    assert (error, index, len(issued)) == (PimErrorCause.ROW_RANGE, 1, 1)


@pytest.mark.parametrize("commands", [0, 2, 48])
def test_an_impossible_memory_is_refused(commands):
    with pytest.raises(ConfigError, match=rf"^PimSequencer.commands must be a power of two of at least 4, not {commands}$"):
        PimSequencer(commands=commands, heads=1, opcodes=QUEUED)


def test_random_words_stop():
    rng = np.random.default_rng(5)
    for seed in range(3):
        words = [*(int(word) for word in rng.integers(0, 1 << 64, 10, dtype=np.uint64)), command(PimOpcode.EOC)]
        assert run(words, seed=seed)[2] is expected(words)[2] is PimErrorCause.ILLEGAL_COMMAND
