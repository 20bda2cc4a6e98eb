# amaranth: UnusedElaboratable=no
"""Every pipeline in Amaranth's own simulator: its latency, held by `enable` at random, and formats that it refuses."""

import numpy as np
import pytest

from hw.arith.distribution import Distribution
from hw.arith.exp2 import Exp2
from hw.arith.exp2_distribution import Exp2Distribution
from hw.arith.exp2_fixed import Exp2Fixed
from hw.arith.float_accumulate import FloatAccumulate
from hw.arith.float_add import FloatAdd
from hw.arith.float_compare import FloatCompare
from hw.arith.float_convert import FloatConvert
from hw.arith.float_fma import FloatFma
from hw.arith.float_min_max import FloatMinMax
from hw.arith.float_mul import FloatMultiply
from hw.arith.float_normalize import FloatNormalize
from hw.arith.float_scale import FloatScale
from hw.arith.float_to_int import FloatToInt
from hw.arith.int_to_float import IntToFloat
from hw.arith.reciprocal import Reciprocal
from hw.arith.rsqrt import Rsqrt
from hw.elements import BF16, ELEMENTS, FP16, FP32, FloatFormat
from hw.errors import ConfigError
from sw.golden.arith import accumulation, comparison, floating, functions
from tb.arith.pipeline import run_pipeline
from tb.arith.words import operands

COUNT = 150
UNSIGNED = ELEMENTS["float6_e3m3u"]
WITHOUT_ZERO = ELEMENTS["float8_e8m0fnu"]
BINARY64 = FloatFormat(name="float64", exponent_bits=11, mantissa_bits=52)


def words(fmt: FloatFormat, ways: int) -> list[np.ndarray]:
    """Return some operands of all kinds, and mostly ordinary ones."""
    columns = operands(fmt, ways, 3000, 8)
    chosen = np.random.default_rng(8).permutation(columns[0].size)[:COUNT]
    return [column[chosen] for column in columns]


A16, B16, C16 = words(FP16, 3)
(X32,) = words(FP32, 1)
N = np.random.default_rng(1).integers(-8, 8, COUNT)
INTEGERS = np.random.default_rng(2).integers(-1 << 15, 1 << 15, COUNT)
FIRST = np.arange(COUNT) % 11 == 0

PIPELINES = {
    "add": (lambda: FloatAdd(fmt=FP16, subnormals=True), "o", {"a": A16, "b": B16, "subtract": N & 1},
            np.where(N & 1, floating.float_sub(FP16, A16, B16, subnormals=True),
                     floating.float_add(FP16, A16, B16, subnormals=True))),
    "multiply": (lambda: FloatMultiply(fmt=FP16, subnormals=True), "o", {"a": A16, "b": B16},
                 floating.float_mul(FP16, A16, B16, subnormals=True)),
    "multiply flushed": (lambda: FloatMultiply(fmt=FP16), "o", {"a": A16, "b": B16}, floating.float_mul(FP16, A16, B16)),
    "fma": (lambda: FloatFma(fmt=FP16), "o", {"a": A16, "b": B16, "c": C16}, floating.float_fma(FP16, A16, B16, C16)),
    "convert": (lambda: FloatConvert(source=FP32, target=BF16), "o", {"i": X32}, floating.float_convert(FP32, BF16, X32)),
    "less": (lambda: FloatCompare(fmt=FP16), "less", {"a": A16, "b": B16}, comparison.float_compare(FP16, A16, B16)[0]),
    "low": (lambda: FloatMinMax(fmt=FP16), "low", {"a": A16, "b": B16}, comparison.float_min(FP16, A16, B16)),
    "scale": (lambda: FloatScale(fmt=FP16, exponent_width=4, subnormals=True), "o", {"i": A16, "n": N},
              floating.float_scale(FP16, A16, N, subnormals=True)),
    "accumulate": (lambda: FloatAccumulate(fmt=FP16, width=48, fraction_bits=24), "o", {"i": A16, "first": FIRST},
                   accumulation.float_accumulate(FP16, A16, FIRST, width=48, fraction_bits=24)),
    "int to float": (lambda: IntToFloat(width=16, fmt=BF16, fraction_bits=4), "o", {"i": INTEGERS},
                     floating.int_to_float(BF16, INTEGERS, fraction_bits=4)),
    "float to int": (lambda: FloatToInt(width=16, fmt=FP16, fraction_bits=6), "o", {"i": A16},
                     floating.float_to_int(FP16, 16, A16, fraction_bits=6) & 0xFFFF),
    "exp2": (lambda: Exp2(fmt=FP32), "o", {"i": X32}, functions.exp2(FP32, X32)),
    "reciprocal": (lambda: Reciprocal(fmt=FP16, subnormals=True), "o", {"i": A16},
                   functions.reciprocal(FP16, A16, subnormals=True)),
    "rsqrt": (lambda: Rsqrt(fmt=FP16, subnormals=True), "o", {"i": A16}, functions.rsqrt(FP16, A16, subnormals=True)),
    "distribution": (lambda: Distribution(fmt=FP16), "o", {"i": A16, "select": N & 1},
                     np.where(N & 1, functions.normal(FP16, A16), functions.sigmoid(FP16, A16))),
    "exp2 distribution": (
        lambda: Exp2Distribution(fmt=FP32), "o", {"i": X32, "distribution": N >> 1 & 1, "normal": N & 1},
        np.where(N & 2, np.where(N & 1, functions.normal(FP32, X32), functions.sigmoid(FP32, X32)),
                 functions.exp2(FP32, X32, subnormals=True))),
}


@pytest.mark.parametrize("stall", [0.0, 0.3])
@pytest.mark.parametrize("name", PIPELINES)
def test_latency_and_stalls(name, stall):
    build, output, ports, expected = PIPELINES[name]
    got = run_pipeline(build(), {port: column.tolist() for port, column in ports.items()}, output=output, stall=stall, seed=3)
    assert got == expected.tolist()
    assert len(set(got)) > 1


@pytest.mark.parametrize(("parameter", "build"), [
    ("FloatAdd.fmt", lambda fmt: FloatAdd(fmt=fmt)), ("FloatMultiply.fmt", lambda fmt: FloatMultiply(fmt=fmt)),
    ("FloatFma.fmt", lambda fmt: FloatFma(fmt=fmt)), ("FloatConvert.source", lambda fmt: FloatConvert(source=fmt, target=FP32)),
    ("FloatConvert.target", lambda fmt: FloatConvert(source=FP32, target=fmt)),
    ("FloatCompare.fmt", lambda fmt: FloatCompare(fmt=fmt)),
    ("FloatMinMax.fmt", lambda fmt: FloatMinMax(fmt=fmt)), ("FloatScale.fmt", lambda fmt: FloatScale(fmt=fmt, exponent_width=4)),
    ("FloatAccumulate.fmt", lambda fmt: FloatAccumulate(fmt=fmt, width=32, fraction_bits=4)),
    ("FloatAccumulate.target", lambda fmt: FloatAccumulate(fmt=FP32, target=fmt, width=32, fraction_bits=4)),
    ("FloatNormalize.fmt", lambda fmt: FloatNormalize(fmt=fmt, subnormals=True)),
    ("IntToFloat.fmt", lambda fmt: IntToFloat(width=8, fmt=fmt)), ("FloatToInt.fmt", lambda fmt: FloatToInt(width=8, fmt=fmt)),
    ("Exp2.fmt", lambda fmt: Exp2(fmt=fmt)), ("Exp2Fixed.fmt", lambda fmt: Exp2Fixed(width=8, fraction_bits=2, fmt=fmt)),
    ("Reciprocal.fmt", lambda fmt: Reciprocal(fmt=fmt)), ("Rsqrt.fmt", lambda fmt: Rsqrt(fmt=fmt)),
    ("Distribution.fmt", lambda fmt: Distribution(fmt=fmt)), ("Exp2Distribution.fmt", lambda fmt: Exp2Distribution(fmt=fmt))])
@pytest.mark.parametrize("fmt", [UNSIGNED, WITHOUT_ZERO, BINARY64], ids=lambda fmt: fmt.name)
def test_formats_that_are_not_for_arithmetic(parameter, build, fmt):
    rule = "have a sign, a zero, 1 to 24 mantissa bits and 2 to 8 exponent bits"
    with pytest.raises(ConfigError, match=rf"^{parameter} must {rule}, not '{fmt.name}'$"):
        build(fmt)
