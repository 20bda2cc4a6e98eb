"""Decoder of clustered codes: a programmable table of float16 levels, scaled and shifted into float32."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.floating import float_layout
from hw.arith.half_mul_add import HalfMulAdd
from hw.elements import FP16, FP32
from hw.errors import ConfigError
from hw.families import ClusteredFormat

__all__ = ["ClusteredDecoder"]

_WORD = float_layout(FP16)
_ONE = _WORD.const({"mantissa": 0, "exponent": FP16.bias, "sign": 0})
_MINUS_ZERO = _WORD.const({"mantissa": 0, "exponent": 0, "sign": 1})


class ClusteredDecoder(wiring.Component):
    """Decoder of clustered codes: o = level(code) · half_range + middle, exact and then rounded once; outliers as they are.

    Levels are float16 words in 2^code_bits · 16 registers that all lanes read. Where a lane's `outlier_valid` is set, its
    `outlier` is converted in place of the code (as outlier · 1 + −0, which keeps the sign of a zero). All words must be finite;
    subnormal ones are exact. Latency 6 cycles with `enable` high, initiation interval 1; no reset: the table must be written
    before it is used.

    Parameters
    ----------
    fmt : ClusteredFormat
    lanes : int
        Codes in a cycle, of one block; at least 1. Each costs a `HalfMulAdd` and a 2^code_bits : 1 multiplexer.

    Members
    -------
    enable : In(1)
        0 holds every register but the table.
    write : In({en: 1, index: code_bits, level: `float_layout(FP16)`})
        While `en` is 1, `level` becomes that of code `index`; codes that come in a later cycle see it.
    code : In(array of `lanes` × code_bits)
    half_range, middle : In(`float_layout(FP16)`)
        Of the block that this cycle's codes belong to.
    outlier_valid : In(lanes)
    outlier : In(array of `lanes` × `float_layout(FP16)`)
    o : Out(array of `lanes` × `float_layout(FP32)`)

    Attributes
    ----------
    latency : int
        Cycles from `code` to `o`.

    Raises
    ------
    ConfigError
        If `lanes` is not positive.

    References
    ----------
    Hooper et al., KVQuant, NeurIPS 2024: a table of 4 to 16 float16 levels, times half_range, plus middle, and outliers merged by
    index. The paper's kernels are software; this datapath is ours.
    """

    latency = 1 + HalfMulAdd.latency

    def __init__(self, fmt: ClusteredFormat, lanes: int = 1):
        if lanes < 1:
            raise ConfigError(f"ClusteredDecoder.lanes must be at least 1, not {lanes!r}")
        self._codes = 1 << fmt.code_bits
        self._lanes = lanes
        super().__init__({
            "enable": In(1),
            "write": In(wiring.Signature({"en": Out(1), "index": Out(fmt.code_bits), "level": Out(_WORD)})),
            "code": In(data.ArrayLayout(fmt.code_bits, lanes)),
            "half_range": In(_WORD),
            "middle": In(_WORD),
            "outlier_valid": In(lanes),
            "outlier": In(data.ArrayLayout(_WORD, lanes)),
            "o": Out(data.ArrayLayout(float_layout(FP32), lanes)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        levels = [Signal(_WORD, name=f"level_{code}", reset_less=True) for code in range(self._codes)]
        for code, level in enumerate(levels):
            with m.If(self.write.en & (self.write.index == code)):
                m.d.sync += level.eq(self.write.level)
        table = Array(level.as_value() for level in levels)
        for index in range(self._lanes):
            m.submodules[f"mul_add_{index}"] = mul_add = HalfMulAdd()
            a, b, c = (Signal(16, name=f"{name}_{index}", reset_less=True) for name in ("scaled", "scale", "shift"))
            apart = self.outlier_valid[index]
            with m.If(self.enable):
                m.d.sync += [
                    a.eq(Mux(apart, self.outlier[index].as_value(), table[self.code[index]])),
                    b.eq(Mux(apart, _ONE.as_value(), self.half_range.as_value())),
                    c.eq(Mux(apart, _MINUS_ZERO.as_value(), self.middle.as_value())),
                ]
            m.d.comb += [
                mul_add.enable.eq(self.enable),
                mul_add.a.eq(a), mul_add.b.eq(b), mul_add.c.eq(c),
                self.o[index].eq(mul_add.o),
            ]
        return m
