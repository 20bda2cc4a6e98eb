"""Reads the accumulator row of each slice."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig, ceil_log2
from hw.ports import AccumulatorReadPort
from hw.vector.layouts import slice_layout

__all__ = ["RowReader"]


class RowReader(wiring.Component):
    """Row reader: slices in, slices with their row of the accumulator out, one a cycle.

    The accumulator shows a row for one cycle only. A row that comes when the lanes stand still is not stored: it is asked for
    again until they move, so that back-pressure costs no register as wide as a row. Latency 1 cycle.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    acc : AccumulatorReadPort
    i : In(stream of `slice_layout(config)`)
    row : In(accumulator row of `i`)
    o : Out(stream of `slice_layout(config)`)
        Valid only while its row is shown: like the accumulator's data it may go away again before it was taken.
    data : Out(C × signed(acc_width))
        The row of `o`.
    busy : Out(1)
        A slice is inside.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "acc": Out(AccumulatorReadPort(config)),
            "i": In(stream.Signature(slice_layout(config))),
            "row": In(ceil_log2(config.accumulator_rows)),
            "o": Out(stream.Signature(slice_layout(config))),
            "data": Out(data.ArrayLayout(signed(config.acc_width), config.columns)),
            "busy": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        waiting = Signal()                                  # a slice has been taken from i and not yet left through o
        shown = Signal()                                    # its row is on the port in this cycle
        current = Signal.like(self.i.p, reset_less=True)
        current_row = Signal.like(self.row, reset_less=True)
        again = Signal()
        m.d.comb += [
            again.eq(waiting & ~(shown & self.o.ready)),
            self.acc.valid.eq(again | self.i.valid),
            self.acc.addr.eq(Mux(again, current_row, self.row)),
            self.i.ready.eq(self.acc.ready & ~again),
            self.o.valid.eq(waiting & shown),
            self.o.p.eq(current),
            self.data.eq(self.acc.data),
            self.busy.eq(waiting),
        ]
        m.d.sync += [
            waiting.eq(again | (self.i.valid & self.acc.ready)),
            shown.eq(self.acc.valid & self.acc.ready),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [current.eq(self.i.p), current_row.eq(self.row)]
        return m
