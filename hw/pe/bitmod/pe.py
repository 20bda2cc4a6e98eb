"""BitMoD PE: four bit-serial weights times four activations, group accumulation, bit-serial group scale."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.rounding import StickyShift, round_increment
from hw.pe.bitmod.align import ExponentAlign, acc_shift_width
from hw.pe.bitmod.lanes import LaneSum
from hw.pe.bitmod.precision import LANES, term_layout
from hw.pe.bitmod.serial_scale import SerialScale
from hw.pe.bitmod.shape import SCALE_BITS, BitmodShape
from hw.pe.bitmod.timing import accumulate_layout, align_layout, scale_layout

__all__ = ["BitmodPE"]

_DROPPED = 2            # bits below the sum's last place, by which it is rounded


class BitmodPE(wiring.Component):
    """BitMoD PE: product = scale · Σ activation · weight over a group of any number of steps, one term of four weights a cycle.

    Three stages, initiation interval 1: exponents (`ExponentAlign`), lanes (`LaneSum`), accumulator. With the last term of a
    group the sum goes on to `SerialScale`, while the next group may start in the next cycle; a group must take at least 8
    cycles. Cycles without a term may stand anywhere. A PE has the registers of its own results only: operands, which it shares
    with its row or its column, come once for each stage that needs them, and control once for the whole array (`BitmodTiming`).

    Float activations: the sum is mantissa · 2^exponent, aligned to the largest exponent of any product so far. Each lane is
    rounded to that, and so is the sum where that exponent rises, to nearest, ties to even; it never overflows
    (`BitmodShape.acc_width`), so nothing else rounds: the error is at most (G · Σ 2^significance / 2 + 1) last places of the
    final sum. Integers: exact.

    Latency: 11 cycles from the last term of a group to `product`.

    Parameters
    ----------
    shape : BitmodShape

    Members
    -------
    align : In(`align_layout`), accumulate : In(`accumulate_layout`), scale : In(`scale_layout`)
        From `BitmodTiming`.
    activations : In(4 × `shape.activation_layout`), terms : In(4 × `term_layout`)
        Of each of four lanes, in the cycle of the term; only of float activations.
    lane_activations, lane_terms : In
        The same, one cycle later.
    scale_bit : In(1)
        Of the unsigned 8-bit group scale, the highest first, in each step of `scale`.
    product : Out(signed(product_width))
        Stays until the first scale step of the next group.
    exponent : Out(exponent_width)
        Of the product, as long as it; only of float activations. Value = product · 2^(exponent + `shape.lsb`), half of that for
        FP4 and FP3.

    Reference
    ---------
    Chen et al., BitMoD, HPCA 2025, Section IV and Fig. 5; its authors state that a patent application has been filed. Inferred:
    widths of the accumulator, and where is rounded. Differs: no normalization (see `ExponentAlign`), three pipeline stages.
    """

    def __init__(self, shape: BitmodShape):
        self.shape = shape
        operands: dict[str, Any] = {"activations": In(data.ArrayLayout(shape.activation_layout, LANES)),
                                    "terms": In(data.ArrayLayout(term_layout, LANES))}
        members: dict[str, Any] = {f"lane_{name}": member for name, member in operands.items()}
        if shape.is_float:
            members |= {**operands, "align": In(align_layout), "exponent": Out(shape.exponent_width)}
        super().__init__({
            **members,
            "accumulate": In(accumulate_layout),
            "scale": In(scale_layout),
            "scale_bit": In(1),
            "product": Out(signed(shape.product_width)),
        })

    @property
    def module_name(self) -> str:
        """Verilog module name."""
        return f"bitmod_pe_{self.shape.suffix}"

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        shape = self.shape
        m.submodules.lanes = lanes = LaneSum(shape)
        m.submodules.serial_scale = serial = SerialScale(width=shape.acc_width, bits=SCALE_BITS)
        acc = Signal(signed(shape.acc_width), reset_less=True)
        started = Signal.like(acc)
        last = self.accumulate.valid & self.accumulate.last
        m.d.comb += started.eq(Mux(self.accumulate.first, 0, acc))
        aligned, up = self._exponents(m, lanes, started, last) if shape.is_float else (started, C(0, 1))

        lane_sum = Signal(signed(shape.sum_width), reset_less=True)
        m.d.comb += [lanes.activations.eq(self.lane_activations), lanes.terms.eq(self.lane_terms)]
        m.d.sync += lane_sum.eq(lanes.o)

        worth = Signal(signed(shape.sum_width + 6))
        with m.Switch(self.accumulate.significance):
            for significance in (6, 4, 2, 1):
                with m.Case(significance):
                    m.d.comb += worth.eq(lane_sum << significance)
            with m.Default():
                m.d.comb += worth.eq(lane_sum)
        total = Signal.like(acc)
        m.d.comb += [
            total.eq(aligned + worth + up),
            serial.start.eq(last), serial.i.eq(total), serial.step.eq(self.scale.step), serial.first.eq(self.scale.first),
            serial.scale_bit.eq(self.scale_bit), self.product.eq(serial.o),
        ]
        with m.If(self.accumulate.valid):
            m.d.sync += acc.eq(total)
        return m

    def _exponents(self, m: Module, lanes: LaneSum, started: Value, last: Value) -> tuple[Value, Value]:
        """Align; return the sum at the group's new exponent, rounded down, and whether it is to be rounded up."""
        shape = self.shape
        m.submodules.align_exponents = align = ExponentAlign(shape)
        m.submodules.align_acc = shift = StickyShift(width=shape.acc_width + _DROPPED, amount_width=acc_shift_width(shape),
                                                     signed=True)
        lane_shift = Signal(align.lane_shift.shape().size, reset_less=True)
        acc_shift_1 = Signal(acc_shift_width(shape), reset_less=True)
        acc_shift_2 = Signal(acc_shift_width(shape), reset_less=True)
        exponent_2, exponent_3, exponent_4 = (Signal(shape.exponent_width, name=f"exponent_{stage}", reset_less=True)
                                              for stage in (2, 3, 4))
        m.d.comb += [
            align.valid.eq(self.align.valid), align.first.eq(self.align.first), align.activations.eq(self.activations),
            align.terms.eq(self.terms), lanes.shift.eq(lane_shift), shift.i.eq(Cat(C(0, _DROPPED), started)),
            shift.amount.eq(acc_shift_2), self.exponent.eq(exponent_4),
        ]
        m.d.sync += [lane_shift.eq(align.lane_shift), acc_shift_1.eq(align.acc_shift), acc_shift_2.eq(acc_shift_1),
                     exponent_2.eq(align.exponent), exponent_4.eq(exponent_3)]
        with m.If(last):
            m.d.sync += exponent_3.eq(exponent_2)
        return shift.o[_DROPPED:].as_signed(), round_increment(shift.o, _DROPPED)
