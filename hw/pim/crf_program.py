"""Program store of HBM-PIM's units: micro-instructions, their check, and those that the next column commands run."""

from collections.abc import Sequence
from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.isa import Field
from hw.pim.crf import ADD_SOURCES, ALU_FIELDS, CRF_WORDS, GRF_WORDS, JUMP_FIELDS, NOP_FIELDS, CrfOpcode, Operand

__all__ = ["CrfProgram", "alu_layout"]

_AUTO = 8                   # column commands of an instruction with `auto`
_WORDS = 8                  # of a write
_BANKS = (Operand.EVEN_BANK, Operand.ODD_BANK)
_REGISTERS = (Operand.GRF_A, Operand.GRF_B)
_PRODUCT = (*ADD_SOURCES, Operand.SRF_M)
# Opcode → what dst, src0, src1 and src2 may be; (): not looked at.
_LEGAL: dict[CrfOpcode, tuple[Sequence[Operand], ...]] = {
    CrfOpcode.ADD: (_REGISTERS, ADD_SOURCES, (*ADD_SOURCES, Operand.SRF_A), ()),
    CrfOpcode.MUL: (_REGISTERS, ADD_SOURCES, _PRODUCT, ()),
    CrfOpcode.MAC: (_REGISTERS, ADD_SOURCES, _PRODUCT, ()),
    CrfOpcode.MAD: (_REGISTERS, ADD_SOURCES, _PRODUCT, (*_REGISTERS, Operand.SRF_A)),
    CrfOpcode.MOV: ((*_REGISTERS, *_BANKS), tuple(Operand), (), ()),
    CrfOpcode.FILL: ((*_REGISTERS, Operand.SRF_M, Operand.SRF_A), _BANKS, (), ()),
}


def alu_layout() -> data.StructLayout:
    """Return the layout of an instruction that is no JUMP and no NOP."""
    return _layout(ALU_FIELDS)


def _layout(fields: Sequence[Field]) -> data.StructLayout:
    return data.StructLayout({field.name: field.width for field in fields})


class CrfProgram(wiring.Component):
    """Command register file, its check, and the instructions of the column commands to come.

    A check looks at a word a cycle, up to the first EXIT, and refuses what `sw.pim.crf_assembler.check_program` refuses. Then
    instructions are read ahead of their commands, one a cycle together with a JUMP behind it; two are kept. So a JUMP takes no
    time of its own; of two that follow each other the second one takes a cycle, unless instructions that run for several commands
    are before it.

    Members
    -------
    write : In({valid: 1, at, data: 256})
        Eight words, from word 8·at on.
    start : In(1)
        Check the program, then begin with word 0; while not busy.
    bad : Out(1)
        A pulse: it was refused, and what ran before is as it was.
    good : Out(1)
        A pulse: it begins.
    busy : Out(1)
        Being checked.
    ended : Out(1)
        None has begun, or EXIT was taken.
    valid : Out(1), instruction : Out(`alu_layout`)
        What the next column command runs.
    take : In(1)
        It runs.
    """

    def __init__(self) -> None:
        super().__init__({
            "write": In(wiring.Signature({"valid": Out(1), "at": Out(ceil_log2(CRF_WORDS // _WORDS)), "data": Out(32 * _WORDS)})),
            "start": In(1), "bad": Out(1), "good": Out(1), "busy": Out(1), "ended": Out(1, init=1),
            "valid": Out(1), "instruction": Out(alu_layout()), "take": In(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        words = Array(Signal(32, name=f"word_{index}") for index in range(CRF_WORDS))
        for index in range(CRF_WORDS):
            with m.If(self.write.valid & (self.write.at == index // _WORDS)):
                m.d.sync += words[index].eq(self.write.data.word_select(index % _WORDS, 32))

        number, checked = Signal(range(CRF_WORDS)), Signal(32)
        m.d.comb += checked.eq(words[number])
        at_fault = self._fault(m, checked, number)
        with m.FSM(name="program") as machine:
            with m.State("ready"):
                m.d.sync += number.eq(0)
                with m.If(self.start):
                    m.next = "check"
            with m.State("check"):
                m.d.sync += number.eq(number + 1)
                with m.If(at_fault | ((number == CRF_WORDS - 1) & (checked[28:] != CrfOpcode.EXIT))):
                    m.d.comb += self.bad.eq(1)
                    m.next = "ready"
                with m.Elif(checked[28:] == CrfOpcode.EXIT):
                    m.d.comb += self.good.eq(1)
                    m.next = "ready"
            m.d.comb += self.busy.eq(~machine.ongoing("ready"))

        # What is read ahead: an instruction, and how many column commands run it after the first one.
        entry = data.StructLayout({"instruction": alu_layout(), "more": 11})
        read, head, second = Signal(entry), Signal(entry), Signal(entry)
        second_valid, reading, found = Signal(), Signal(), Signal()
        left, pop = Signal(11), Signal()
        m.d.comb += [self.instruction.eq(head.instruction),
                     pop.eq(self.take & Mux(left == 0, head.more == 0, left == 1))]
        with m.If(self.take):
            m.d.sync += left.eq(Mux(left == 0, head.more, left - 1))
        with m.If(self.take & (head.instruction.opcode == CrfOpcode.EXIT)):
            m.d.sync += self.ended.eq(1)
        self._read(m, words, read, found, wants=reading & (~second_valid | pop), restarts=self.good)
        with m.If(pop | ~self.valid):
            m.d.sync += [head.eq(Mux(second_valid, second, read)), self.valid.eq(second_valid | found),
                         second.eq(read), second_valid.eq(second_valid & found)]
        with m.Elif(found):
            m.d.sync += [second.eq(read), second_valid.eq(1)]
        with m.If(found & (read.instruction.opcode == CrfOpcode.EXIT)):
            m.d.sync += reading.eq(0)
        with m.If(self.good):
            m.d.sync += [reading.eq(1), self.valid.eq(0), second_valid.eq(0), left.eq(0), self.ended.eq(0)]
        return m

    @staticmethod
    def _read(m: Module, words: Array, read: Any, found: Signal, *, wants: Value, restarts: Signal) -> None:
        """Read a word where one is wanted: an instruction is found, with the JUMP behind it; or it is a JUMP itself."""
        pc = Signal(range(CRF_WORDS))
        # Jumps that a JUMP still has, if it has begun to count.
        counts = Array(Signal(12, name=f"jumps_{index}") for index in range(CRF_WORDS))
        counting = Signal(CRF_WORDS)
        here, behind = Signal(alu_layout()), Signal(alu_layout())
        after, at = Signal(range(CRF_WORDS)), Signal(range(CRF_WORDS))
        jump = data.View(_layout(JUMP_FIELDS), Signal(32, name="jump"))
        nop = data.View(_layout(NOP_FIELDS), here.as_value())
        is_jump = here.opcode == CrfOpcode.JUMP
        left = Signal(12)
        m.d.comb += [
            here.eq(words[pc]), after.eq(pc + 1), behind.eq(words[after]), at.eq(Mux(is_jump, pc, after)),
            jump.eq(Mux(is_jump, here, behind)), left.eq(Mux(counting.bit_select(at, 1), counts[at], jump.count)),
            found.eq(wants & ~is_jump), read.instruction.eq(here),
            read.more.eq(Mux(here.opcode == CrfOpcode.NOP, nop.count, Mux(here.auto, _AUTO - 1, 0))),
        ]
        with m.If(restarts):
            m.d.sync += [pc.eq(0), counting.eq(0)]
        with m.Elif(wants & (jump.opcode == CrfOpcode.JUMP)):
            m.d.sync += [counting.bit_select(at, 1).eq(left != 0), counts[at].eq(left - 1),
                         pc.eq(Mux(left != 0, at - jump.offset, at + 1))]
        with m.Elif(wants):
            m.d.sync += pc.eq(after)

    @staticmethod
    def _fault(m: Module, word: Value, number: Value) -> Value:
        """Return whether a word is none that a program may have in that place."""
        alu, jump, nop = (data.View(_layout(fields), word) for fields in (ALU_FIELDS, JUMP_FIELDS, NOP_FIELDS))
        fault = Signal()

        def illegal(operand: Value, legal: Sequence[Operand]) -> Value:
            return ~C(sum(1 << one for one in legal), len(Operand)).bit_select(operand, 1) if legal else C(0, 1)

        with m.Switch(alu.opcode):
            with m.Case(CrfOpcode.JUMP):
                m.d.comb += fault.eq((jump.unused != 0) | (jump.offset == 0) | (jump.offset > number))
            with m.Case(CrfOpcode.NOP):
                m.d.comb += fault.eq(nop.unused != 0)
            with m.Case(CrfOpcode.EXIT):
                m.d.comb += fault.eq(alu.unused != 0)
            for opcode, (dst, src0, src1, src2) in _LEGAL.items():
                with m.Case(opcode):
                    both = Cat(alu.src0 == bank for bank in _BANKS).any() & Cat(alu.src1 == bank for bank in _BANKS).any()
                    indices = Cat(index >= GRF_WORDS for index in (alu.dst_index, alu.src0_index, alu.src1_index)).any()
                    m.d.comb += fault.eq(
                        (alu.unused != 0) | illegal(alu.dst, dst) | illegal(alu.src0, src0) | illegal(alu.src1, src1)
                        | illegal(alu.src2, src2) | indices | (both if src1 else 0)
                        | (alu.relu if opcode is not CrfOpcode.MOV else 0))
            with m.Default():
                m.d.comb += fault.eq(1)
        return fault
