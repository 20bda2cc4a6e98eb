"""Softmax of one query row: a block of scores becomes weights, and moves (m, l); or all scores at once."""

from typing import Any

from amaranth import *
from amaranth.lib import data, memory, wiring
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
from hw.pim.slice_sum import SliceSum
from hw.share import shared

__all__ = ["OnlineSoftmax"]

_WORD = 32
_ONE, _MINUS_INFINITY = 0x3F80_0000, 0xFF80_0000


class OnlineSoftmax(wiring.Component):
    """Step of the online softmax of one row, `lanes` scores in a cycle.

    Scores s are in powers of two. m' = max(m, max s), α = 2^(m − m'), p = 2^(s − m') rounded to `weight`, l' = l·α + Σp, of the
    rounded p; float32, each operation rounded, sums in the order of `SliceSum`. What is as large as m' has the power 1, +∞ too;
    but where m' is −∞ weights are 0, so that l stays 0. A NaN makes all NaN. The maximum of scores is kept while they come.

    Of a block of n scores there are ⌈n / lanes⌉ passes; α is there `alpha_latency` cycles after `start`, the weights passes +
    `weight_latency`, (m, l) passes + `sum_latency`. New scores can come once the weights are there, a new start after (m, l).

    With `combine` the block is all there is: m = max s, l = Σ 2^(s − m), of powers as they are, and p = 2^(s − m) · 1/l, rounded
    to `weight`. That is another series of passes, over the powers, which have taken the scores' place: 2·passes +
    `combine_latency`. 1/l is 0 where l is.

    Parameters
    ----------
    scores : int
        Most that a block has.
    weight : FloatFormat
        Of the weights.
    lanes : int
        Scores in a cycle, a power of two.
    together : int
        Scores that come at once, a power of two of at most `lanes`.

    Members
    -------
    write : In({valid: 1, at, data: together × 32})
        Put scores into the block, the next ones: `at` counts from 0. Not from `start` until `done`.
    drop : In(1)
        Forget the scores that have come.
    start : In(1), count : In, m_old, l_old : In(32), combine : In(1)
        Begin, with so many of the scores that have come, at least one; these hold until `done`. With `combine` m_old is −∞,
        l_old zero.
    weight : Out({valid: 1, at, data: lanes × code})
        Weights of pass `at`; beyond the last one anything.
    scalable : Out(1), done : Out(1), summed : Out(1)
        In this cycle α is there; the last weights are; (m, l) are, but with `combine`.
    m, l, alpha : Out(32)
        From then on, until the next start.
    inverse : Out(32)
        1 / l_old, `inverse_latency` cycles later, while there is no `combine` under way; 0 where l_old is.
    a : In(lanes × 32), b : In(32), enable : In(1), product : Out(lanes × 32)
        The multipliers, which are free but in the cycle of `scalable` and with `combine`: a·b `product_latency` cycles with
        `enable` later; `enable` is low only while a product that was asked for here is on its way.

    Attributes
    ----------
    alpha_latency, weight_latency, sum_latency, combine_latency, inverse_latency, product_latency : int

    Raises
    ------
    ConfigError
        If a block has no scores, or `lanes` or `together` cannot be.

    Reference --------- Milakov and Gimelshein, Online normalizer calculation for softmax, arXiv 1805.02867; AttAcc (ASPLOS
    2024) has a unit with three stages instead. How we differ: powers of two, and l adds up the weights as they are rounded.
    """

    def __init__(self, *, scores: int, weight: FloatFormat, lanes: int = 1, together: int = 1):
        if scores < 1:
            raise ConfigError(f"OnlineSoftmax.scores must be at least 1, not {scores!r}")
        if lanes < 1 or lanes & (lanes - 1):
            raise ConfigError(f"OnlineSoftmax.lanes must be a power of two, not {lanes!r}")
        if together < 1 or together & (together - 1) or together > lanes:
            raise ConfigError(f"OnlineSoftmax.together must be a power of two of at most {lanes}, the lanes, not {together!r}")
        self._scores, self._format, self._lanes, self._together = scores, weight, lanes, together
        self._depth = -(-scores // lanes)
        self._powers = [Exp2(fmt=FP32, subnormals=True) for _ in range(lanes)]
        self._products = [FloatMultiply(fmt=FP32, subnormals=True) for _ in range(lanes)]
        self._rounds = [FloatConvert(source=FP32, target=weight) for _ in range(lanes)]
        self._widens = [FloatConvert(source=weight, target=FP32) for _ in range(lanes)]
        self._sum, self._reciprocal = SliceSum(lanes=lanes), Reciprocal(fmt=FP32, subnormals=True)
        rounding, widening = self._rounds[0].latency, self._widens[0].latency
        to_top = 2 + ceil_log2(together)                                    # from the start to m
        self._to_power = FloatAdd.latency + self._powers[0].latency         # from a score to its power
        self._rounding, self._to_sum = rounding, self._to_power + rounding + widening
        self.product_latency, self.inverse_latency = self._products[0].latency, self._reciprocal.latency
        self.alpha_latency = to_top + self._to_power + 1
        self.weight_latency = to_top + self._to_power + rounding
        self.sum_latency = to_top + self._to_sum + self._sum.latency + 1
        self._to_weight = self.product_latency + rounding                   # from a power, read, to its weight
        self.combine_latency = self.sum_latency + self.inverse_latency + self._to_weight
        words, place = data.ArrayLayout(_WORD, lanes), ceil_log2(self._depth)
        super().__init__({
            "write": In(wiring.Signature({"valid": Out(1), "at": Out(ceil_log2(-(-scores // together))),
                                          "data": Out(data.ArrayLayout(_WORD, together))})),
            "drop": In(1), "start": In(1), "count": In(range(scores + 1)), "m_old": In(_WORD), "l_old": In(_WORD),
            "combine": In(1),
            "weight": Out(wiring.Signature({"valid": Out(1), "at": Out(place),
                                            "data": Out(data.ArrayLayout(weight.bits, lanes))})),
            "scalable": Out(1), "done": Out(1), "summed": Out(1), "m": Out(_WORD), "l": Out(_WORD), "alpha": Out(_WORD),
            "inverse": Out(_WORD), "a": In(words), "b": In(_WORD), "enable": In(1), "product": Out(words),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        lanes, together, on = self._lanes, self._together, C(1)
        m.submodules.buffer = buffer = memory.Memory(shape=data.ArrayLayout(_WORD, lanes), depth=self._depth, init=[],
                                                     attrs={"ram_style": "block"})
        write, read = buffer.write_port(granularity=together), buffer.read_port()
        at, tail, timer = Signal(range(self._depth + 1)), Signal(range(lanes)), Signal(range(self.inverse_latency))
        combining, third, scaling, feeding = Signal(), Signal(), Signal(), Signal()
        last_pass = at == (self.count - 1) >> ceil_log2(lanes)
        fold = _later(m, self.start, 1 + ceil_log2(together), "fold")
        top = self._maximum(m, fold)
        m.d.comb += [read.en.eq(1), read.addr.eq(at), self.m.eq(top)]

        # Powers: α on lane 0, then the scores. `flags`: valid, whether it is α, whether the last, place.
        is_alpha, last, place = Signal(), Signal(), Signal.like(self.weight.at)
        flags: list[Value] = [Cat(feeding | is_alpha, is_alpha, last, place)]
        for stage in range(self._to_sum):
            flags.append(_later(m, flags[-1], 1, f"element_{stage}"))
        powered, rounded, widened = flags[self._to_power], flags[self._to_power + self._rounding], flags[self._to_sum]
        scaled = _later(m, Cat(scaling, last, place), self._to_weight, "scaled")
        nothing = top == _MINUS_INFINITY
        m.d.comb += self._sum.seed.eq(self._carried(m, powered))
        m.submodules.sum = sums = self._sum
        for lane in range(lanes):
            operand = Mux(is_alpha, self.m_old, read.data[lane]) if lane == 0 else read.data[lane]
            forced = Mux(nothing & ~powered[1], 0, C(_ONE, _WORD))
            power = self._power(m, platform, lane, operand, top, forced)
            if lane == 0:
                with m.If(powered[0] & powered[1]):
                    m.d.sync += self.alpha.eq(power)
            product = self._product(m, platform, lane, third, read.data[lane])
            narrow, wide = self._rounds[lane], self._widens[lane]
            m.submodules[f"round_{lane}"] = shared(platform, f"pim_round_{self._format.name}", narrow)
            m.submodules[f"widen_{lane}"] = shared(platform, f"pim_widen_{self._format.name}", wide)
            whole = registered(m, on, power, f"whole_{lane}", self._to_sum - self._to_power)
            inside = ~widened[2] | (lane <= tail) if lane else C(1)         # the first lane is of every pass
            m.d.comb += [
                narrow.enable.eq(1), wide.enable.eq(1), Value.cast(wide.i).eq(Value.cast(narrow.o)),
                Value.cast(narrow.i).eq(Mux(combining, product, power)), self.weight.data[lane].eq(Value.cast(narrow.o)),
                write.data[lane].eq(Mux(combining, power, self.write.data[lane % together])),
                sums.i.data[lane].eq(Mux(inside, Mux(combining, whole, Value.cast(wide.o)), 0)),
            ]
        parts_log2 = ceil_log2(lanes // together)
        m.d.comb += [
            sums.i.valid.eq(widened[0] & ~widened[1]), sums.i.last.eq(widened[2]),
            self.weight.valid.eq(Mux(combining, scaled[0], rounded[0] & ~rounded[1])),
            self.weight.at.eq(Mux(combining, scaled[2:], rounded[3:])),
            self.done.eq(Mux(combining, scaled[0] & scaled[1], rounded[0] & rounded[2])),
            write.addr.eq(Mux(combining, powered[3:], self.write.at >> parts_log2)),
            write.en.eq(Mux(combining, (powered[0] & ~powered[1]).replicate(lanes // together),
                            self.write.valid << (self.write.at & (lanes // together - 1)))),
        ]
        m.d.sync += [feeding.eq(0), scaling.eq(0), last.eq(0), place.eq(at), self.summed.eq(sums.done & ~combining)]
        with m.If(sums.done):
            m.d.sync += self.l.eq(sums.o)
        with m.FSM(name="softmax"):
            with m.State("rest"):
                m.d.sync += [at.eq(0), third.eq(0), timer.eq(0)]
                with m.If(self.start):
                    m.d.sync += [combining.eq(self.combine), tail.eq(self.count - 1)]
                    m.next = "fold"
            with m.State("fold"):
                with m.If(fold):
                    m.next = "weights"
            with m.State("weights"):
                m.d.comb += is_alpha.eq(at == 0)
                m.d.sync += [feeding.eq(1), last.eq(last_pass), at.eq(at + 1)]
                with m.If(last_pass):
                    m.d.sync += at.eq(0)
                    m.next = "leave"
            with m.State("leave"):
                with m.If(Mux(combining, sums.done, self.done)):
                    m.next = "rest"
                    with m.If(combining):
                        m.next = "invert"
            with m.State("invert"):
                m.d.sync += timer.eq(timer + 1)
                with m.If(timer == self.inverse_latency - 1):
                    m.d.sync += third.eq(1)
                    m.next = "scale"
            with m.State("scale"):
                m.d.sync += [scaling.eq(1), last.eq(last_pass), at.eq(at + 1)]
                with m.If(last_pass):
                    m.next = "round"
            with m.State("round"):
                with m.If(self.done):
                    m.d.sync += combining.eq(0)
                    m.next = "rest"
        inverse, divisor = self._reciprocal, Signal(_WORD)
        m.submodules.inverse = shared(platform, "pim_reciprocal_float32", inverse)
        m.d.comb += [divisor.eq(Mux(combining, self.l, self.l_old)), inverse.enable.eq(1), Value.cast(inverse.i).eq(divisor),
                     self.inverse.eq(Mux(divisor[:-1] == 0, 0, Value.cast(inverse.o)))]
        return m

    def _maximum(self, m: Module, fold: Value) -> Value:
        """Keep the maximum of what comes, but for the last scores, which `count` may cut; return m' from the start on."""
        came, first, on = Signal(), Signal(init=1), C(1)
        newest = Signal(data.ArrayLayout(_WORD, self._together))
        with m.If(self.write.valid):
            m.d.sync += [newest.eq(self.write.data), came.eq(1), first.eq(first & ~came)]
        with m.If(self.start | self.drop):
            m.d.sync += [came.eq(0), first.eq(1)]
        level = []
        for lane in range(self._together):
            inside = lane <= (self.count - 1)[:ceil_log2(self._together)] if lane else on
            level.append(_greater(m, f"kept_{lane}", (self.write.valid & came) | self.start, None, first,
                                  Mux(self.start & ~inside, _MINUS_INFINITY, newest[lane])))
        depth = 0
        while len(level) > 1:
            level = [_greater(m, f"tree_{depth}_{n // 2}", on, level[n], C(0), level[n + 1]) for n in range(0, len(level), 2)]
            depth += 1
        return _greater(m, "top", fold, self.m_old, C(0), level[0])

    def _power(self, m: Module, platform: Any, lane: int, operand: Value, top: Value, forced: Value) -> Value:
        """Return 2^(operand − top); `forced` where they are equal, infinities too."""
        difference, power = FloatAdd(fmt=FP32, subnormals=True), self._powers[lane]
        m.submodules[f"argument_{lane}"] = shared(platform, "pim_adder_float32", difference)
        m.submodules[f"power_{lane}"] = shared(platform, "pim_power_float32", power)
        as_float = Signal(float_layout(FP32), name=f"operand_{lane}")
        m.d.comb += [
            Value.cast(as_float).eq(operand), difference.enable.eq(1), Value.cast(difference.a).eq(operand),
            Value.cast(difference.b).eq(top), difference.subtract.eq(1), power.enable.eq(1),
            Value.cast(power.i).eq(Value.cast(difference.o)),
        ]
        same = (operand == top) & ~unpack(FP32, as_float, subnormals=True).nan
        return Mux(registered(m, C(1), same, f"same_{lane}", self._to_power), forced, Value.cast(power.o))

    def _product(self, m: Module, platform: Any, lane: int, third: Value, power: Value) -> Value:
        """Return the product of a lane: of l and α, of a power and 1/l in the third pass, or of what is asked for outside."""
        product = self._products[lane]
        m.submodules[f"multiply_{lane}"] = shared(platform, "pim_product_float32", product)
        asked = Mux(self.scalable, self.l_old, self.a[lane]) if lane == 0 else self.a[lane]
        m.d.comb += [
            product.enable.eq(self.enable), Value.cast(product.a).eq(Mux(third, power, asked)),
            Value.cast(product.b).eq(Mux(third, self.inverse, Mux(self.scalable, self.alpha, self.b))),
            self.product[lane].eq(Value.cast(product.o)),
        ]
        return Value.cast(product.o)

    def _carried(self, m: Module, powered: Value) -> Value:
        """Return l·α, once it is there."""
        carried = Signal(_WORD)
        m.d.sync += self.scalable.eq(powered[0] & powered[1])
        with m.If(_later(m, self.scalable, self.product_latency, "carrying")):
            m.d.sync += carried.eq(self.product[0])
        return carried


def _later(m: Module, value: Value, cycles: int, name: str) -> Value:
    """Return `value` so many cycles later; a reset takes back what is on its way."""
    value = Value.cast(value)
    for stage in range(cycles):
        register = Signal(len(value), name=f"{name}_{stage}")
        m.d.sync += register.eq(value)
        value = register
    return value


def _greater(m: Module, name: str, enable: Value, a: Value | None, first: Value, b: Value) -> Value:
    """Return the greater of a and b, a cycle later; without `a` of what it was and b, with `first` b."""
    m.submodules[f"greater_{name}"] = node = FloatMinMax(fmt=FP32, subnormals=True)
    high = Value.cast(node.high)
    m.d.comb += [node.enable.eq(enable), Value.cast(node.b).eq(b),
                 Value.cast(node.a).eq(Mux(first, _MINUS_INFINITY, high) if a is None else a)]
    return high
