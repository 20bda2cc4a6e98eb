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

__all__ = ["BitmodPE"]

_DROPPED = 2            # bits below the sum's last place, by which it is rounded


class BitmodPE(wiring.Component):
    """BitMoD PE: product = scale · Σ activation · weight over a group of any number of steps, one term of four weights a cycle.

    Three stages, initiation interval 1: exponents (`ExponentAlign`), lanes (`LaneSum`), accumulator. With the last term of a
    group the sum goes on to `SerialScale`, while the next group may start in the next cycle; a group must take at least 8
    cycles. Cycles without `valid` may stand anywhere.

    Float activations: the sum is mantissa · 2^exponent, aligned to the largest exponent of any product so far. Each lane is
    rounded to that, and so is the sum where that exponent rises, to nearest, ties to even; it never overflows
    (`BitmodShape.acc_width`), so nothing else rounds: the error is at most (G · Σ 2^significance / 2 + 1) last places of the
    final sum. Integer activations: exact.

    Latency: from the last term of a group to `done` 11 cycles; bit 7 − i of the scale must be on `scale_bit` 3 + i cycles after
    it.

    Parameters
    ----------
    shape : BitmodShape

    Members
    -------
    valid, first, last : In(1)
        There is a term; it is the first, or the last, of its group.
    activations : In(4 × `shape.activation_layout`)
        The same for all terms of a step.
    terms : In(4 × `term_layout`), significance : In(3)
        One term of each of four weights, and log2 of what they are worth.
    scale_bit : In(1)
        Of the unsigned 8-bit group scale.
    done : Out(1), product : Out(signed(product_width))
        `product` holds from `done` until the next group's last term was 3 cycles ago.
    exponent : Out(exponent_width)
        Of the product, as long as it; only of float activations. Value = product · 2^(exponent + `shape.lsb`), half of that for
        FP4 and FP3.

    Attributes
    ----------
    latency : int
        Cycles from a group's last term to `done`.
    scale_latency : int
        Cycles from a group's last term to the scale's first bit.

    Reference
    ---------
    Chen et al., BitMoD, HPCA 2025, Section IV and Fig. 5; its authors state that a patent application has been filed. Inferred:
    widths of the accumulator and rounding. Differs: no normalization (see `ExponentAlign`), three pipeline stages.
    """

    scale_latency = 3
    latency = scale_latency + SCALE_BITS

    def __init__(self, shape: BitmodShape):
        self.shape = shape
        members: dict[str, Any] = {
            "valid": In(1), "first": In(1), "last": In(1),
            "activations": In(data.ArrayLayout(shape.activation_layout, LANES)),
            "terms": In(data.ArrayLayout(term_layout, LANES)),
            "significance": In(3),
            "scale_bit": In(1),
            "done": Out(1),
            "product": Out(signed(shape.product_width)),
        }
        if shape.is_float:
            members["exponent"] = Out(shape.exponent_width)
        super().__init__(members)

    @property
    def module_name(self) -> str:
        """Verilog module name."""
        return f"bitmod_pe_{self.shape.suffix}"

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        shape = self.shape
        m.submodules.lanes = lanes = LaneSum(shape)
        m.submodules.scale = scale = SerialScale(width=shape.acc_width, bits=SCALE_BITS)

        # Stage 1: exponents. What else a lane needs goes along.
        flags = data.StructLayout({"first": 1, "last": 1, "significance": 3})
        valid_1, valid_2 = Signal(), Signal()
        flags_1, flags_2 = Signal(flags, reset_less=True), Signal(flags, reset_less=True)
        m.d.sync += [valid_1.eq(self.valid), valid_2.eq(valid_1)]
        lane_inputs = [(lanes.activations, self.activations, "activations_held"), (lanes.terms, self.terms, "terms_held")]
        acc_shift: Value = C(0, 1)
        with m.If(self.valid):
            m.d.sync += [flags_1.first.eq(self.first), flags_1.last.eq(self.last), flags_1.significance.eq(self.significance)]
        if shape.is_float:
            m.submodules.align = align = ExponentAlign(shape)
            acc_shift_1 = Signal(acc_shift_width(shape), reset_less=True)
            acc_shift = Signal(acc_shift_width(shape), reset_less=True)
            exponent_2, exponent_3, exponent_4 = (Signal(shape.exponent_width, name=f"exponent_{stage}", reset_less=True)
                                                  for stage in (2, 3, 4))
            lane_inputs.append((lanes.shift, align.lane_shift, "lane_shift_held"))
            m.d.comb += [
                align.valid.eq(self.valid), align.first.eq(self.first), align.activations.eq(self.activations),
                align.terms.eq(self.terms), self.exponent.eq(exponent_4),
            ]
            with m.If(self.valid):
                m.d.sync += acc_shift_1.eq(align.acc_shift)
            m.d.sync += [acc_shift.eq(acc_shift_1), exponent_2.eq(align.exponent), exponent_4.eq(exponent_3)]
            with m.If(scale.start):
                m.d.sync += exponent_3.eq(exponent_2)
        for port, value, name in lane_inputs:
            word = Value.cast(value)
            held = Signal(len(word), name=name, reset_less=True)
            with m.If(self.valid):
                m.d.sync += held.eq(word)
            m.d.comb += Value.cast(port).eq(held)

        # Stage 2: lanes.
        lane_sum = Signal(signed(shape.sum_width), reset_less=True)
        m.d.sync += [lane_sum.eq(lanes.o), flags_2.eq(flags_1)]

        # Stage 3: accumulator.
        acc, total = Signal(signed(shape.acc_width), reset_less=True), Signal(signed(shape.acc_width))
        started = Mux(flags_2.first, 0, acc)
        aligned, up = (self._aligned(m, started, acc_shift) if shape.is_float else (started, C(0, 1)))
        worth = Signal(signed(shape.sum_width + 6))
        m.d.comb += [
            worth.eq(Array(lane_sum << significance for significance in (0, 1, 2, 2, 4, 4, 6, 6))[flags_2.significance]),
            total.eq(aligned + worth + up),
            scale.start.eq(valid_2 & flags_2.last), scale.i.eq(total), scale.bit.eq(self.scale_bit),
            self.product.eq(scale.o), self.done.eq(scale.done),
        ]
        with m.If(valid_2):
            m.d.sync += acc.eq(total)
        return m

    def _aligned(self, m: Module, started: Value, amount: Value) -> tuple[Value, Value]:
        """Return the sum at the group's new exponent, rounded down, and whether it is to be rounded up."""
        shape = self.shape
        m.submodules.align_acc = shift = StickyShift(width=shape.acc_width + _DROPPED, amount_width=acc_shift_width(shape),
                                                     signed=True)
        m.d.comb += [shift.i.eq(Cat(C(0, _DROPPED), started)), shift.amount.eq(amount)]
        return shift.o[_DROPPED:].as_signed(), round_increment(shift.o, _DROPPED)
