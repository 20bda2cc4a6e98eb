"""Requantization: one lane from an accumulator word to an int8."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.float_mul import FloatMultiply
from hw.arith.float_to_int import FloatToInt
from hw.arith.floating import float_layout
from hw.arith.int_to_float import IntToFloat
from hw.arith.multiply import multiply_latency
from hw.elements import FP32
from hw.errors import ConfigError

__all__ = ["RequantizeLane"]

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1


class RequantizeLane(wiring.Component):
    """Requantization lane: y = saturate_int8(rne(float32(sat32(acc + bias)) · scale)), then max(y, 0) with `relu`.

    Every step is rounded to nearest, ties to even. The multiplier takes a subnormal scale and a subnormal product as zero,
    which cannot be told apart in y: such products are far below a half. NaN (also from 0 · Inf) gives 0.
    Latency 9 cycles with `enable` high, initiation interval 1; no reset.

    Parameters
    ----------
    acc_width : int
        Bits of an accumulator word, 2 to 32.

    Members
    -------
    enable : In(1)
        0 holds every register.
    acc : In(signed(acc_width))
        Element. A register takes it, since it comes straight from the accumulator's memory.
    bias : In(signed(32)), scale : In(float32)
        Of the elements that entered `bias_delay` and `scale_delay` cycles before, so that no lane has to carry them along; a
        bias of zero is no bias.
    relu : In(1)
        Of the element that is leaving.
    o : Out(signed(8))

    Attributes
    ----------
    latency : int
        Cycles from `acc` to `o`.
    bias_delay, scale_delay : int
        Cycles from `acc` to its `bias` and its `scale`.

    Raises
    ------
    ConfigError
        If `acc_width` is out of its range.
    """

    bias_delay = 1
    scale_delay = bias_delay + 1 + IntToFloat.latency
    latency = scale_delay + FloatMultiply.FLUSHED_LATENCY + multiply_latency(FP32.mantissa_bits + 1) + FloatToInt.latency

    def __init__(self, *, acc_width: int):
        if not 2 <= acc_width <= 32:
            raise ConfigError(f"RequantizeLane.acc_width must be between 2 and 32, not {acc_width!r}")
        super().__init__({
            "enable": In(1),
            "acc": In(signed(acc_width)),
            "bias": In(signed(32)),
            "scale": In(float_layout(FP32)),
            "relu": In(1),
            "o": Out(signed(8)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.to_float = to_float = IntToFloat(width=32, fmt=FP32)
        m.submodules.multiplier = multiplier = FloatMultiply(fmt=FP32, pipelined=True)
        m.submodules.to_int = to_int = FloatToInt(width=8, fmt=FP32)

        wide = Signal(signed(33))
        total = Signal(signed(32), reset_less=True)
        overflow = wide[32] ^ wide[31]
        acc = Signal.like(self.acc, name="acc_register", reset_less=True)
        m.d.comb += wide.eq(acc + self.bias)
        with m.If(self.enable):
            m.d.sync += acc.eq(self.acc)
            m.d.sync += total.eq(Mux(overflow, Mux(wide[32], INT32_MIN, INT32_MAX), wide))

        m.d.comb += [
            to_float.enable.eq(self.enable),
            to_float.i.eq(total),
            multiplier.enable.eq(self.enable),
            multiplier.a.eq(to_float.o),
            multiplier.b.eq(self.scale),
            to_int.enable.eq(self.enable),
            to_int.i.eq(multiplier.o),
            self.o.eq(Mux(self.relu & to_int.o[-1], 0, to_int.o)),
        ]
        return m
