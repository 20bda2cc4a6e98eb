"""Sum of a row of float32 words that comes in slices, in the order of additions that golden models know."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.arith.float_add import FloatAdd
from hw.elements import FP32
from hw.errors import ConfigError
from hw.share import shared

__all__ = ["SliceSum"]

_WORD = 32
_PARTS = 8                  # running sums; more than an addition has cycles
# Cycle of the merge in which two running sums are added, the second into the first: neighbours, pairs, halves.
_MERGE = {0: (0, 1), 1: (2, 3), 2: (4, 5), 3: (6, 7), 8: (0, 2), 10: (4, 6), 17: (0, 4)}
_MERGED = 24


class SliceSum(wiring.Component):
    """Adds up slices: the words of a slice neighbours first, slice s into running sum s mod 8, those likewise, `seed` last.

    Every addition is rounded to float32. A slice a cycle; the sum is there `latency` cycles after the last slice. The next row
    begins after that.

    Parameters
    ----------
    lanes : int
        Words of a slice, a power of two; words that are missing are +0.

    Members
    -------
    i : In({valid: 1, last: 1, data: lanes × 32})
    seed : In(32)
        What the sum is added to; it counts when the rest is added up.
    done : Out(1), o : Out(32)
        The sum, in this cycle.

    Attributes
    ----------
    latency : int

    Raises
    ------
    ConfigError
        If `lanes` is no power of two.
    """

    def __init__(self, *, lanes: int):
        if lanes < 1 or lanes & (lanes - 1):
            raise ConfigError(f"SliceSum.lanes must be a power of two, not {lanes!r}")
        self._lanes = lanes
        self.latency = FloatAdd.latency * ceil_log2(lanes) + FloatAdd.latency + 1 + _MERGED + FloatAdd.latency
        super().__init__({
            "i": In(wiring.Signature({"valid": Out(1), "last": Out(1), "data": Out(data.ArrayLayout(_WORD, lanes))})),
            "seed": In(_WORD), "done": Out(1), "o": Out(_WORD),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        def added(name: str, a: Value, b: Value) -> Value:
            m.submodules[name] = shared(platform, "pim_adder_float32", adder := FloatAdd(fmt=FP32, subnormals=True))
            m.d.comb += [adder.enable.eq(1), Value.cast(adder.a).eq(a), Value.cast(adder.b).eq(b)]
            return Value.cast(adder.o)

        def later(value: Value, cycles: int, name: str) -> Value:
            for stage in range(cycles):             # a reset takes back what is on its way
                register = Signal(len(value), name=f"{name}_{stage}")
                m.d.sync += register.eq(value)
                value = register
            return value

        level, flags, depth = [self.i.data[n] for n in range(self._lanes)], Cat(self.i.valid, self.i.last), 0
        while len(level) > 1:
            level = [added(f"tree_{depth}_{n // 2}", level[n], level[n + 1]) for n in range(0, len(level), 2)]
            flags, depth = later(flags, FloatAdd.latency, f"level_{depth}"), depth + 1

        parts = Array(Signal(_WORD, name=f"part_{n}") for n in range(_PARTS))
        slot, counter = Signal(range(_PARTS)), Signal(range(_MERGED + FloatAdd.latency + 1))
        adds, into, a, b = Signal(), Signal(range(_PARTS)), Signal(_WORD), Signal(_WORD)
        m.d.comb += self.o.eq(added("running", a, b))
        landing = later(Cat(adds, into), FloatAdd.latency, "landing")
        last_landed = later(flags[0] & flags[1], FloatAdd.latency, "last_landed")
        with m.If(landing[0]):
            m.d.sync += parts[landing[1:]].eq(self.o)
        with m.If(flags[0]):
            m.d.comb += [adds.eq(1), into.eq(slot), a.eq(parts[slot]), b.eq(level[0])]
            m.d.sync += slot.eq(slot + 1)
        with m.FSM(name="sum"):
            with m.State("gather"):
                m.d.sync += counter.eq(0)
                with m.If(last_landed):
                    m.next = "merge"
            with m.State("merge"):
                m.d.sync += counter.eq(counter + 1)
                for cycle, (first, second) in _MERGE.items():
                    with m.If(counter == cycle):
                        m.d.comb += [adds.eq(1), into.eq(first), a.eq(parts[first]), b.eq(parts[second])]
                with m.If(counter == _MERGED):
                    m.d.comb += [a.eq(self.seed), b.eq(parts[0])]
                with m.If(counter == _MERGED + FloatAdd.latency):
                    m.d.comb += self.done.eq(1)
                    m.d.sync += [slot.eq(0), *(part.eq(0) for part in parts)]
                    m.next = "gather"
        return m
