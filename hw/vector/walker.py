"""Walks the rows and slices of a vector command."""

from typing import Any

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig, ceil_log2
from hw.isa import ErrorCause, Unit
from hw.ports import ErrorReport, descriptor_layout
from hw.vector.layouts import slice_layout, slices_per_row, slots_per_line

__all__ = ["Walker"]


class Walker(wiring.Component):
    """Walker: the slices of a command in order, groups of C columns → rows → slices, one a cycle.

    Slices without a column below `n` are left out. Every address is checked when its slice's turn comes, the accumulator row
    first; a slice out of range is never offered.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    command : In(vector descriptor)
        Stable from `start` on.
    start : In(1)
        Go to the first slice; the walk begins in the next cycle.
    enable : In(1)
        Offer the current slice.
    o : Out(stream of `slice_layout(config)`)
    row : Out(accumulator row of the slice)
    group_end : Out(1)
        The slice is the last one of its group.
    fault : Out(1), report : Out(ErrorReport)
        The current slice is out of range.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "command": In(descriptor_layout(Unit.VECTOR)),
            "start": In(1),
            "enable": In(1),
            "o": Out(stream.Signature(slice_layout(config))),
            "row": Out(ceil_log2(config.accumulator_rows)),
            "group_end": Out(1),
            "fault": Out(1),
            "report": Out(ErrorReport),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config, command = self.config, self.command
        lanes, slices, slots = config.vector_lanes, slices_per_row(config), slots_per_line(config)

        # An address is one bit wider than the fields: a step adds less than 2**field to one that was in range, so it cannot wrap.
        # The first of a group needs no such bit: it is stepped from only when it was in range.
        group_row = Signal(16, reset_less=True)
        row = Signal(17, reset_less=True)
        group_addr = Signal(24, reset_less=True)
        addr = Signal(25, reset_less=True)
        rows_left = Signal(16, reset_less=True)
        group_columns = Signal(16, reset_less=True)         # columns from this group on
        next_columns = Signal(signed(17))                   # columns from the next group on
        columns_left = Signal(16, reset_less=True)          # columns of this group from this slice on
        index = Signal(range(slices), reset_less=True)

        row_end, last_row, last_group = Signal(), Signal(), Signal()
        next_group_row, next_group_addr = Signal(17), Signal(25)
        m.d.comb += [
            next_columns.eq(group_columns - config.columns),
            next_group_row.eq(group_row + command.acc_tile_stride),
            next_group_addr.eq(group_addr + config.output_slot_bytes),
            row_end.eq((index == slices - 1) | (columns_left <= lanes)),
            last_row.eq(rows_left == 1),
            last_group.eq(next_columns <= 0),
        ]

        with m.If(self.start):
            m.d.sync += [
                group_row.eq(command.acc_addr),
                row.eq(command.acc_addr),
                group_addr.eq(command.addr),
                addr.eq(command.addr),
                rows_left.eq(command.m),
                group_columns.eq(command.n),
                columns_left.eq(command.n),
                index.eq(0),
            ]
        with m.Elif(self.o.valid & self.o.ready):
            with m.If(~row_end):
                m.d.sync += [index.eq(index + 1), columns_left.eq(columns_left - lanes)]
            with m.Elif(~last_row):
                m.d.sync += [
                    row.eq(row + 1),
                    addr.eq(addr + command.stride),
                    rows_left.eq(rows_left - 1),
                    columns_left.eq(group_columns),
                    index.eq(0),
                ]
            with m.Else():
                m.d.sync += [
                    group_row.eq(next_group_row),
                    row.eq(next_group_row),
                    group_addr.eq(next_group_addr),
                    addr.eq(next_group_addr),
                    rows_left.eq(command.m),
                    group_columns.eq(next_columns),
                    columns_left.eq(next_columns),
                    index.eq(0),
                ]

        row_fault = row >= config.accumulator_rows
        addr_fault = addr >= config.scratchpad_bytes
        m.d.comb += [
            self.fault.eq(row_fault | addr_fault),
            self.report.cause.eq(Mux(row_fault, ErrorCause.ACCUMULATOR_RANGE, ErrorCause.SCRATCHPAD_RANGE)),
            self.report.addr.eq(Mux(row_fault, row, addr)),
            self.group_end.eq(row_end & last_row),
            self.row.eq(row),
            self.o.valid.eq(self.enable & ~self.fault),
            self.o.p.line.eq(addr >> ceil_log2(config.line_bytes)),
            self.o.p.count.eq(Mux(columns_left > lanes, lanes, columns_left)),
            self.o.p.last.eq(self.group_end & last_group),
        ]
        if slots > 1:
            m.d.comb += self.o.p.slot.eq(addr >> ceil_log2(config.output_slot_bytes))
        if slices > 1:
            m.d.comb += self.o.p.index.eq(index)
        return m
