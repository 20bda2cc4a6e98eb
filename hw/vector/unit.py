"""The vector unit: rows of the accumulator or the scratchpad through one pass of float32 steps."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import Out, connect

from hw.config import AcceleratorConfig
from hw.isa import ErrorCause, Unit, VectorSource
from hw.ports import AccumulatorReadPort, ErrorReport, ScratchpadReadPort, ScratchpadWritePort, UnitPort, descriptor_layout
from hw.vector.address import Element
from hw.vector.checker import CommandChecker
from hw.vector.datapath import Datapath
from hw.vector.intake import Intake
from hw.vector.row_scalars import RowScalars
from hw.vector.slice_queue import SliceQueue
from hw.vector.stream_reader import StreamReader
from hw.vector.use import use_of
from hw.vector.walker import Walker
from hw.vector.writer import SliceWriter

__all__ = ["VectorUnit"]


class VectorUnit(wiring.Component):
    """Vector unit: one command after the other, each row by row, a slice of `vector_lanes` columns a cycle.

    Walker and readers join in front of the datapath; what it makes goes to the writer and to the row scalars.
    `hw.timing.vector_cycles` says how long a command takes when no port stalls.

    Errors are precise: all slices before the first violation are written, and the scalars of whole rows before it; nothing after.
    A command itself is checked before anything else (`CommandChecker`), then each slice's addresses when its turn comes
    (`Walker`). Readers run ahead: slices after a violation may have been read.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    unit : UnitPort(Unit.VECTOR)
        `done` comes in the cycle after the command's last write was accepted and its last row scalar written; the next command is
        taken in that cycle.
    acc : AccumulatorReadPort
    read_a, read_b, read_c : ScratchpadReadPort
        `read_a` only with `config.vector` = "transformer".
    write : ScratchpadWritePort
        An offer stays until it is accepted, except for `abort`.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self._streams = ("b", "c") if config.vector == "requantize" else ("a", "b", "c")
        super().__init__({
            "unit": Out(UnitPort(Unit.VECTOR)),
            "acc": Out(AccumulatorReadPort(config)),
            **{f"read_{name}": Out(ScratchpadReadPort(config)) for name in self._streams},
            "write": Out(ScratchpadWritePort(config)),
        })

    @property
    def reads(self) -> list[Any]:
        """Scratchpad read ports, in the order of their priority."""
        return [getattr(self, f"read_{name}") for name in self._streams]

    def elaborate(self, platform: Any) -> Elaboratable:
        m = Module()
        config, unit = self.config, self.unit
        command = Signal(descriptor_layout(Unit.VECTOR), reset_less=True)
        use = use_of(m, config, command)
        start, reading = Signal(), Signal()
        m.submodules.command_checker = checker = CommandChecker(config)
        m.submodules.walker = walker = Walker(config)
        m.submodules.intake = intake = Intake(config)
        m.submodules.datapath = datapath = Datapath(config)
        m.submodules.writer = writer = SliceWriter(config)
        for block in (checker, walker, intake, writer):
            m.d.comb += [block.command.eq(command), block.use.eq(use)]
        m.d.comb += [walker.start.eq(start), intake.start.eq(start), writer.start.eq(start), intake.enable.eq(reading)]
        connect(m, walker=walker.o, intake=intake.i)
        connect(m, intake=intake.o, datapath=datapath.i)
        connect(m, datapath=datapath.o, writer=writer.i)
        connect(m, ours=wiring.flipped(self.acc), theirs=intake.acc)
        connect(m, ours=wiring.flipped(self.write), theirs=writer.write)
        m.d.comb += datapath.command.eq(command)
        for name, stream in (("b", datapath.b), ("c", datapath.c)):
            reader = self._operand(m, name, reading, stream)
            m.d.comb += [
                reader.m.eq(command.m),
                reader.n.eq(use.n),
                reader.origin.eq(command[f"{name}_addr"]),
                reader.stride.eq(command[f"{name}_stride"]),
                reader.start.eq(start & use[name]),
            ]

        stopping, empties = Signal(), Signal()              # empties: nothing is inside after this cycle, if nothing enters
        m.d.comb += empties.eq(~intake.busy & ~datapath.busy & writer.empties)
        if config.vector == "transformer":
            m.submodules.scalars = scalars = RowScalars(config)
            connect(m, ours=wiring.flipped(self.read_a), theirs=intake.read)
            connect(m, scalars=scalars.row1, datapath=datapath.row1)
            from_row = command.source == VectorSource.ROW   # row0 itself is what the command computes with
            m.d.comb += [
                scalars.command.eq(command),
                scalars.use.eq(use),
                scalars.start.eq(start),
                scalars.sums.eq(datapath.sums),
                scalars.maxima.eq(datapath.maxima),
                intake.rows.valid.eq(scalars.row0.valid & from_row),
                intake.rows.p.eq(scalars.row0.p),
                datapath.row0.valid.eq(scalars.row0.valid & ~from_row),
                datapath.row0.p.eq(scalars.row0.p),
                scalars.row0.ready.eq(Mux(from_row, intake.rows.ready, datapath.row0.ready)),
                datapath.flush.eq(stopping & ~intake.busy),
                empties.eq(~intake.busy & ~datapath.busy & writer.empties & scalars.empties),
            ]

        report = Signal(ErrorReport, reset_less=True)
        done = Signal()
        m.d.comb += [unit.report.eq(report), unit.done.eq(done), unit.busy.eq(1)]
        m.d.sync += done.eq(0)
        with m.FSM(name="control"):
            with m.State("IDLE"):
                m.d.comb += [unit.busy.eq(0), unit.command.ready.eq(~unit.abort)]
                with m.If(unit.command.valid & unit.command.ready):
                    m.d.sync += command.eq(unit.command.p)
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.comb += start.eq(1)
                m.next = "DECIDE"
            with m.State("DECIDE"):
                m.d.comb += reading.eq(1)
                m.d.sync += report.eq(checker.report)
                with m.If(checker.report.cause != ErrorCause.NONE):
                    m.next = "ERROR"
                with m.Else():
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += [reading.eq(1), walker.enable.eq(1)]
                with m.If(walker.fault):
                    m.d.sync += report.eq(walker.report)
                    m.next = "STOP"
                with m.Elif(~walker.valid & empties):
                    m.d.sync += done.eq(1)
                    m.next = "IDLE"
            with m.State("STOP"):
                m.d.comb += [reading.eq(1), stopping.eq(1)]
                with m.If(empties):
                    m.next = "ERROR"
            with m.State("ERROR"):
                m.d.comb += [unit.busy.eq(0), unit.error.eq(1)]
        # No bus waits for this unit, so to abort is to reset.
        return ResetInserter(unit.abort)(m)

    def _operand(self, m: Module, name: str, enable: Value, target: Any) -> StreamReader:
        """Give the datapath the stream B or C, rows of float32 or int32 words, and return its reader."""
        words = data.ArrayLayout(32, self.config.vector_lanes)
        m.submodules[f"{name}_reader"] = reader = StreamReader(self.config)
        m.submodules[f"{name}_queue"] = queue = SliceQueue(shape=words)
        connect(m, ours=wiring.flipped(getattr(self, f"read_{name}")), theirs=reader.read)
        connect(m, queue=queue.o, target=target)
        m.d.comb += [
            reader.element.eq(Element.WORD),
            reader.ask.eq(queue.ask & enable),
            queue.shown.eq(reader.shown),
            Value.cast(queue.p).eq(Value.cast(reader.p.words)),
        ]
        return reader
