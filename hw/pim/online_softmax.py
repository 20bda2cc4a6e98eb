"""Softmax of one query row: a block of scores becomes weights, and moves (m, l); or all scores at once."""

from typing import Any

from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.arith.exp2 import Exp2
from hw.arith.float_add import FloatAdd
from hw.arith.float_convert import FloatConvert
from hw.arith.float_min_max import FloatMinMax
from hw.arith.float_mul import FloatMultiply
from hw.arith.floating import float_layout, unpack
from hw.arith.pipeline import registered
from hw.arith.reciprocal import Reciprocal
from hw.elements import FP32, FloatFormat
from hw.errors import ConfigError

__all__ = ["OnlineSoftmax"]

_WORD = 32
_ONE = 0x3F80_0000
_PARTS = 8                  # running sums; more than an addition has cycles
# Cycle of the merge in which two running sums are added, the second into the first: neighbours, pairs, halves.
_MERGE = {0: (0, 1), 1: (2, 3), 2: (4, 5), 3: (6, 7), 10: (0, 2), 11: (4, 6), 18: (0, 4)}
_MERGED = 25


class OnlineSoftmax(wiring.Component):
    """Step of the online softmax of one row.

    Scores s are in powers of two. m' = max(m, max s), α = 2^(m − m'), p = 2^(s − m') rounded to `weight`, l' = l·α + Σp, of the
    rounded p; float32, each operation rounded. Weight i goes to running sum i mod 8, those are merged neighbours first.

    Of a block of n scores, `done` comes 2·n + `overhead` cycles after `start`; weights leave one a cycle, α with `done`.

    With `combine` the block is all there is: m = max s, l = Σ 2^(s − m), of powers as they are, and p = 2^(s − m) · 1/l, rounded
    to `weight`. That is a third pass, over the powers, which have taken the scores' place: 3·n + `overhead` + `combine_overhead`
    cycles.

    Parameters
    ----------
    scores : int
        Most that a block has.
    weight : FloatFormat
        Of the weights.

    Members
    -------
    write : In({valid: 1, at, data: 32})
        Put a score into the block; not while busy.
    start : In(1), count : In, m_old, l_old : In(32), combine : In(1)
        Begin, with so many scores, at least one; these hold until `done`. With `combine` m_old is −∞, l_old zero.
    weight : Out({valid: 1, at, data})
    done : Out(1), m, l, alpha : Out(32)
        All is there, until the next start.
    busy : Out(1)
    inverse : Out(32)
        1 / l_old, `inverse_latency` cycles later, while not busy.

    Attributes
    ----------
    overhead, combine_overhead, inverse_latency : int
        Cycles beside two for each score; beside the third.

    Raises
    ------
    ConfigError
        If a block has no scores.

    Reference --------- Milakov and Gimelshein, Online normalizer calculation for softmax, arXiv 1805.02867; AttAcc (ASPLOS
    2024) has a unit with three stages instead. How we differ: powers of two, and l adds up the weights as they are rounded.
    """

    def __init__(self, *, scores: int, weight: FloatFormat):
        if scores < 1:
            raise ConfigError(f"OnlineSoftmax.scores must be at least 1, not {scores!r}")
        self._scores = scores
        self._power, self._product = Exp2(fmt=FP32, subnormals=True), FloatMultiply(fmt=FP32, subnormals=True)
        self._round = FloatConvert(source=FP32, target=weight)
        self._widen = FloatConvert(source=weight, target=FP32)
        self._inverse = Reciprocal(fmt=FP32, subnormals=True)
        self._to_power = FloatAdd.latency + self._power.latency             # from a score to its power
        self._to_sum = self._to_power + self._round.latency + self._widen.latency
        tail = 1 + self._to_sum + FloatAdd.latency + 1                      # from the last score to its running sum
        self.overhead = 3 + tail + _MERGED + FloatAdd.latency
        self._tail = tail
        self.inverse_latency = self._inverse.latency
        self._to_weight = self._product.latency + self._round.latency       # from a power, read, to its weight
        self.combine_overhead = self.inverse_latency + self._to_weight + 2
        at = ceil_log2(scores)
        super().__init__({
            "write": In(wiring.Signature({"valid": Out(1), "at": Out(at), "data": Out(_WORD)})),
            "start": In(1), "count": In(range(scores + 1)), "m_old": In(_WORD), "l_old": In(_WORD), "combine": In(1),
            "weight": Out(wiring.Signature({"valid": Out(1), "at": Out(at), "data": Out(weight.bits)})),
            "done": Out(1), "m": Out(_WORD), "l": Out(_WORD), "alpha": Out(_WORD), "busy": Out(1),
            "inverse": Out(_WORD),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        on = C(1)
        m.submodules.buffer = buffer = memory.Memory(shape=_WORD, depth=self._scores, init=[], attrs={"ram_style": "block"})
        write, read = buffer.write_port(), buffer.read_port()
        m.submodules.maximum = maximum = FloatMinMax(fmt=FP32, subnormals=True)
        m.submodules.difference = difference = FloatAdd(fmt=FP32, subnormals=True)
        m.submodules.adder = adder = FloatAdd(fmt=FP32, subnormals=True)
        m.submodules.power, m.submodules.product = self._power, self._product
        m.submodules.round, m.submodules.widen, m.submodules.inverse = self._round, self._widen, self._inverse
        at = Signal(range(self._scores + 1))
        counter = Signal(range(max(self._tail, _MERGED, self._to_weight, self.inverse_latency) + 2))
        top = Value.cast(maximum.high)
        comparing, first = Signal(), Signal()
        feeding, is_alpha, place = Signal(), Signal(), Signal.like(self.write.at)
        m.d.comb += [
            read.en.eq(1), self._inverse.enable.eq(1),
            Value.cast(self._inverse.i).eq(Mux(self.busy, self.l, self.l_old)), self.inverse.eq(Value.cast(self._inverse.o)),
            # The maximum holds its output from one score to the next.
            maximum.enable.eq(comparing), Value.cast(maximum.a).eq(Mux(first, self.m_old, top)),
            Value.cast(maximum.b).eq(read.data), self.m.eq(top),
        ]

        # Powers: α first, then the weights.
        operand = Mux(is_alpha, self.m_old, read.data)
        as_float = Signal(float_layout(FP32))
        same = (operand == top) & ~unpack(FP32, as_float, subnormals=True).nan
        m.d.comb += [
            Value.cast(as_float).eq(operand), difference.enable.eq(1), Value.cast(difference.a).eq(operand),
            Value.cast(difference.b).eq(top), difference.subtract.eq(1), self._power.enable.eq(1),
            self._power.i.eq(difference.o), self._round.enable.eq(1), self._widen.enable.eq(1),
            self._widen.i.eq(self._round.o), adder.enable.eq(1),
        ]
        equal = registered(m, on, same, "equal", self._to_power)
        power = Mux(equal, C(_ONE, _WORD), Value.cast(self._power.o))
        third, scaling = Signal(), Signal()                     # the third pass; a power is read in it
        scaled = registered(m, on, Cat(scaling, place), "scaled", self._to_weight)
        m.d.comb += Value.cast(self._round.i).eq(Mux(self.combine, Value.cast(self._product.o), power))
        flags = Cat(feeding, is_alpha, place)
        stages: list[Signal] = []
        for stage in range(self._to_sum):
            later = Signal(len(flags), name=f"element_{stage}")
            m.d.sync += later.eq(flags if not stages else stages[-1])
            stages.append(later)
        powered, rounded, widened = (stages[n - 1] for n in (self._to_power, self._to_power + self._round.latency, self._to_sum))
        with m.If(powered[0] & powered[1]):
            m.d.sync += self.alpha.eq(power)
        m.d.comb += [self.weight.valid.eq(Mux(self.combine, scaled[0] & third, rounded[0] & ~rounded[1])),
                     self.weight.at.eq(Mux(self.combine, scaled[1:], rounded[2:])),
                     self.weight.data.eq(Value.cast(self._round.o)),
                     self._product.enable.eq(1), Value.cast(self._product.a).eq(Mux(third, read.data, self.l_old)),
                     Value.cast(self._product.b).eq(Mux(third, Value.cast(self._inverse.o), self.alpha)),
                     write.addr.eq(Mux(self.busy, powered[2:], self.write.at)),
                     write.data.eq(Mux(self.busy, power, self.write.data)),
                     write.en.eq(Mux(self.busy, self.combine & powered[0] & ~powered[1], self.write.valid))]

        # Running sums.
        parts = Array(Signal(_WORD, name=f"part_{n}") for n in range(_PARTS))
        low = Signal(range(_PARTS))
        adds, into = Signal(), Signal(range(_PARTS))
        whole = registered(m, on, power, "whole", self._to_sum - self._to_power)
        m.d.comb += low.eq(Cat(widened[2:], C(0, 3))[:3])
        with m.If(widened[0] & ~widened[1]):
            m.d.comb += [adds.eq(1), into.eq(low), Value.cast(adder.a).eq(parts[low]),
                         Value.cast(adder.b).eq(Mux(self.combine, whole, Value.cast(self._widen.o)))]
        landing = Cat(adds, into)
        for stage in range(FloatAdd.latency):
            later = Signal(len(landing), name=f"landing_{stage}")
            m.d.sync += later.eq(landing)
            landing = later
        with m.If(landing[0]):
            m.d.sync += parts[landing[1:]].eq(Value.cast(adder.o))

        m.d.sync += [comparing.eq(0), first.eq(0), feeding.eq(0), is_alpha.eq(0), scaling.eq(0)]
        with m.FSM(name="softmax") as machine:
            with m.State("rest"):
                with m.If(self.start):
                    m.d.sync += [at.eq(0), third.eq(0), *(part.eq(0) for part in parts)]
                    m.next = "maximum"
            with m.State("maximum"):
                m.d.comb += read.addr.eq(at)
                m.d.sync += [comparing.eq(1), first.eq(at == 0), at.eq(at + 1)]
                with m.If(at == self.count - 1):
                    m.d.sync += at.eq(0)
                    m.next = "settle"
            with m.State("settle"):             # the last score is compared
                m.d.sync += [feeding.eq(1), is_alpha.eq(1)]
                m.next = "weights"
            with m.State("weights"):
                m.d.comb += read.addr.eq(at)
                m.d.sync += [feeding.eq(1), place.eq(at), at.eq(at + 1)]
                with m.If(at == self.count - 1):
                    m.d.sync += counter.eq(0)
                    m.next = "drain"
            with m.State("drain"):
                m.d.sync += counter.eq(counter + 1)
                with m.If(counter == self._tail):
                    m.d.sync += counter.eq(0)
                    m.next = "merge"
            with m.State("merge"):
                m.d.sync += counter.eq(counter + 1)
                for cycle, (a, b) in _MERGE.items():
                    with m.If(counter == cycle):
                        m.d.comb += [adds.eq(1), into.eq(a), Value.cast(adder.a).eq(parts[a]), Value.cast(adder.b).eq(parts[b])]
                with m.If(counter == _MERGED):
                    m.d.comb += [Value.cast(adder.a).eq(Value.cast(self._product.o)), Value.cast(adder.b).eq(parts[0])]
                    m.d.sync += counter.eq(0)
                    m.next = "finish"
            with m.State("finish"):
                m.d.sync += counter.eq(counter + 1)
                with m.If(counter == FloatAdd.latency - 1):
                    m.d.sync += [self.l.eq(Value.cast(adder.o)), counter.eq(0)]
                    with m.If(self.combine):
                        m.next = "invert"
                    with m.Else():
                        m.d.comb += self.done.eq(1)
                        m.next = "rest"
            with m.State("invert"):
                m.d.sync += [counter.eq(counter + 1), at.eq(0)]
                with m.If(counter == self.inverse_latency):
                    m.d.sync += third.eq(1)
                    m.next = "scale"
            with m.State("scale"):
                m.d.comb += read.addr.eq(at)
                m.d.sync += [scaling.eq(1), place.eq(at), at.eq(at + 1), counter.eq(0)]
                with m.If(at == self.count - 1):
                    m.next = "round"
            with m.State("round"):
                m.d.sync += counter.eq(counter + 1)
                with m.If(counter == self._to_weight):
                    m.d.comb += self.done.eq(1)
                    m.next = "rest"
            m.d.comb += self.busy.eq(~machine.ongoing("rest"))
        return m
