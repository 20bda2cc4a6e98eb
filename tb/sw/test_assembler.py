"""Assembler and disassembler: round trips, the Python builder, and every error message."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.isa import DESTINATIONS, OPCODES, SEMAPHORES, Opcode, Unit, destination
from sw.assembler import Assembler, AssemblyError, Instruction, assemble, disassemble

ALU = sorted(op for op, info in OPCODES.items() if info.kind == "alu")
HALF = st.integers(0, 0xFFFF)
REGISTER = st.integers(0, 31)
LEGAL = st.one_of(
    st.builds(Instruction, st.sampled_from(ALU), st.integers(0, len(DESTINATIONS) - 1), REGISTER, REGISTER,
              st.one_of(st.integers(0, 0xFFFF_FFFF), st.sampled_from([0, 1, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF]))),
    st.builds(lambda op: Instruction(op), st.sampled_from([Opcode.HALT, Opcode.FENCE, Opcode.END])),
    st.builds(lambda b, imm: Instruction(Opcode.LOOP, b=b, imm=imm), REGISTER, st.integers(0, 0xFFFF_FFFF)),
    st.builds(lambda op, imm: Instruction(op, imm=imm), st.sampled_from([Opcode.SIGNAL, Opcode.WAIT]), HALF),
    st.builds(lambda op, imm: Instruction(op, imm=imm), st.sampled_from([Opcode[unit.name] for unit in Unit]),
              st.integers(0, 0xFFFF_FFFF)),
)
NEAR_LEGAL = st.builds(Instruction, st.sampled_from(sorted(OPCODES)), *([st.sampled_from([0, 0, 0, 5, 32, 255])] * 3),
                       st.sampled_from([0, 3, 1 << 16]))
WORD = st.one_of(LEGAL.map(Instruction.encode), NEAR_LEGAL.map(Instruction.encode), st.integers(0, (1 << 64) - 1))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(WORD, max_size=40))
def test_words_survive_text(words: list[int]) -> None:
    text = disassemble(words)
    assert len(text.splitlines()) == len(words)
    np.testing.assert_array_equal(assemble(text), np.array(words, dtype=np.uint64))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(LEGAL)
def test_legal_instructions_have_text(instruction: Instruction) -> None:
    assert Instruction.decode(instruction.encode()) == instruction
    words = [instruction.encode()]
    if instruction.opcode == Opcode.LOOP:
        words.append(Instruction(Opcode.END).encode())
    if instruction.opcode != Opcode.END:
        assert ".word" not in disassemble(words)


def test_deep_loops_survive_text() -> None:
    words = [Instruction(Opcode.LOOP, b=1).encode()] * 9 + [Instruction(Opcode.END).encode()] * 9
    text = disassemble(words)
    assert text.count(".word") == 6
    np.testing.assert_array_equal(assemble(text), np.array(words, dtype=np.uint64))


def test_fields_are_where_the_table_says() -> None:
    assert Instruction(Opcode.ADD, 0x11, 2, 3, 0x89AB_CDEF).encode() == 0x89AB_CDEF_0302_1102


def test_builder_and_text_agree() -> None:
    asm = Assembler()
    asm.set("load.rows", 64)
    asm.set("r3", "r4", -1)
    asm.add("r4", "r5", imm=3)
    asm.sub("r4", "r5", "r6", imm=-3)
    asm.and_("matrix.m", "r5", imm=0xFFFF_FFFF)
    with asm.loop("r6", 2):
        with asm.loop(10):
            asm.go(Unit.LOAD, wait=(0, 15), signal=(1,))
        asm.go(Unit.STORE)
        asm.go(Unit.VECTOR, signal=[2])
        assert len(asm) == 11
    asm.signal(3)
    asm.wait(3, 4)
    asm.fence()
    asm.word(0xFF)
    asm.halt()
    text = """
        SET    load.rows, 0x40     ; a comment
        set    R3, r4 - 1
        add    r4, r5, 3           # another

        sub    r4, r5, r6 + -3
        and    matrix.m, r5, -1
        loop   r6+2
          loop 10
            load wait 0, 15 signal 1
          end
          store
          vector signal 2
        end
        signal 3
        wait   4, 3
        fence
        .word  0xff
        halt
    """
    np.testing.assert_array_equal(assemble(text), asm.words())
    np.testing.assert_array_equal(assemble(disassemble(asm.words())), asm.words())
    loop = Instruction.decode(int(asm.words()[5]))
    assert (loop.b, loop.imm & 0xFFFF, loop.imm >> 16) == (6, 2, 6)
    assert Instruction.decode(int(asm.words()[0])).a == destination(Unit.LOAD, "rows")


def test_every_alu_opcode_has_a_method() -> None:
    for op in ALU:
        asm = Assembler()
        name = op.name.lower()
        getattr(asm, name if hasattr(asm, name) else name + "_")("r1", "r2", "r3", 4)
        assert Instruction.decode(int(asm.words()[0])) == Instruction(op, 1, 2, 3, 4)


def test_set_takes_every_destination() -> None:
    for name, number in DESTINATIONS.items():
        assert assemble(f"set {name}, r1 + 7")[0] == Instruction(Opcode.ADD, number, 0, 1, 7).encode()


def test_nothing_gives_nothing() -> None:
    assert assemble("\n ; only a comment\n").shape == (0,)
    assert disassemble([]) == ""


OPERAND = "operand must be a register, a number, or a register + or - a number, not "
ERRORS = {
    "frob r1": "instruction must be an opcode, set or .word, not 'frob'",
    "set load.row, 1": "destination must be a register or a descriptor field (such as load.rows), not 'load.row'",
    "set r32, 1": "destination must be a register or a descriptor field (such as load.rows), not 'r32'",
    "set r1, r32": "source must be a register r0 to r31, not 'r32'",
    "set r1": "instruction must be written as set DESTINATION, OPERAND, not with operands 'r1'",
    "add r1, r2": "instruction must be written as add DESTINATION, REGISTER, OPERAND, not with operands 'r1, r2'",
    "add r1, 2, r3": "source must be a register r0 to r31, not '2'",
    "add r1, r2, r3 r4": OPERAND + "'r3 r4'",
    "add r1, r2, r3 + r4": OPERAND + "'r3 + r4'",
    "add r1, r2, r3 +": OPERAND + "'r3 +'",
    "add r1, r2, r3 4": OPERAND + "'r3 4'",
    "add r1, r2,": OPERAND + "''",
    "add r1, r2, 4x": "number must be decimal or 0x…, not '4x'",
    "add r1, r2, 0x100000000": "immediate must be between -2147483648 and 4294967295, not 4294967296",
    "loop 65536": "loop count immediate must be between 0 and 65535, not 65536",
    "loop r1 - 1": "loop count immediate must be between 0 and 65535, not -1",
    "loop r1, 4": "loop must be written as loop OPERAND or loop OPERAND, skip NUMBER, not 'r1, 4'",
    "loop r1, skip 70000\nend": None,
    "end": "end must close a loop, but none is open",
    "loop r1": "loop has no end",
    "loop 1\n" * 7: None,
    "wait 16": "semaphore must be between 0 and 15, not 16",
    "signal x": "number must be decimal or 0x…, not 'x'",
    "load 3": "load takes wait SEMAPHORES and signal SEMAPHORES, not '3'",
    "halt 1": "halt takes no operand, not '1'",
    ".word 0x10000000000000000": "word must be between 0 and 18446744073709551615, not 18446744073709551616",
}


@pytest.mark.parametrize("text", ERRORS)
def test_errors_name_the_line(text: str) -> None:
    message, line = ERRORS[text], 3
    if message is None and text.startswith("loop r1"):
        message, line = "loop skip count must be between 0 and 65535, not 70000", 4
    elif message is None:
        message, line = "loops must be nested at most 6 deep", 9
    with pytest.raises(AssemblyError, match=rf"^line {line}: {re.escape(message)}$"):
        assemble("halt\n\n" + text)


def test_builder_errors() -> None:
    asm = Assembler()
    with pytest.raises(AssemblyError, match=r"^opcode must be of kind 'alu', not HALT$"):
        asm.alu(Opcode.HALT, "r1", "r2")
    asm.open_loop(3)
    with pytest.raises(AssemblyError, match=r"^loop at instruction 0 has no end$"):
        asm.words()
    with pytest.raises(AssemblyError, match=r"^Instruction\.a must be between 0 and 255, not 256$"):
        Instruction(Opcode.ADD, a=256).encode()
    assert SEMAPHORES == 16
