"""Rotary embedding by recurrence: cosines and sines advance by a rotation for each token, no table for positions anywhere."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.config import ceil_log2
from hw.errors import ConfigError

__all__ = ["Rotary"]


class Rotary(wiring.Component):
    """Rotates pairs of elements by the angles of the current position: one complex multiplier, a pair a cycle.

    For each of P frequencies it holds (c, s), the rotation of the current position, and (c1, s1), that of one step. `advance`
    turns every (c, s) on by its (c1, s1), once a token, while no pair is rotated: P + `latency` cycles, in which `i` waits. The
    host writes both at the start, and (c, s) again every few hundred tokens (resync), or for any other position. All heads and
    layers of a token use the same. Values have W bits, W − 2 of them behind the point; products are exact and rounded once,
    halves up.

    Error of c and s after n steps: about n / 2 · 2^(2−W); with 24 bits and a resync every 256 tokens below 4.3e-5.

    Pairs follow each other without a gap, `latency` cycles each.

    Parameters
    ----------
    pairs : int
        P, half a head's size, at least 1.
    width : int
        W, 8 to 32.
    element_width : int
        Bits of an element; a rotated one has one more.

    Members
    -------
    write : In(1), write_step : In(1), write_pair : In(range(P)), write_cos, write_sin : In(signed(width))
        Put (c, s), or with `write_step` (c1, s1), of a frequency; only while `idle`.
    advance : In(1)
        Go on by one position; only while `idle`.
    i : In(stream of {a, b: signed(element_width), pair})
    o_valid : Out(1), o_a, o_b : Out(signed(element_width + 1))
        a·c − b·s and a·s + b·c. Never waits.
    idle : Out(1)
        Neither advancing nor rotating.

    Attributes
    ----------
    latency : int

    Raises
    ------
    ConfigError
        If a parameter is impossible.

    Reference
    ---------
    HSA, arXiv 2507.09010, names a dedicated unit without tables in DRAM. Inferred: recurrence, widths, resync.
    """

    latency = 3

    def __init__(self, *, pairs: int, width: int = 24, element_width: int = 16):
        ranges = (("pairs", pairs, 1, 1024), ("width", width, 8, 32), ("element_width", element_width, 2, width))
        for name, value, low, high in ranges:
            if not low <= value <= high:
                raise ConfigError(f"Rotary.{name} must be between {low} and {high}, not {value!r}")
        self._pairs, self._width, self._element_width = pairs, width, element_width
        index = max(1, ceil_log2(pairs))
        super().__init__({
            "write": In(1),
            "write_step": In(1),
            "write_pair": In(index),
            "write_cos": In(signed(width)),
            "write_sin": In(signed(width)),
            "advance": In(1),
            "i": In(stream.Signature(data.StructLayout({
                "a": signed(element_width), "b": signed(element_width), "pair": index}))),
            "o_valid": Out(1),
            "o_a": Out(signed(element_width + 1)),
            "o_b": Out(signed(element_width + 1)),
            "idle": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        width, pairs = self._width, self._pairs
        rotation = data.StructLayout({"cos": signed(width), "sin": signed(width)})
        m.submodules.now = now = Memory(shape=rotation, depth=pairs, init=[])
        m.submodules.step = step = Memory(shape=rotation, depth=pairs, init=[])
        put_now, put_step = now.write_port(), step.write_port()
        get_now, get_step = now.read_port(), step.read_port()

        # Stage 0: which pair. Advancing walks all of them; the stream waits meanwhile.
        advancing = Signal()
        walk = Signal(len(self.write_pair))
        pair = Signal(len(self.write_pair))
        turns, advances = Signal(), Signal()
        stages = [(Signal(name=f"turned_{n}"), Signal(name=f"advanced_{n}"), Signal(len(pair), name=f"pair_{n}", reset_less=True))
                  for n in range(self.latency)]
        underway = Cat(flag for turned, advanced, _ in stages for flag in (turned, advanced)).any()
        m.d.comb += [
            advances.eq(advancing),
            self.i.ready.eq(~advancing & ~self.advance & ~Cat(advanced for _, advanced, _ in stages).any()),
            turns.eq(self.i.valid & self.i.ready),
            pair.eq(Mux(advancing, walk, self.i.p.pair)),
            get_now.addr.eq(pair), get_step.addr.eq(pair), get_now.en.eq(1), get_step.en.eq(1),
            self.idle.eq(~advancing & ~underway),
        ]
        with m.If(advancing):
            m.d.sync += [walk.eq(walk + 1), advancing.eq(walk != pairs - 1)]
        with m.Elif(self.advance):
            m.d.sync += [advancing.eq(1), walk.eq(0)]
        before = (turns, advances, pair)
        for stage in stages:
            m.d.sync += [register.eq(value) for register, value in zip(stage, before, strict=True)]
            before = stage

        # Stage 1: (a + ib) · (c + is), with the step's rotation for a + ib while advancing.
        a, b = Signal(signed(self._element_width), reset_less=True), Signal(signed(self._element_width), reset_less=True)
        m.d.sync += [a.eq(self.i.p.a), b.eq(self.i.p.b)]
        left_a, left_b = Signal(signed(width)), Signal(signed(width))
        m.d.comb += [left_a.eq(Mux(stages[0][1], get_step.data.cos, a)), left_b.eq(Mux(stages[0][1], get_step.data.sin, b))]
        factors = {"aa": (left_a, get_now.data.cos), "bb": (left_b, get_now.data.sin), "ab": (left_a, get_now.data.sin),
                   "ba": (left_b, get_now.data.cos)}
        products = {name: Signal(signed(2 * width), name=f"product_{name}", reset_less=True) for name in factors}
        m.d.sync += [products[name].eq(x * y) for name, (x, y) in factors.items()]

        # Stage 2: sums, rounded.
        half, shift = 1 << (width - 3), width - 2
        real, imaginary = Signal(signed(width + 2), reset_less=True), Signal(signed(width + 2), reset_less=True)
        m.d.sync += [real.eq((products["aa"] - products["bb"] + half) >> shift),
                     imaginary.eq((products["ab"] + products["ba"] + half) >> shift)]
        turned, advanced, place = stages[-1]
        m.d.comb += [
            self.o_valid.eq(turned), self.o_a.eq(real), self.o_b.eq(imaginary),
            put_now.en.eq(advanced | (self.write & ~self.write_step)),
            put_now.addr.eq(Mux(advanced, place, self.write_pair)),
            put_now.data.cos.eq(Mux(advanced, real, self.write_cos)),
            put_now.data.sin.eq(Mux(advanced, imaginary, self.write_sin)),
            put_step.en.eq(self.write & self.write_step),
            put_step.addr.eq(self.write_pair),
            put_step.data.cos.eq(self.write_cos),
            put_step.data.sin.eq(self.write_sin),
        ]
        return m
