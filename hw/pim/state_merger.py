"""Merger of attention states: (m, l, O) of two parts of the tokens become those of both."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.exp2 import Exp2
from hw.arith.float_add import FloatAdd
from hw.arith.float_min_max import FloatMinMax
from hw.arith.float_mul import FloatMultiply
from hw.arith.floating import float_layout, unpack
from hw.arith.pipeline import registered
from hw.elements import FP32
from hw.errors import ConfigError
from hw.share import shared

__all__ = ["StateMerger"]

_ONE = 0x3F80_0000
_WORD = 32


class StateMerger(wiring.Component):
    """Merge step of an attention whose tokens are spread over several units.

    m = max(m_a, m_b); o = a·2^(m_a − m) + b·2^(m_b − m), each operation rounded to float32, subnormal numbers kept. `a` and `b`
    are l of the two parts, then their outputs, `lanes` at a time: any number of beats, each with its m_a and m_b. A part that
    has seen nothing has m = −∞ and zeros, and changes nothing; two of those make one.

    Initiation interval 1. NaN where m_a or m_b is.

    Parameters
    ----------
    lanes : int
        Words of `a`, `b` and `o`.

    Members
    -------
    enable : In(1)
        0 holds every register.
    valid : In(1), m_a, m_b, a, b : In
    o_valid : Out(1), m, o : Out
        `latency` cycles with `enable` later.

    Attributes
    ----------
    latency : int

    Raises
    ------
    ConfigError
        If there are no lanes.

    Reference
    ---------
    AMMA (arXiv 2604.26103) merges in the datapath of its reduce-scatter, AttAcc (ASPLOS 2024) and PIMphony (HPCA 2026) across
    channels. How we differ: powers of two instead of e, as everywhere here.
    """

    def __init__(self, *, lanes: int):
        if lanes < 1:
            raise ConfigError(f"StateMerger.lanes must be at least 1, not {lanes!r}")
        self._lanes = lanes
        self._powers = [Exp2(fmt=FP32, subnormals=True) for _ in "ab"]
        self._products = [[FloatMultiply(fmt=FP32, subnormals=True) for _ in range(lanes)] for _ in "ab"]
        self.weight_latency = FloatMinMax.latency + FloatAdd.latency + self._powers[0].latency
        self.latency = self.weight_latency + self._products[0][0].latency + FloatAdd.latency
        words = data.ArrayLayout(_WORD, lanes)
        super().__init__({"enable": In(1, init=1), "valid": In(1), "m_a": In(_WORD), "m_b": In(_WORD), "a": In(words),
                          "b": In(words), "o_valid": Out(1), "m": Out(_WORD), "o": Out(words)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        on = self.enable
        m.submodules.maximum = maximum = FloatMinMax(fmt=FP32, subnormals=True)
        high = Value.cast(maximum.high)
        m.d.comb += [maximum.enable.eq(on), Value.cast(maximum.a).eq(self.m_a), Value.cast(maximum.b).eq(self.m_b)]
        for side, (name, top, words) in enumerate((("a", self.m_a, self.a), ("b", self.m_b, self.b))):
            top = registered(m, on, top, f"m_{name}", FloatMinMax.latency)
            weight = self._weight(m, platform, name, top, high, self._powers[side])
            late = registered(m, on, words, f"words_{name}", self.weight_latency)
            for lane, node in enumerate(self._products[side]):
                m.submodules[f"product_{name}_{lane}"] = shared(platform, "pim_product_float32", node)
                m.d.comb += [node.enable.eq(on), Value.cast(node.a).eq(late.word_select(lane, _WORD)),
                             Value.cast(node.b).eq(weight)]
        for lane in range(self._lanes):
            node = FloatAdd(fmt=FP32, subnormals=True)
            m.submodules[f"sum_{lane}"] = shared(platform, "pim_adder_float32", node)
            m.d.comb += [node.enable.eq(on), Value.cast(node.a).eq(Value.cast(self._products[0][lane].o)),
                         Value.cast(node.b).eq(Value.cast(self._products[1][lane].o)), self.o[lane].eq(Value.cast(node.o))]
        valid = self.valid
        for stage in range(self.latency):
            later = Signal(name=f"valid_{stage}")
            with m.If(on):
                m.d.sync += later.eq(valid)
            valid = later
        m.d.comb += [self.o_valid.eq(valid), self.m.eq(registered(m, on, high, "m", self.latency - FloatMinMax.latency))]
        return m

    def _weight(self, m: Module, platform: Any, name: str, top: Value, high: Value, power: Exp2) -> Value:
        """Return 2^(top − high), one where they are equal, infinities too."""
        on = self.enable
        difference = FloatAdd(fmt=FP32, subnormals=True)
        m.submodules[f"difference_{name}"] = shared(platform, "pim_adder_float32", difference)
        m.submodules[f"power_{name}"] = shared(platform, "pim_power_float32", power)
        as_float = Signal(float_layout(FP32), name=f"top_{name}")
        m.d.comb += [
            Value.cast(as_float).eq(top), difference.enable.eq(on), Value.cast(difference.a).eq(top),
            Value.cast(difference.b).eq(high), difference.subtract.eq(1), power.enable.eq(on), power.i.eq(difference.o),
        ]
        same = (top == high) & ~unpack(FP32, as_float, subnormals=True).nan
        is_one = registered(m, on, same, f"same_{name}", FloatAdd.latency + power.latency)
        return Mux(is_one, C(_ONE, _WORD), Value.cast(power.o))
