"""A small design that drives its registers in every way that there is."""

from typing import Any

from amaranth import *
from amaranth.hdl import Assert, Fragment
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.protect.harden import harden
from hw.share import shared

__all__ = ["INPUT_BITS", "Cell", "Design", "Odd"]

INPUT_BITS = 16


class Cell(wiring.Component):
    """A register with an enable, shared by those who have many of it."""

    def __init__(self) -> None:
        super().__init__({"en": In(1), "i": In(signed(5)), "o": Out(signed(5))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        held = Signal(signed(5), init=-3)
        with m.If(self.en):
            m.d.sync += held.eq(self.i)
        m.d.comb += self.o.eq(held)
        return m


class Odd(wiring.Component):
    """Slices, parts, arrays and concatenations on the left, a struct, a state machine, a memory, a register of somebody else.

    Parameters
    ----------
    asserts : bool
        With a statement that drives nothing, which synthesis does not read.

    Members
    -------
    i : In(16), valid : Out(1), o : Out(64)
    """

    def __init__(self, *, asserts: bool = True) -> None:
        self.asserts = asserts
        super().__init__({"i": In(INPUT_BITS), "valid": Out(1), "o": Out(64)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        i = self.i
        sliced = Signal(8, init=0x5A)
        parted = Signal(8)
        first = Signal(3, init=1)
        second = Signal(signed(5), init=-2)
        rows = Array(Signal(2, name=f"row_{n}", reset_less=n == 1) for n in range(3))
        pair = Signal(data.StructLayout({"low": signed(3), "high": 4}))
        shared_by_two = Signal(6)
        write_addr = Signal(2)
        write_en = Signal()
        m.submodules.memory = memory = Memory(shape=4, depth=4, init=[1, 2])
        write, read = memory.write_port(), memory.read_port()
        cells = [Cell(), Cell()]
        for n, cell in enumerate(cells):
            m.submodules[f"cell_{n}"] = shared(platform, "odd_cell", cell)
            m.d.comb += [cell.i.eq(i[n:]), cell.en.eq(i[8 + n])]
        m.d.sync += [
            sliced[2:5].eq(i), parted.bit_select(i[:3], 2).eq(i[3:]), Cat(first, second).eq(second + i), rows[i[:2]].eq(i[4:6]),
            pair.low.eq(i[3:]), write_addr.eq(i[2:]), write_en.eq(i[7]), shared_by_two[:3].eq(i[9:]),
        ]
        if self.asserts:
            m.d.sync += Assert(i[:1] == i[0])
        m.d.comb += [write.addr.eq(write_addr), write.en.eq(write_en)]
        m.d.comb += [pair.high.eq(i[5:]), write.data.eq(i), read.addr.eq(sliced[2:4]), read.en.eq(1), shared_by_two[3:].eq(pair)]
        with m.If(i[0]):
            m.d.sync += sliced.eq(~sliced)
        with m.Switch(i[4:7]):
            with m.Case(1):
                m.d.sync += first.eq(7)
            with m.Case(2, 3):
                pass
            with m.Default():
                m.d.sync += second.eq(first)
        with m.FSM():
            with m.State("A"):
                with m.If(i[1]):
                    m.next = "B"
            with m.State("B"):
                m.d.comb += self.valid.eq(1)
                m.d.sync += parted[7].eq(1)
                m.next = "C"
            with m.State("C"):
                with m.If(i[2]):
                    m.next = "A"
        m.d.comb += self.o.eq(Cat(sliced, parted, first, second, *rows, pair, shared_by_two, read.data, *(c.o for c in cells)))
        return m


class Design(wiring.Component):
    """`Odd`, protected; a reset that may come at any time.

    Parameters
    ----------
    rules : tuple of (str, str)
    asserts : bool
        As of `Odd`.

    Members
    -------
    i : In(16), reset : In(1), valid : Out(1), o : Out(64)
    detected, corrected : Out(1)
    """

    def __init__(self, rules: tuple[tuple[str, str], ...], *, asserts: bool = True):
        self.rules = rules
        self.asserts = asserts
        super().__init__({"i": In(INPUT_BITS), "reset": In(1), "valid": Out(1), "o": Out(64), "detected": Out(1),
                          "corrected": Out(1)})

    def elaborate(self, platform: Any) -> Fragment:
        m = Module()
        odd = Odd(asserts=self.asserts)
        m.submodules.odd = ResetInserter(self.reset)(odd)
        m.d.comb += [odd.i.eq(self.i), self.o.eq(odd.o), self.valid.eq(odd.valid)]
        return harden(m, self.rules, platform, {"odd": (self.detected, self.corrected)})
