"""One unit of HBM-PIM: sixteen lanes of float16 between an even and an odd bank, and its registers."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.pim.crf import GRF_WORDS, LANES, CrfOpcode, Operand
from hw.pim.crf_program import alu_layout
from hw.pim.half_add import HalfAdd
from hw.pim.half_multiply import HalfMultiply
from hw.share import shared

__all__ = ["CRF_BURST", "CrfUnit", "crf_step_layout"]

CRF_BURST = 16 * LANES
"""Bits of a burst, and of a register."""
_BANKS = (Operand.EVEN_BANK, Operand.ODD_BANK)


def crf_step_layout() -> data.StructLayout:
    """Return the layout of what a column command runs: an instruction; low, of_mac: registers that `auto` names by the address,
    of sources and results, and of a MAC.
    """
    return data.StructLayout({"instruction": alu_layout(), "low": ceil_log2(GRF_WORDS), "of_mac": ceil_log2(GRF_WORDS)})


class CrfUnit(wiring.Component):
    """Runs a micro-instruction a cycle, each in two: operands and products, then sums; each rounded to float16.

    What an instruction leaves in its second cycle is an operand of the next one in its first: a sum where it is added or moved,
    all else also where it is multiplied. A sum to be multiplied at once would be an addition and a multiplication in one cycle,
    so the caller leaves a cycle between those two.

    Members
    -------
    start : In(1), step : In(`crf_step_layout`), bank : In(256)
        Run this, with this burst of the bank.
    busy : Out(1)
        The cycle after a start.
    moved : Out(256)
        What a MOV of `step`, with `bank`, would move: what it writes to a bank.
    set : In({valid: 1, odd: 1, scalars: 1, at, data: 256})
        Write register `at` of GRF_A, with `odd` of GRF_B; with `scalars` SRF_M (low half) and SRF_A. While not busy.
    clear : In(1)
        Make GRF_B zero. While not busy.
    """

    def __init__(self) -> None:
        super().__init__({
            "start": In(1), "step": In(crf_step_layout()), "bank": In(CRF_BURST), "busy": Out(1), "moved": Out(CRF_BURST),
            "set": In(wiring.Signature({"valid": Out(1), "odd": Out(1), "scalars": Out(1), "at": Out(ceil_log2(GRF_WORDS)),
                                        "data": Out(CRF_BURST)})),
            "clear": In(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        grf = [Array(Signal(CRF_BURST, name=f"grf_{name}_{index}") for index in range(GRF_WORDS)) for name in "ab"]
        srf = [Signal(16 * GRF_WORDS, name=f"srf_{name}") for name in "ma"]
        a_out, m_out = Signal(CRF_BURST), Signal(CRF_BURST)
        instruction, low = self.step.instruction, self.step.low

        # Second cycle of the instruction before: what it leaves, and what of that is no sum.
        kept, kept_index = Signal(alu_layout()), Signal.like(low)
        left, right, total = Signal(CRF_BURST), Signal(CRF_BURST), Signal(CRF_BURST)
        early, result = Signal(CRF_BURST), Signal(CRF_BURST)
        was = kept.opcode
        adds = self.busy & ((was == CrfOpcode.ADD) | (was == CrfOpcode.MAC) | (was == CrfOpcode.MAD))
        multiplies = self.busy & ((was == CrfOpcode.MUL) | (was == CrfOpcode.MAC) | (was == CrfOpcode.MAD))
        writes = self.busy & (was != CrfOpcode.NOP)
        m.d.comb += [early.eq(Mux(was == CrfOpcode.MUL, right, left)), result.eq(Mux(adds, total, early))]

        def source(operand: Value, index: Value, name: str) -> tuple[Signal, Signal]:
            """Return an operand of the first cycle as it is added or moved, and as it is multiplied."""
            value, factor = Signal(CRF_BURST, name=name), Signal(CRF_BURST, name=f"{name}_factor")
            place = Mux(instruction.auto, low, index[:3])
            with m.Switch(operand):
                for scalars, which in zip(srf, (Operand.SRF_M, Operand.SRF_A), strict=True):
                    with m.Case(which):
                        scalar = Mux(writes & (kept.dst == which), early, scalars).word_select(index[:3], 16)
                        m.d.comb += [value.eq(scalar.replicate(LANES)), factor.eq(value)]
                for registers, which in zip(grf, (Operand.GRF_A, Operand.GRF_B), strict=True):
                    with m.Case(which):
                        same = writes & (kept.dst == which) & (kept_index == place)
                        m.d.comb += [value.eq(Mux(same, result, registers[place])), factor.eq(Mux(same, early, registers[place]))]
                with m.Case(Operand.A_OUT):
                    m.d.comb += value.eq(Mux(adds, total, a_out))
                with m.Case(Operand.M_OUT):
                    m.d.comb += value.eq(Mux(multiplies, right, m_out))
                with m.Default():
                    m.d.comb += [value.eq(self.bank), factor.eq(self.bank)]
            return value, factor

        src0, factor0 = source(instruction.src0, instruction.src0_index, "src0")
        src1, factor1 = source(instruction.src1, instruction.src1_index, "src1")
        src2, _ = source(instruction.src2, instruction.src1_index, "src2")
        is_mac = instruction.opcode == CrfOpcode.MAC
        dst_index = Mux(instruction.auto, Mux(is_mac, self.step.of_mac, low), instruction.dst_index[:3])
        addend = Mux(writes & (kept.dst == instruction.dst) & (kept_index == dst_index), result,
                     Mux(instruction.dst == Operand.GRF_B, grf[1][dst_index], grf[0][dst_index]))
        positive = [src0.word_select(lane, 16) for lane in range(LANES)]
        # What is above zero: not −x, not zero, no NaN.
        m.d.comb += self.moved.eq(Cat(
            Mux(instruction.relu & (word[15] | (word[:15] > 0x7C00)), 0, word) for word in positive))

        # First cycle: products; what is added, or moved, waits.
        product = Signal(CRF_BURST)
        m.d.sync += self.busy.eq(self.start)
        only_adds = instruction.opcode == CrfOpcode.ADD
        with m.If(self.start):
            m.d.sync += [
                kept.eq(instruction), kept_index.eq(dst_index), right.eq(Mux(only_adds, src1, product)),
                left.eq(Mux(only_adds, src0, Mux(is_mac, addend, Mux(instruction.opcode == CrfOpcode.MAD, src2, self.moved)))),
            ]
        for lane in range(LANES):
            multiplier, adder = HalfMultiply(), HalfAdd()
            m.submodules[f"multiply_{lane}"] = shared(platform, "pim_half_multiply", multiplier)
            m.submodules[f"add_{lane}"] = shared(platform, "pim_half_add", adder)
            m.d.comb += [
                multiplier.a.eq(factor0.word_select(lane, 16)), multiplier.b.eq(factor1.word_select(lane, 16)),
                product.word_select(lane, 16).eq(multiplier.o), adder.a.eq(left.word_select(lane, 16)),
                adder.b.eq(right.word_select(lane, 16)), total.word_select(lane, 16).eq(adder.o),
            ]

        # Second cycle: sums, and the registers.
        with m.If(multiplies):
            m.d.sync += m_out.eq(right)
        with m.If(adds):
            m.d.sync += a_out.eq(total)
        with m.If(writes):
            for registers, which in zip(grf, (Operand.GRF_A, Operand.GRF_B), strict=True):
                with m.If(kept.dst == which):
                    m.d.sync += registers[kept_index].eq(result)
            for scalars, which in zip(srf, (Operand.SRF_M, Operand.SRF_A), strict=True):
                with m.If(kept.dst == which):
                    m.d.sync += scalars.eq(early)

        with m.If(self.set.valid & self.set.scalars):
            m.d.sync += Cat(srf).eq(self.set.data)
        with m.Elif(self.set.valid):
            for registers, odd in zip(grf, (0, 1), strict=True):
                with m.If(self.set.odd == odd):
                    m.d.sync += registers[self.set.at].eq(self.set.data)
        with m.If(self.clear):
            m.d.sync += [word.eq(0) for word in grf[1]]
        return m
