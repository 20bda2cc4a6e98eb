"""Brings the sums of an output-stationary tile out of the array."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.array.tile import result_layout, tag_layout
from hw.config import AcceleratorConfig
from hw.isa import ErrorCause
from hw.ports import ErrorReport

__all__ = ["DrainSequencer"]


class DrainSequencer(wiring.Component):
    """In the R cycles after `start`, shifts the drain chain down and tags the rows: row R − 1 first, valid rows only.

    Latency: 1 cycle from `start` to the first shift, R to the last. Initiation interval: R, since a new tile may start in the
    cycle of the last shift.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    start : In(1), result : In(result_layout)
        The last step of an OS tile is issued.
    left : Out(range(R + 1))
        Shifts to come, that of this cycle included.
    shift : Out(1), valid : Out(1), tag : Out(tag_layout)
        The slot of this cycle shifts; a row with this tag comes out of it.
    fault : Out(1), report : Out(ErrorReport)
        Level: the next row is outside the accumulator; nothing more is shifted.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "start": In(1),
            "result": In(result_layout(config)),
            "left": Out(range(config.rows + 1)),
            "shift": Out(1),
            "valid": Out(1),
            "tag": Out(tag_layout(config)),
            "fault": Out(1),
            "report": Out(ErrorReport),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        result = Signal(result_layout(self.config))
        row = self.left - 1
        inside = self.left <= result.rows
        addr = Signal(len(result.addr.as_value()) + 1)
        m.d.comb += [
            addr.eq(result.addr.as_value() + row),
            self.fault.eq((self.left != 0) & inside & (addr >= self.config.accumulator_rows)),
            self.report.cause.eq(ErrorCause.ACCUMULATOR_RANGE),
            self.report.addr.eq(addr),
            self.shift.eq((self.left != 0) & ~self.fault),
            self.valid.eq(self.shift & inside),
            self.tag.addr.eq(addr),
            self.tag.accumulate.eq(result.accumulate),
            self.tag.last.eq(result.last & (self.left == 1)),
        ]
        with m.If(self.start):
            m.d.sync += [self.left.eq(self.config.rows), result.eq(self.result)]
        with m.Elif(self.shift):
            m.d.sync += self.left.eq(row)
        return m
