"""The float32 blocks that the vector unit has many of, each emitted once."""

from typing import Any

from amaranth import *

from hw.arith.float_add import FloatAdd
from hw.arith.float_min_max import FloatMinMax
from hw.arith.float_mul import FloatMultiply
from hw.elements import FP32
from hw.share import shared

__all__ = ["ADD_LATENCY", "MAXIMUM_LATENCY", "added", "greater", "multiplied", "multiply_latency"]

ADD_LATENCY, MAXIMUM_LATENCY = FloatAdd.latency, FloatMinMax.latency


def multiply_latency(*, subnormals: bool) -> int:
    """Return the cycles of `multiplied`."""
    return 4 + subnormals


def added(m: Module, platform: Any, enable: Value, a: Value, b: Value, name: str) -> Value:
    """Return a + b, `ADD_LATENCY` cycles with `enable` high later; the adder is submodule `name`."""
    return _wired(m, platform, enable, a, b, name, "float32_add", FloatAdd(fmt=FP32, subnormals=True))


def greater(m: Module, platform: Any, enable: Value, a: Value, b: Value, name: str) -> Value:
    """Return the maximum, NaN if either is, `MAXIMUM_LATENCY` cycles later."""
    block = FloatMinMax(fmt=FP32, subnormals=True)
    return _wired(m, platform, enable, a, b, name, "float32_min_max", block, block.high)


def multiplied(m: Module, platform: Any, enable: Value, a: Value, b: Value, name: str, *, subnormals: bool) -> Value:
    """Return a · b, `multiply_latency` cycles later; without `subnormals` those are zeros."""
    block = FloatMultiply(fmt=FP32, subnormals=subnormals, pipelined=True)
    assert block.latency == multiply_latency(subnormals=subnormals)
    return _wired(m, platform, enable, a, b, name, f"float32_multiply{'' if subnormals else '_flushed'}", block)


def _wired(m: Module, platform: Any, enable: Value, a: Value, b: Value, name: str, module: str, block: Any,
           output: Any = None) -> Value:
    m.submodules[name] = shared(platform, module, block)
    m.d.comb += [block.enable.eq(enable), Value.cast(block.a).eq(a), Value.cast(block.b).eq(b)]
    return Value.cast(block.o if output is None else output)
