"""The vector unit: accumulator rows to int8 rows in the scratchpad."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect

from hw.config import AcceleratorConfig, ceil_log2
from hw.isa import ErrorCause, Unit, VectorOp
from hw.ports import AccumulatorReadPort, ErrorReport, ScratchpadReadPort, ScratchpadWritePort, UnitPort, descriptor_layout
from hw.vector.lanes import Lanes
from hw.vector.parameters import ParameterStore
from hw.vector.row_reader import RowReader
from hw.vector.walker import Walker
from hw.vector.writer import SliceWriter

__all__ = ["VectorUnit"]


class VectorUnit(wiring.Component):
    """Vector unit: one command after the other, each n-group (reads its parameters) → m → slices of `vector_lanes` columns.

    Walker → row reader → lanes → writer form one pipeline, one slice a cycle; a write that is not accepted holds it. Between
    two groups of a command with parameters it waits until every slice inside has been scaled. `hw.timing.vector_cycles` says how
    long a command takes when no port stalls. Bytes of the output beyond column n are not written. A command's outputs must not
    lie on the parameters of its own later groups: those may be fetched before the outputs are written.

    Errors are precise: all slices before the first violation are written, nothing after. A command is checked for op, m, n and
    alignment (addr and stride to the output slot, parameter addresses to the line) before anything else, then each parameter
    line, accumulator row and output slot when its turn comes.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    unit : UnitPort(Unit.VECTOR)
        `done` comes in the cycle after the command's last write was accepted.
    acc : AccumulatorReadPort
    read : ScratchpadReadPort
        For parameters.
    write : ScratchpadWritePort
        An offer stays until it is accepted, except for `abort`.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "unit": Out(UnitPort(Unit.VECTOR)),
            "acc": Out(AccumulatorReadPort(config)),
            "read": Out(ScratchpadReadPort(config)),
            "write": Out(ScratchpadWritePort(config)),
        })

    def elaborate(self, platform: Any) -> Elaboratable:
        m = Module()
        config, unit = self.config, self.unit
        m.submodules.walker = walker = Walker(config)
        m.submodules.parameters = parameters = ParameterStore(config)
        m.submodules.reader = reader = RowReader(config)
        m.submodules.lanes = lanes = Lanes(config)
        m.submodules.writer = writer = SliceWriter(config)

        connect(m, walker=walker.o, reader=reader.i)
        connect(m, reader=reader.o, lanes=lanes.i)
        connect(m, lanes=lanes.o, writer=writer.i)
        for ours, theirs in ((self.acc, reader.acc), (self.read, parameters.read), (self.write, writer.write)):
            connect(m, wiring.flipped(ours), theirs)

        command = Signal(descriptor_layout(Unit.VECTOR), reset_less=True)
        report = Signal(ErrorReport, reset_less=True)
        violation = self._violation(m, command)
        m.d.comb += [
            walker.command.eq(command),
            parameters.command.eq(command),
            reader.row.eq(walker.row),
            lanes.row.eq(reader.data),
            lanes.bias.eq(parameters.bias),
            lanes.scale.eq(parameters.scale),
            lanes.relu.eq(command.relu),
            writer.bytes.eq(lanes.bytes),
            unit.report.eq(report),
            unit.busy.eq(1),
        ]

        done = Signal()
        m.d.comb += unit.done.eq(done)
        m.d.sync += done.eq(writer.finished)
        with_parameters = command.bias_en | command.per_channel
        with m.FSM(name="control"):
            with m.State("IDLE"):
                m.d.comb += [unit.busy.eq(0), unit.command.ready.eq(~unit.abort)]
                with m.If(unit.command.valid & unit.command.ready):
                    m.d.sync += command.eq(unit.command.p)
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.comb += [walker.start.eq(1), parameters.start.eq(1)]
                m.d.sync += report.eq(violation)
                with m.If(violation.cause != ErrorCause.NONE):
                    m.next = "ERROR"
                with m.Elif(with_parameters):
                    m.next = "PARAMETERS"
                with m.Else():
                    m.next = "ROWS"
            with m.State("PARAMETERS"):
                m.d.comb += parameters.fetch.eq(~reader.busy & ~lanes.scaling)
                with m.If(parameters.fault):
                    m.d.sync += report.eq(parameters.report)
                    m.next = "STOP"
                with m.Elif(parameters.done):
                    m.next = "ROWS"
            with m.State("ROWS"):
                m.d.comb += walker.enable.eq(1)
                with m.If(walker.fault):
                    m.d.sync += report.eq(walker.report)
                    m.next = "STOP"
                with m.Elif(walker.o.ready & walker.o.p.last):
                    m.next = "DRAIN"
                with m.Elif(walker.o.ready & walker.group_end & with_parameters):
                    m.next = "PARAMETERS"
            with m.State("DRAIN"):
                with m.If(writer.finished):
                    m.next = "IDLE"
            with m.State("STOP"):
                with m.If(~reader.busy & ~lanes.busy & ~writer.busy):
                    m.next = "ERROR"
            with m.State("ERROR"):
                m.d.comb += [unit.busy.eq(0), unit.error.eq(1)]
        # No bus waits for this unit, so to abort is to reset.
        return ResetInserter(unit.abort)(m)

    def _violation(self, m: Module, command: Any) -> Any:
        """Return the report of what is wrong with `command` itself; cause NONE when nothing is."""
        slot_log2, line_log2 = ceil_log2(self.config.output_slot_bytes), ceil_log2(self.config.line_bytes)
        violation = Signal(ErrorReport)
        checks = (
            (ErrorCause.UNSUPPORTED, command.op, command.op != VectorOp.REQUANTIZE),
            (ErrorCause.BAD_SIZE, command.m, command.m == 0),
            (ErrorCause.BAD_SIZE, command.n, command.n == 0),
            (ErrorCause.MISALIGNED, command.addr, command.addr[:slot_log2].any()),
            (ErrorCause.MISALIGNED, command.stride, command.stride[:slot_log2].any()),
            (ErrorCause.MISALIGNED, command.bias_addr, command.bias_en & command.bias_addr[:line_log2].any()),
            (ErrorCause.MISALIGNED, command.scale_addr, command.per_channel & command.scale_addr[:line_log2].any()),
        )
        for cause, value, wrong in reversed(checks):        # the first one wrong is the one reported
            with m.If(wrong):
                m.d.comb += [violation.cause.eq(cause), violation.addr.eq(value)]
        return violation
