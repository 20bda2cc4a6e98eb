"""Walks the slices of a vector command and checks where they lie."""

from typing import Any

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig, ceil_log2
from hw.isa import ErrorCause, Unit
from hw.ports import ErrorReport, descriptor_layout
from hw.vector.address import AddressWalk, Element, slice_step
from hw.vector.cursor import SliceCursor
from hw.vector.layouts import slice_layout
from hw.vector.use import USE_LAYOUT

__all__ = ["Walker"]


class Walker(wiring.Component):
    """Walker: the descriptions of a command's slices, rows → groups of C columns → slices, one a cycle.

    The addresses of all that belongs to a slice are checked when its turn comes, A or the accumulator first, then B, C and the
    output; a slice out of range is never offered. So readers and writer, which walk by themselves, need not check.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    command : In(vector descriptor), use : In(USE_LAYOUT)
        Stable from `start` on.
    start : In(1)
        Go to the first slice; the walk begins in the next cycle.
    enable : In(1)
        Offer the current slice.
    o : Out(stream of `slice_layout(config)`)
    valid : Out(1)
        There is a current slice.
    fault : Out(1), report : Out(ErrorReport)
        It is out of range.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "command": In(descriptor_layout(Unit.VECTOR)),
            "use": In(USE_LAYOUT),
            "start": In(1),
            "enable": In(1),
            "o": Out(stream.Signature(slice_layout(config))),
            "valid": Out(1),
            "fault": Out(1),
            "report": Out(ErrorReport),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config, command, use = self.config, self.command, self.use
        m.submodules.cursor = cursor = SliceCursor(config)
        step = Signal()
        m.d.comb += [
            step.eq(self.o.valid & self.o.ready),
            cursor.m.eq(command.m),
            cursor.n.eq(use.n),
            cursor.start.eq(self.start),
            cursor.step.eq(step),
            self.valid.eq(cursor.valid),
            self.o.valid.eq(self.enable & cursor.valid & ~self.fault),
        ]
        violations = self._violations(m, cursor, step)
        for cause, addr, wrong in reversed(violations):         # the first one wrong is the one reported
            with m.If(wrong):
                m.d.comb += [self.fault.eq(cursor.valid), self.report.cause.eq(cause), self.report.addr.eq(addr)]
        self._describe(m, cursor, step)
        return m

    def _violations(self, m: Module, cursor: SliceCursor, step: Value) -> list[tuple[ErrorCause, Value, Value]]:
        """Return cause, address and condition of what can be out of range, in the order in which it is reported."""
        config, command, use = self.config, self.command, self.use

        def walk(name: str, width: int, **inputs: Any) -> Value:
            m.submodules[name] = walk = AddressWalk(width=width)
            m.d.comb += [walk.start.eq(self.start), walk.step.eq(step), walk.row_end.eq(cursor.row_end)]
            m.d.comb += [getattr(walk, port).eq(value) for port, value in inputs.items()]
            return walk.addr

        row = walk("acc", 16, origin=command.acc_addr, stride=1, along=Mux(cursor.group_end, command.acc_tile_stride, 0))
        violations = [(ErrorCause.ACCUMULATOR_RANGE, row, use.accumulator & (row >= config.accumulator_rows))]
        streams = [
            ("a", use.a, command.a_addr, command.a_stride, use.a_element),
            ("b", use.b, command.b_addr, command.b_stride, Element.WORD),
            ("c", use.c, command.c_addr, command.c_stride, Element.WORD),
            ("output", use.output & (cursor.first | ~use.scalar), command.addr, command.stride, use.element),
        ]
        for name, used, origin, stride, element in streams[config.vector == "requantize":]:
            along = Signal(24, name=f"{name}_along")
            with m.Switch(element):
                for kind in Element:
                    with m.Case(kind):
                        m.d.comb += along.eq(slice_step(config, kind, cursor.group_end))
            addr = walk(name, 24, origin=origin, stride=stride, along=along)
            violations.append((ErrorCause.SCRATCHPAD_RANGE, addr, used & addr[ceil_log2(config.scratchpad_bytes):].any()))
        return violations

    def _describe(self, m: Module, cursor: SliceCursor, step: Value) -> None:
        """Drive the payload of `o`."""
        command, lanes = self.command, self.config.vector_lanes
        row_limit = Signal(17, reset_less=True)             # columns of the row that are not masked
        limit = Signal(17, reset_less=True)                 # of those, the ones from this slice on
        next_limit = Signal(17)
        count = Signal.like(self.o.p.count)
        m.d.comb += [
            next_limit.eq(row_limit + command.mask_step),
            count.eq(Mux(cursor.row_end, cursor.left, lanes)),
            self.o.p.count.eq(count),
            self.o.p.valid_count.eq(Mux(command.mask_en & (limit < count), limit, count)),
            self.o.p.first.eq(cursor.first),
            self.o.p.last.eq(cursor.row_end),
        ]
        with m.If(self.start):
            m.d.sync += [row_limit.eq(command.mask), limit.eq(command.mask)]
        with m.Elif(step & cursor.row_end):
            m.d.sync += [row_limit.eq(next_limit), limit.eq(next_limit)]
        with m.Elif(step):
            m.d.sync += limit.eq(Mux(limit < lanes, 0, limit - lanes))
