"""Cuts tokens' activations to an N:M pattern on their way to the columns (TASD-A), one token a cycle."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.array.tasd_shape import TasdShape
from hw.array.tasd_unit import TasdUnit

__all__ = ["ActivationCut"]


class ActivationCut(wiring.Component):
    """R TASD units in N banks that take turns: a bank has a unit for each of the R/N blocks of a token, and N cycles for it.

    Of every M values the N of largest magnitude are kept, of equals the first (`TasdUnit`). Tokens that are not to be cut take
    the same time. Latency N + 2 cycles, initiation interval 1, whatever the values: records that are done early wait.

    Parameters
    ----------
    shape : TasdShape

    Members
    -------
    i : In(R·M/N × unsigned(8)), valid : In(1), cut : In(1)
        A token's inputs; not to be cut: the first R of them are meant.
    activations : Out(R × signed(8)), places : Out(R × place)
        What is kept of each block, in order of place; unused ones are zero, their place too.
    """

    def __init__(self, shape: TasdShape):
        self.shape = shape
        super().__init__({
            "i": In(data.ArrayLayout(unsigned(8), shape.rows)),
            "valid": In(1),
            "cut": In(1),
            "activations": Out(shape.activations),
            "places": Out(shape.places),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        shape = self.shape
        wanted, turn = Signal(), Signal(range(shape.keep))
        m.d.comb += wanted.eq(self.valid & self.cut)
        with m.If(wanted):
            m.d.sync += turn.eq(Mux(turn == shape.keep - 1, 0, turn + 1))

        stage = data.StructLayout({"cut": 1, "turn": turn.shape(), "plain": data.ArrayLayout(unsigned(8), shape.lanes)})
        now = Signal(stage)
        m.d.comb += [now.cut.eq(wanted), now.turn.eq(turn),
                     *(now.plain[lane].eq(self.i[lane]) for lane in range(shape.lanes))]
        for number in range(shape.latency - 1):
            held = Signal(stage, name=f"token_{number}", reset_less=True)
            m.d.sync += held.eq(now)
            now = held

        for block in range(shape.blocks):
            units = []
            for bank in range(shape.keep):
                unit = TasdUnit(block=shape.of, terms=((shape.keep, shape.of),))
                m.submodules[f"unit_{bank}_{block}"] = unit
                m.d.comb += [
                    unit.i.valid.eq(wanted & (turn == bank)), unit.o.ready.eq(now.cut & (now.turn == bank)),
                    *(unit.i.p[place].eq(self.i[block * shape.of + place]) for place in range(shape.of)),
                ]
                units.append(unit)
            for slot in range(shape.keep):
                lane = block * shape.keep + slot
                values, places = (Array(unit.o.p[name][slot] for unit in units)[now.turn] for name in ("values", "places"))
                m.d.sync += [self.activations[lane].eq(Mux(now.cut, values, now.plain[lane].as_signed())),
                             self.places[lane].eq(Mux(now.cut, places, slot))]
        return m
