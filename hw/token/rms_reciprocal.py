"""RMS norm beside a stream: the reciprocal of a token's root mean square, ready shortly after its last element."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.float_fma import FloatFma
from hw.arith.floating import float_layout
from hw.arith.int_to_float import IntToFloat
from hw.arith.rsqrt import Rsqrt
from hw.config import ceil_log2
from hw.elements import FP32
from hw.errors import ConfigError

__all__ = ["RmsReciprocal"]


class RmsReciprocal(wiring.Component):
    """o = 1 / √(Σ x² · factor + epsilon) of each token's integers, taken as they are written somewhere else, and their amax.

    The norm's weights being folded into the next matrix, this one number for a token is all that is left of the norm; it goes
    into the output scale of that matrix, which may start before it is known. Of x = s · integer with D of them, factor = s² / D.

    Takes `lanes` integers a cycle, tokens back to back, initiation interval 1. From a token's last integers to its result
    `latency` cycles. Sums are exact, then float32: rounded once, one fused multiply-add, one reciprocal square root.

    Parameters
    ----------
    lanes : int
        Integers a cycle, at least 1.
    width : int
        Bits of an integer, 2 to 32.
    longest : int
        Most integers of a token.

    Members
    -------
    valid : In(1), x : In(lanes × signed(width)), last : In(1)
        Integers of a token, and whether they are its last; lanes without one are zero.
    factor, epsilon : In(float32)
        Steady from a token's last integers until its result.
    o_valid : Out(1), o : Out(float32), amax : Out(width)
        A result, for one cycle.

    Attributes
    ----------
    latency : int

    Raises
    ------
    ConfigError
        If a parameter is impossible.

    Reference
    ---------
    HSA, arXiv 2507.09010, names a dedicated unit. Inferred: everything else. (A table of 64 entries with one Newton step would
    err by 2.0e-4, this errs by units in the last place of float32.)
    """

    def __init__(self, *, lanes: int, width: int, longest: int):
        for name, value, low, high in (("lanes", lanes, 1, 256), ("width", width, 2, 32), ("longest", longest, 1, 1 << 20)):
            if not low <= value <= high:
                raise ConfigError(f"RmsReciprocal.{name} must be between {low} and {high}, not {value!r}")
        self._lanes, self._width = lanes, width
        self._sum_width = 2 * (width - 1) + ceil_log2(longest + 1) + 1          # with a sign bit, for the conversion
        self._steps = (IntToFloat(width=self._sum_width, fmt=FP32), FloatFma(fmt=FP32), Rsqrt(fmt=FP32))
        self.latency = 2 + sum(step.latency for step in self._steps)
        super().__init__({
            "valid": In(1),
            "x": In(data.ArrayLayout(signed(width), lanes)),
            "last": In(1),
            "factor": In(float_layout(FP32)),
            "epsilon": In(float_layout(FP32)),
            "o_valid": Out(1),
            "o": Out(float_layout(FP32)),
            "amax": Out(width),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.convert, m.submodules.scale, m.submodules.root = self._steps
        convert, scale, root = self._steps

        # Squares of a cycle, then the token's sum; the first of a token starts anew.
        squares = Signal(self._sum_width - 1, reset_less=True)
        largest = Signal(self._width, reset_less=True)
        taken, ends = Signal(), Signal()
        magnitudes = [Signal(self._width, name=f"magnitude_{lane}") for lane in range(self._lanes)]
        m.d.comb += [magnitude.eq(abs(self.x[lane])) for lane, magnitude in enumerate(magnitudes)]
        m.d.sync += [taken.eq(self.valid), ends.eq(self.valid & self.last),
                     squares.eq(sum(magnitude * magnitude for magnitude in magnitudes)), largest.eq(_largest(magnitudes))]

        inside, done = Signal(), Signal()
        total, amax = Signal(self._sum_width - 1, reset_less=True), Signal(self._width, reset_less=True)
        m.d.sync += done.eq(ends)
        with m.If(taken):
            m.d.sync += [inside.eq(~ends), total.eq(squares + Mux(inside, total, 0)),
                         amax.eq(_largest([largest, Mux(inside, amax, 0)]))]

        steps = [(convert.i, total), (scale.a, convert.o), (scale.b, self.factor), (scale.c, self.epsilon), (root.i, scale.o)]
        m.d.comb += [to.eq(value) for to, value in steps]
        m.d.comb += [step.enable.eq(1) for step in self._steps]

        after = sum(step.latency for step in self._steps)
        valid: Value = done
        for stage in range(after):
            held, held_amax = Signal(name=f"valid_{stage}"), Signal(self._width, name=f"amax_{stage}", reset_less=True)
            m.d.sync += [held.eq(valid), held_amax.eq(amax)]
            valid, amax = held, held_amax
        m.d.comb += [self.o_valid.eq(valid), self.o.eq(root.o), self.amax.eq(amax)]
        return m


def _largest(values: list[Any]) -> Value:
    """Return the largest of unsigned values."""
    while len(values) > 1:
        pairs = [Mux(a > b, a, b) for a, b in zip(values[::2], values[1::2], strict=False)]
        values = pairs + values[len(pairs) * 2:]
    found: Value = values[0]
    return found
