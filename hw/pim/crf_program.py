"""Program store of HBM-PIM's units: micro-instructions, their check, and which one the next column command runs."""

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
    """Command register file, its check, and its program counter.

    A check looks at a word a cycle, up to the first EXIT, and refuses what `sw.pim.crf_assembler.check_program` refuses. A JUMP
    takes no column command, and one cycle here.

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
        Being checked, or on the way over a JUMP.
    ended : Out(1)
        None has begun, or EXIT was taken.
    instruction : Out(`alu_layout`)
        What the next column command runs; if neither busy nor ended.
    take : In(1)
        It runs.
    """

    def __init__(self) -> None:
        super().__init__({
            "write": In(wiring.Signature({"valid": Out(1), "at": Out(ceil_log2(CRF_WORDS // _WORDS)), "data": Out(32 * _WORDS)})),
            "start": In(1), "bad": Out(1), "good": Out(1), "busy": Out(1), "ended": Out(1, init=1),
            "instruction": Out(alu_layout()), "take": In(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        words = Array(Signal(32, name=f"word_{index}") for index in range(CRF_WORDS))
        for index in range(CRF_WORDS):
            with m.If(self.write.valid & (self.write.at == index // _WORDS)):
                m.d.sync += words[index].eq(self.write.data.word_select(index % _WORDS, 32))
        number, pc = Signal(range(CRF_WORDS)), Signal(range(CRF_WORDS))
        left = Signal(11)                                       # further column commands of the instruction
        # Jumps that a JUMP still has, if it has begun to count.
        counts = Array(Signal(12, name=f"jumps_{index}") for index in range(CRF_WORDS))
        counting = Signal(CRF_WORDS)

        checked = Signal(32)
        m.d.comb += checked.eq(words[number])
        at_fault = self._fault(m, checked, number)
        current = data.View(alu_layout(), words[pc])
        jump, nop = data.View(_layout(JUMP_FIELDS), words[pc]), data.View(_layout(NOP_FIELDS), words[pc])
        jumps_left = Mux(counting.bit_select(pc, 1), counts[pc], jump.count)
        is_exit, is_nop = current.opcode == CrfOpcode.EXIT, current.opcode == CrfOpcode.NOP
        m.d.comb += self.instruction.eq(current)
        more = Mux(is_nop, nop.count, Mux(current.auto, _AUTO - 1, 0))
        with m.FSM(name="program") as machine:
            with m.State("ready"):
                with m.If(self.start):
                    m.d.sync += number.eq(0)
                    m.next = "check"
                with m.Elif(self.take & is_exit):
                    m.d.sync += self.ended.eq(1)
                with m.Elif(self.take):
                    with m.If(left == 0):
                        m.d.sync += left.eq(more)
                    with m.Else():
                        m.d.sync += left.eq(left - 1)
                    with m.If(Mux(left == 0, more == 0, left == 1)):
                        m.d.sync += pc.eq(pc + 1)
                        m.next = "jump"
            with m.State("jump"):
                with m.If(current.opcode != CrfOpcode.JUMP):
                    m.next = "ready"
                with m.Else():
                    m.d.sync += [counting.bit_select(pc, 1).eq(jumps_left != 0), counts[pc].eq(jumps_left - 1),
                                 pc.eq(Mux(jumps_left != 0, pc - jump.offset, pc + 1))]
            with m.State("check"):
                m.d.sync += number.eq(number + 1)
                with m.If(at_fault | ((number == CRF_WORDS - 1) & (checked[28:] != CrfOpcode.EXIT))):
                    m.d.comb += self.bad.eq(1)
                    m.next = "ready"
                with m.Elif(checked[28:] == CrfOpcode.EXIT):
                    m.d.comb += self.good.eq(1)
                    m.d.sync += [pc.eq(0), left.eq(0), counting.eq(0), self.ended.eq(0)]
                    m.next = "ready"
            m.d.comb += self.busy.eq(~machine.ongoing("ready"))
        return m

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
