"""Loops of the PIM sequencer: bounds, and fields of the bodies' commands that grow from iteration to iteration."""

from functools import reduce
from operator import add, or_
from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.pim.footprint import command_layout
from hw.pim.isa import COMMAND_FIELDS, LOOP_DEPTH, MODIFIABLE, MODIS

__all__ = ["Loops", "growth_layout"]

_GROWTH_WIDTH = 50          # of what a field has grown by: as many iterations as a bound can say, times the widest stride
_WIDTHS = {field.name: field.width for field in COMMAND_FIELDS}


def growth_layout() -> data.StructLayout:
    """Return the layout of a command with its fields grown: which fields grow, and whether one has left its width."""
    return data.StructLayout({"command": command_layout(), "grows": len(MODIFIABLE), "overflow": 1})


class Loops(wiring.Component):
    """Stack of two loops, and the MODIs of each.

    Parameters
    ----------
    commands : int
        Words of the list memory.

    Members
    -------
    pc : In, command : In(`command_layout`)
        The command that is decoded.
    grown : Out(`growth_layout`)
        The same, grown by the MODIs of the loops that it is in; combinational.
    modi : In(1)
        It is a MODI, kept for the next loop.
    enter : In(1), bound : In(33)
        It is a LOOP that runs, `bound` times, at least once.
    skip : In(1)
        It is a LOOP that does not run: its MODIs are forgotten.
    advance : In(1)
        The command at `pc` is done: the innermost loop that ends with it goes back, or is left.
    back : Out(1), start : Out
        With `advance`: go to `start`.
    left : Out(1)
        With `advance`: the innermost loop is left; ask again, the loop around it may end here too.
    pending : Out(1), full : Out(1)
        There are MODIs for the next loop; as many as there may be.
    nested : Out(1)
        No loop may be entered.
    beyond : Out(1)
        One of the MODIs for the next loop names a command beyond its body.
    end : Out, looping : Out(1)
        Last command of the innermost loop, if there is one.
    clear : In(1)
        Forget everything.
    """

    def __init__(self, *, commands: int):
        address = ceil_log2(commands)
        self._address = address
        super().__init__({
            "pc": In(address), "command": In(command_layout()), "grown": Out(growth_layout()), "modi": In(1), "enter": In(1),
            "bound": In(33), "skip": In(1), "advance": In(1), "back": Out(1), "start": Out(address), "left": Out(1),
            "pending": Out(1), "full": Out(1), "nested": Out(1), "beyond": Out(1),
            "end": Out(address), "looping": Out(1), "clear": In(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        address, target_width = self._address, len(self.command.xidx)
        depth = Signal(range(LOOP_DEPTH + 1))
        counts = [Signal(range(MODIS + 1), name=f"modis_{level}") for level in range(LOOP_DEPTH)]
        start = [Signal(address, name=f"start_{level}") for level in range(LOOP_DEPTH)]
        end = [Signal(address, name=f"end_{level}") for level in range(LOOP_DEPTH)]
        left = [Signal(33, name=f"iterations_{level}") for level in range(LOOP_DEPTH)]
        target = [[Signal(target_width, name=f"target_{level}_{n}") for n in range(MODIS)] for level in range(LOOP_DEPTH)]
        field, stride, growth = (
            [[Signal(shape, name=f"{name}_{level}_{n}") for n in range(MODIS)] for level in range(LOOP_DEPTH)]
            for name, shape in (("field", ceil_log2(len(MODIFIABLE))), ("stride", signed(_WIDTHS["row"])),
                                ("growth", signed(_GROWTH_WIDTH))))

        # MODIs are kept where the loop that they are for will be.
        waiting = Array([*counts, C(0)])[depth]
        m.d.comb += [self.pending.eq((waiting != 0) & ~self.nested), self.full.eq(waiting == MODIS),
                     self.nested.eq(depth == LOOP_DEPTH)]
        m.d.comb += self.beyond.eq(reduce(or_, (
            (depth == level) & (counts[level] > n) & (target[level][n] >= self.command.xidx)
            for level in range(LOOP_DEPTH) for n in range(MODIS))))
        for level in range(LOOP_DEPTH):
            with m.If(self.modi & (depth == level)):
                m.d.sync += counts[level].eq(counts[level] + 1)
                for n in range(MODIS):
                    with m.If(counts[level] == n):
                        m.d.sync += [target[level][n].eq(self.command.xidx), field[level][n].eq(self.command.grp),
                                     stride[level][n].eq(self.command.row.as_signed()), growth[level][n].eq(0)]
            with m.If(self.enter & (depth == level)):
                m.d.sync += [depth.eq(level + 1), start[level].eq(self.pc + 1), end[level].eq(self.pc + self.command.xidx),
                             left[level].eq(self.bound - 1)]
            with m.If(self.skip & (depth == level)):
                m.d.sync += counts[level].eq(0)

        # The end of the innermost loop.
        for level in range(LOOP_DEPTH):
            with m.If(depth == level + 1):
                ends = self.pc == end[level]
                m.d.comb += [self.looping.eq(1), self.end.eq(end[level]), self.start.eq(start[level]),
                             self.back.eq(ends & (left[level] != 0)), self.left.eq(ends & (left[level] == 0))]
                with m.If(self.advance & self.back):
                    m.d.sync += left[level].eq(left[level] - 1)
                    m.d.sync += [growth[level][n].eq(growth[level][n] + stride[level][n]) for n in range(MODIS)]
                with m.If(self.advance & self.left):
                    m.d.sync += [depth.eq(level), counts[level].eq(0)]
        with m.If(self.clear):
            m.d.sync += [depth.eq(0), *(count.eq(0) for count in counts)]

        # Growth of the command that is decoded.
        hits: dict[str, list[tuple[Value, Signal]]] = {name: [] for name in MODIFIABLE}
        for level in range(LOOP_DEPTH):
            for n in range(MODIS):
                here = (depth > level) & (counts[level] > n) & (start[level] + target[level][n] == self.pc)
                for number, name in enumerate(MODIFIABLE):
                    hits[name].append((here & (field[level][n] == number), growth[level][n]))
        m.d.comb += self.grown.command.eq(self.command)
        overflows = []
        for number, name in enumerate(MODIFIABLE):
            total = Signal(signed(_GROWTH_WIDTH + 5), name=f"grown_{name}")
            parts = [Mux(hit, amount, 0) for hit, amount in hits[name]]
            m.d.comb += [total.eq(reduce(add, parts) + getattr(self.command, name)),
                         getattr(self.grown.command, name).eq(total[:_WIDTHS[name]]),
                         self.grown.grows[number].eq(reduce(or_, (hit for hit, _ in hits[name])))]
            overflows.append(total[_WIDTHS[name]:] != 0)
        m.d.comb += self.grown.overflow.eq(reduce(or_, overflows))
        return m
