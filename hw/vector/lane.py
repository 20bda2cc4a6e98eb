"""One lane of the vector unit: from an element and its operands to the element of the result."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.exp2_distribution import Exp2Distribution
from hw.arith.float_to_int import FloatToInt
from hw.arith.floating import float_layout, infinity, unpack
from hw.arith.int_to_float import IntToFloat
from hw.arith.pipeline import registered
from hw.arith.reciprocal import Reciprocal
from hw.arith.rsqrt import Rsqrt
from hw.elements import FP32
from hw.isa import VectorFunction, VectorOutput
from hw.timing import VECTOR_STAGES
from hw.vector.float32 import ADD_LATENCY, MAXIMUM_LATENCY, added, greater, multiplied, multiply_latency

__all__ = ["MINUS_INFINITY", "VectorLane"]

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1
MINUS_INFINITY = infinity(FP32).as_bits() | 1 << 31


class VectorLane(wiring.Component):
    """Vector lane: one element a cycle through steps of float32, each rounded to nearest, ties to even.

    x = max(float32(sat32(a + bias)) · scale · row, at_least) + addend, or −Inf; f = function(x); y = f, or f · (factor, x or f);
    o is y as float32 or integer. An operand that changes nothing leaves a step out: 0 as bias, 1 as row, −Inf as at_least, −0 as
    addend. Each is taken in the stage that uses it (`hw.timing.VECTOR_STAGES`), so that no lane has to carry it along.

    The lane for requantization is o = max(int8(float32(sat32(a + bias)) · scale), at_least), 0 of NaN: the maximum of float32
    words, rounded, is that of the rounded words. Its multiplier takes a subnormal scale and a subnormal product as zero, which
    cannot be told apart in o: such products are far below a half. The other lane keeps subnormal values, as IEEE 754 has them.

    Latency 38 cycles with `enable` high, 9 of the lane for requantization; initiation interval 1; no reset. An int32 adder, two
    float32 multipliers for x and one for y, one adder, `Exp2Distribution`: see `docs/vector.md`.

    Parameters
    ----------
    unit : str
        "requantize" or "transformer": `AcceleratorConfig.vector`.
    scalar_functions : bool
        With 1/x and 1/√x, which only rows of one element use.
    limits : bool
        With range restriction.

    Members
    -------
    enable : In(1)
        0 holds every register.
    a : In(32)
        int32, or float32 where `floating`. A register takes it.
    floating : In(1), function : In(3), times : In(2), post : In(1), output : In(3)
        Of the command: `a` is float32; a `VectorFunction`; whether f is multiplied by `factor` (0), x (1) or f (2); y is that
        product, not f; a `VectorOutput`. Stable while anything is inside.
    bias : In(signed(32)), scale, row, at_least, addend, factor : In(32, float32), masked : In(1)
        Of the elements that entered as many cycles before as `VECTOR_STAGES` has at bias, scale, row, maximum, add, post and
        function.
    term, y : Out(32)
        At stage result: what is summed (f², where f is multiplied by f, else f), and y.
    o : Out(32)
        At stage output: y as `output` has it; of integers the low bits.

    With range restriction there are also

    limited : In(1), limit : In(32, float32)
        Of the command: instead of the maximum, a magnitude above that of `limit`, and NaN, becomes that, with the sign it has.

    The lane for requantization has `enable`, `a`, `bias`, `scale` and `o` only, and

    at_least : In(signed(8)), nan : In(1)
        Of the command: operand of the maximum, the smallest int8 where there is none; whether that operand is NaN.
    """

    def __init__(self, *, unit: str, scalar_functions: bool = False, limits: bool = False):
        self._unit, self._scalar_functions, self._limits = unit, scalar_functions, limits
        self._stages = VECTOR_STAGES[unit]
        self.latency = self._stages.output
        members: dict[str, Any] = {"enable": In(1), "a": In(32), "bias": In(signed(32)), "scale": In(32), "o": Out(32)}
        if unit == "transformer":
            members |= {"floating": In(1), "function": In(3), "times": In(2), "post": In(1), "output": In(3), "row": In(32),
                        "at_least": In(32), "addend": In(32), "factor": In(32), "masked": In(1), "term": Out(32), "y": Out(32)}
            if limits:
                members |= {"limited": In(1), "limit": In(32)}
        else:
            members |= {"at_least": In(signed(8)), "nan": In(1)}
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        stages, transformer = self._stages, self._unit == "transformer"
        assert stages.row == stages.scale + multiply_latency(subnormals=transformer)

        # Sum and convert. A float32 word passes the registers of the sum.
        m.submodules.to_float = to_float = IntToFloat(width=32, fmt=FP32)
        a = registered(m, self.enable, self.a, "a_register", stages.bias)
        wide = Signal(signed(33))
        saturated = Signal(signed(32))
        overflow = wide[32] ^ wide[31]
        m.d.comb += [wide.eq(a.as_signed() + self.bias),
                     saturated.eq(Mux(overflow, Mux(wide[32], INT32_MIN, INT32_MAX), wide))]
        summed = registered(m, self.enable, Mux(self.floating, a, saturated) if transformer else saturated, "summed")
        m.d.comb += [to_float.enable.eq(self.enable), to_float.i.eq(summed)]
        assert stages.scale == stages.bias + 1 + to_float.latency
        value = to_float.o.as_value()
        if transformer:
            value = Mux(self.floating, registered(m, self.enable, summed, "word", to_float.latency), value)

        # Scale.
        value = multiplied(m, platform, self.enable, value, self.scale, "scaled", subnormals=transformer)
        if transformer:
            value = self._transformed(m, platform, value)

        m.submodules.to_int = to_int = FloatToInt(width=8, fmt=FP32)
        m.d.comb += [to_int.enable.eq(self.enable), Value.cast(to_int.i).eq(value)]
        assert stages.output == stages.result + to_int.latency
        if not transformer:
            word = float_layout(FP32)(value)
            nan = registered(m, self.enable, self.nan | unpack(FP32, word, subnormals=False).nan, "nan_register", to_int.latency)
            whole = Mux(to_int.o < self.at_least, self.at_least, to_int.o)
            m.d.comb += self.o.eq(Mux(nan, 0, whole.as_unsigned()))
            return m
        word = registered(m, self.enable, value, "y_register", to_int.latency)
        m.d.comb += self.o.eq(word)
        with m.If(self.output == VectorOutput.INT8):
            m.d.comb += self.o.eq(to_int.o.as_unsigned())
        with m.Elif(self.output == VectorOutput.UINT4):
            m.d.comb += self.o.eq(Mux(to_int.o < 0, 0, Mux(to_int.o > 15, 15, to_int.o)))
        return m

    def _transformed(self, m: Module, platform: Any, value: Value) -> Value:
        """Return y from the value at stage row."""
        stages, times = self._stages, multiply_latency(subnormals=True)
        assert (stages.maximum, stages.add) == (stages.row + times, stages.row + times + MAXIMUM_LATENCY)
        assert (stages.function, stages.result) == (stages.add + ADD_LATENCY, stages.post + times)
        value = multiplied(m, platform, self.enable, value, self.row, "scaled_row", subnormals=True)

        # Maximum before sum: the one with its neutral operand does nothing, so neither has to be led around.
        scaled = value
        value = greater(m, platform, self.enable, scaled, self.at_least, "maximum")
        if self._limits:                            # NaN is above every number, and infinity is
            beyond = scaled[:31] > self.limit[:31]
            within = Mux(beyond, Cat(self.limit[:31], scaled[31]), scaled)
            value = Mux(self.limited, registered(m, self.enable, within, "within", MAXIMUM_LATENCY), value)
        total = added(m, platform, self.enable, value, self.addend, "add")

        # The functions end together; those that take less time begin later, on the x that the identity carries along.
        length = stages.post - stages.function
        xs = [Signal(32, name="x_0")]
        m.d.comb += xs[0].eq(Mux(self.masked, MINUS_INFINITY, total))
        for stage in range(1, length + 1):
            xs.append(registered(m, self.enable, xs[-1], f"x_{stage}"))
        m.submodules.exp2_distribution = exponential = Exp2Distribution(fmt=FP32)
        m.d.comb += [exponential.distribution.eq(self.function != VectorFunction.EXP2),
                     exponential.normal.eq(self.function == VectorFunction.NORMAL)]
        blocks: list[tuple[Any, tuple[VectorFunction, ...]]] = [
            (exponential, (VectorFunction.EXP2, VectorFunction.SIGMOID, VectorFunction.NORMAL))]
        if self._scalar_functions:
            m.submodules.reciprocal = reciprocal = Reciprocal(fmt=FP32, subnormals=True)
            m.submodules.rsqrt = rsqrt = Rsqrt(fmt=FP32, subnormals=True)
            blocks += [(reciprocal, (VectorFunction.RECIPROCAL,)), (rsqrt, (VectorFunction.RSQRT,))]
        f = Signal(32)
        m.d.comb += f.eq(xs[-1])
        with m.Switch(self.function):
            for block, functions in blocks:
                with m.Case(*functions):
                    m.d.comb += f.eq(block.o)
        for block, _ in blocks:
            m.d.comb += [block.enable.eq(self.enable), Value.cast(block.i).eq(xs[length - block.latency])]

        own = Signal(32)
        with m.Switch(self.times):
            with m.Case(0):
                m.d.comb += own.eq(self.factor)
            with m.Case(1):
                m.d.comb += own.eq(xs[-1])
            with m.Default():
                m.d.comb += own.eq(f)
        product = multiplied(m, platform, self.enable, f, own, "product", subnormals=True)
        kept = registered(m, self.enable, f, "f", stages.result - stages.post)
        m.d.comb += [self.term.eq(Mux(self.times[1], product, kept)), self.y.eq(Mux(self.post, product, kept))]
        return self.y
