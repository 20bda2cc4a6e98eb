"""The sequencer alone, with every instruction at hand: commands, tokens, precise errors, and its cycles exactly."""

from typing import Any

import pytest
from amaranth import Module

from hw.control.sequencer import Sequencer
from hw.isa import DESCRIPTORS, OPCODES, ErrorCause, Opcode, Unit
from hw.timing import START_CYCLES
from sw.assembler import Assembler
from sw.command_parity import with_checks
from tb.control.interpreter import Command, Trace, interpret
from tb.control.programs import MISTAKES, random_program
from tb.sim import simulate


def execute(words: list[int], arguments: list[int], *, parity: bool = False) -> tuple[int, dict[Unit, list[Command]], Any]:
    """Run a program with ideal surroundings; return cycles from the first look-up to the stop, commands, and the error."""
    dut = Sequencer(parity=parity, protection="secded" if parity else "none")
    m = Module()
    m.submodules.dut = dut
    m.d.comb += [dut.acquire.grant.eq(dut.acquire.valid), dut.idle.eq(1)]
    m.d.comb += [getattr(dut, unit.name.lower()).ready.eq(1) for unit in Unit]
    commands: dict[Unit, list[Command]] = {unit: [] for unit in Unit}
    cycles, error = 0, None

    async def bench(ctx: Any) -> None:
        nonlocal cycles, error
        port = dut.instruction
        ctx.set(dut.arguments, arguments)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        ctx.set(dut.run, 1)
        starting = 0
        while ctx.get(dut.starting):
            starting += 1
            await ctx.tick()
        assert starting == START_CYCLES
        ctx.set(dut.arguments, [0] * 16)
        pc = 0
        while True:
            ctx.set(port.pc, pc)
            ctx.set(port.following, pc + 1)
            ctx.set(port.hit, pc < len(words))
            ctx.set(port.beyond, pc >= len(words))
            ctx.set(port.word.as_value(), words[pc] if pc < len(words) else 0)
            cycles += 1
            for unit in Unit:
                go = getattr(dut, unit.name.lower())
                if ctx.get(go.valid):
                    entry = ctx.get(go.payload)
                    fields = {field.name: getattr(entry.descriptor, field.name) for field in DESCRIPTORS[unit]}
                    commands[unit].append(Command(entry.pc, fields, entry.wait, entry.signal))
            if ctx.get(dut.error):
                error = (ctx.get(dut.report.cause), ctx.get(dut.pc), ctx.get(dut.report.addr))
                return
            if ctx.get(dut.halted):
                return
            pc = ctx.get(port.next_pc)
            await ctx.tick()

    simulate(m, bench)
    return cycles, commands, error


def check(words: list[int], arguments: list[int]) -> Trace:
    """Run a program and compare everything with the interpreter."""
    trace = interpret(words, arguments)
    cycles, commands, error = execute(words, arguments)
    assert commands == trace.commands
    assert error == (None if trace.cause == ErrorCause.NONE else (trace.cause, trace.pc, trace.addr))
    if error is None:
        assert cycles == trace.executed + trace.hazards + 3
    return trace


@pytest.mark.parametrize("seed", range(8))
def test_random_programs(seed: int) -> None:
    arguments = [seed * 0x1234_5677 + i & 0xFFFF_FFFF for i in range(15)] + [seed % 3]
    trace = check([int(w) for w in random_program(1000 + seed, statements=60).words()], arguments)
    assert trace.cause == ErrorCause.NONE


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake: str, seed: int) -> None:
    trace = check([int(w) for w in random_program(seed, statements=24, mistake=mistake).words()], [0] * 16)
    expected = {"stray_end": ErrorCause.LOOP_STACK, "too_deep": ErrorCause.LOOP_STACK, "run_away": ErrorCause.PROGRAM_COUNTER,
                "too_wide": ErrorCause.FIELD_OVERFLOW}
    assert trace.cause == expected.get(mistake, ErrorCause.ILLEGAL_INSTRUCTION)


@pytest.mark.parametrize("unit", Unit)
def test_a_field_holds_its_largest_value_and_stops_at_one_more(unit: Unit) -> None:
    """Every field, by operations of every kind; fields of 32 bits take whatever an operation gives."""
    fields = DESCRIPTORS[unit]
    for wide in {field.width: field for field in fields}.values():
        asm = Assembler()
        for field in fields:
            asm.shr(f"{unit.name.lower()}.{field.name}", "r16", imm=32 - field.width)
        asm.go(unit)
        asm.set("r1", (1 << wide.width) - 1)
        asm.add(f"{unit.name.lower()}.{wide.name}", "r1", imm=1)
        asm.halt()
        trace = check([int(w) for w in asm.words()], [0xFFFF_FFFF] * 16)
        assert trace.commands[unit][0].fields == {field.name: (1 << field.width) - 1 for field in fields}
        fits = wide.width == 32
        assert (trace.cause, trace.addr) == ((ErrorCause.NONE, 0) if fits else (ErrorCause.FIELD_OVERFLOW, 1 << wide.width))


@pytest.mark.parametrize("opcode", [opcode for opcode, info in OPCODES.items() if info.kind == "alu"])
def test_every_operation_can_be_too_wide(opcode: Opcode) -> None:
    """The value at fault is the operation's result, and a register takes it all the same."""
    asm = Assembler()
    asm.alu(opcode, "r1", "r16", "r17")
    asm.alu(opcode, "vector.scale", "r16", "r17")
    asm.go(Unit.VECTOR)
    asm.alu(opcode, "load.rows", "r16", "r17")
    trace = check([int(w) for w in asm.words()], [0x1234_5678, 0x0123_4565 if opcode != Opcode.SHR else 3] + [0] * 14)
    assert trace.cause == ErrorCause.FIELD_OVERFLOW
    assert trace.addr == trace.commands[Unit.VECTOR][0].fields["scale"] > 0xFFFF


def test_loops_run_as_often_as_they_say() -> None:
    """2³² − 1 more than one is none; a skipped loop may be nested anywhere."""
    asm = Assembler()
    asm.set("r1", -1)
    with asm.loop("r1", 1):
        asm.word(0)
    for count in (1, 2, 5):
        with asm.loop(count):
            asm.add("r2", "r2", imm=1)
            asm.set("store.rows", "r2")
            asm.go(Unit.STORE)
            with asm.loop("r20"):
                asm.word(0)
    asm.halt()
    trace = check([int(w) for w in asm.words()], [0] * 16)
    assert [command.fields["rows"] for command in trace.commands[Unit.STORE]] == list(range(1, 9))


def test_registers_and_descriptors_start_at_zero_and_r0_stays() -> None:
    asm = Assembler()
    asm.set("r0", 5)
    for i in range(16):
        asm.add("vector.scale", f"r{i}", f"r{16 + i}")
        asm.go(Unit.VECTOR)
    asm.go(Unit.MATRIX)
    asm.halt()
    arguments = [0xFFFF_FF00 + i for i in range(16)]
    trace = check([int(w) for w in asm.words()], arguments)
    assert [command.fields["scale"] for command in trace.commands[Unit.VECTOR]] == arguments


@pytest.mark.parametrize("body", range(5))
@pytest.mark.parametrize("count", [0, 1, 3])
def test_short_loops_side_by_side_and_nested(body: int, count: int) -> None:
    """An END that comes soon after its LOOP, or after that of an inner one; each sum reads the one before."""
    asm = Assembler()
    asm.set("r3", 7)
    with asm.loop(2):
        with asm.loop(count):
            for _ in range(body):
                asm.add("r3", "r3", imm=1)
        with asm.loop(count):
            with asm.loop("r16"):                       # not run
                asm.word(0)
        asm.set("store.rows", "r3")
        asm.go(Unit.STORE)
    asm.halt()
    trace = check([int(w) for w in asm.words()], [0] * 16)
    assert [command.fields["rows"] for command in trace.commands[Unit.STORE]] == [7 + body * count, 7 + 2 * body * count]


@pytest.mark.parametrize("first", range(4))
def test_what_a_skipped_loop_holds_leaves_no_trace(first: int) -> None:
    """Taken before it is known that it is skipped: a write, a command, errors, HALT, a signal."""
    asm = Assembler()
    body = (lambda: asm.set("r1", 9), lambda: asm.go(Unit.LOAD), lambda: asm.word(0), asm.halt,
            lambda: asm.set("load.rows", 1 << 20), lambda: asm.signal(3))
    asm.set("r1", 5)
    with asm.loop(0):
        for instruction in body[first:first + 3]:
            instruction()
    asm.set("vector.m", "r1")
    asm.go(Unit.VECTOR)
    asm.halt()
    trace = check([int(w) for w in asm.words()], [0] * 16)
    assert (trace.cause, trace.signals, trace.commands[Unit.LOAD]) == (ErrorCause.NONE, [], [])
    assert trace.commands[Unit.VECTOR][0].fields["m"] == 5


def test_every_distance_from_a_write_to_its_readers() -> None:
    asm = Assembler()
    for distance in range(5):
        asm.set("r1", 100 + distance)
        for _ in range(distance):
            asm.set("r2", 0)
        asm.add("vector.scale", "r1", "r1")             # both operands at once
        asm.go(Unit.VECTOR)
    asm.halt()
    trace = check([int(w) for w in asm.words()], [0] * 16)
    assert [command.fields["scale"] for command in trace.commands[Unit.VECTOR]] == [200 + 2 * distance for distance in range(5)]


@pytest.mark.parametrize("seed", range(2))
def test_programs_with_check_bits_do_the_same(seed: int) -> None:
    words = random_program(seed, statements=30).words()
    words = words[:1 + max(i for i, word in enumerate(words) if word == Opcode.HALT)]      # not the data behind it
    plain = execute([int(w) for w in words], [5] * 16)
    assert execute([int(w) for w in with_checks(words)], [5] * 16, parity=True) == plain


@pytest.mark.parametrize("bit", [0, 7, 9, 15, 16, 22, 24, 29, 30, 31, 32, 63])
def test_an_instruction_with_a_flipped_bit_does_nothing(bit: int) -> None:
    asm = Assembler()
    asm.set("load.rows", 3)
    asm.go(Unit.LOAD)
    asm.go(Unit.STORE)
    asm.halt()
    words = [int(w) for w in asm.words(parity=True)]
    for pc in range(len(words)):
        flipped = [word ^ (1 << bit if i == pc else 0) for i, word in enumerate(words)]
        _, commands, error = execute(flipped, [0] * 16, parity=True)
        assert error == (ErrorCause.COMMAND_PARITY, pc, 1 << bit % 3)
        assert [len(commands[unit]) for unit in (Unit.LOAD, Unit.STORE)] == [pc > 1, pc > 2]


def test_parity_comes_after_what_has_no_instruction() -> None:
    asm = Assembler()
    asm.set("r1", 3)
    _, _, error = execute([int(w) for w in asm.words(parity=True)], [0] * 16, parity=True)
    assert error == (ErrorCause.PROGRAM_COUNTER, 1, 1)
