"""Starts and stops the accelerator, and remembers why it stopped."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.isa import SEQUENCER, ErrorCause

__all__ = ["Fault", "Supervisor"]

Fault = data.StructLayout({"valid": 1, "cause": 8, "unit": 3, "pc": 32, "addr": 32})
"""An error as somebody raises it: valid for one cycle or longer."""


class Supervisor(wiring.Component):
    """Doorbell, HALT, error stop, abort and watchdog.

    `start` is ignored while `busy`, `abort` while not running. While it runs, the first fault (in one cycle: the
    lowest-numbered, then abort, then the watchdog) is recorded; then everything is aborted, and when all is `drained`, `busy`
    falls and `error` rises. After HALT it waits for `drained` in the same way (an instruction line may be on its way), without
    abort, and `done` rises.

    Where the bus itself hangs, nothing drains: then, another watchdog limit later, `error` rises while `busy` stays high, so
    that the host learns of it, and no new start is taken until the bus has answered (or after a reset).

    Parameters
    ----------
    faults : int
        Sources of faults.

    Members
    -------
    start, abort : In(1)
        Pulses from the host.
    halted : In(1)
        HALT is executed.
    faults : array of In(Fault)
    pc : In(32)
        Instruction to record for abort and watchdog.
    progress : In(1), limit : In(32)
        The watchdog expires after `limit` successive cycles without progress; never if it is zero.
    drained : In(1)
        No unit and no fetch is busy.
    begin : Out(1)
        The start is taken in this cycle: clear everything; `run` follows.
    run : Out(1)
        Instructions and commands may proceed.
    stop : Out(1)
        Level: units must abort.
    busy, done, error : Out(1)
        As in STATUS.
    done_event, error_event : Out(1)
        Pulses, one cycle before `done` and `error` rise.
    record : Out(Fault)
        The recorded fault; `valid` since the fault, before `error` rises.
    """

    def __init__(self, faults: int):
        super().__init__({
            "start": In(1),
            "abort": In(1),
            "halted": In(1),
            "faults": In(Fault).array(faults),
            "pc": In(32),
            "progress": In(1),
            "limit": In(32),
            "drained": In(1),
            "begin": Out(1),
            "run": Out(1),
            "stop": Out(1),
            "busy": Out(1),
            "done": Out(1),
            "error": Out(1),
            "done_event": Out(1),
            "error_event": Out(1),
            "record": Out(Fault),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        quiet = Signal(32)
        expired = Signal()
        m.d.comb += expired.eq((self.limit != 0) & (quiet >= self.limit))

        faults = [*self.faults]
        for condition, cause in ((self.abort, ErrorCause.ABORTED), (expired, ErrorCause.WATCHDOG)):
            fault = Signal(Fault, name=cause.name.lower())
            m.d.comb += [fault.valid.eq(condition), fault.cause.eq(cause), fault.unit.eq(SEQUENCER), fault.pc.eq(self.pc)]
            faults.append(fault)
        first = Signal(Fault)
        for fault in reversed(faults):
            with m.If(fault.valid):
                m.d.comb += first.eq(fault)

        # A command handed over in the cycle of the fault makes its unit busy only in the next one.
        settled = Signal()
        restart_watchdog = Signal()
        with m.FSM(name="state"):
            with m.State("IDLE"):
                with m.If(self.start):
                    m.d.comb += self.begin.eq(1)
                    m.d.sync += [self.done.eq(0), self.error.eq(0), self.record.eq(0), settled.eq(0)]
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += [self.busy.eq(1), self.run.eq(1), restart_watchdog.eq(first.valid)]
                with m.If(first.valid):
                    m.d.sync += self.record.eq(first)
                    m.next = "STOP"
                with m.Elif(self.halted):
                    m.next = "STOP"
            with m.State("STOP"):
                m.d.comb += [self.busy.eq(1), self.stop.eq(self.record.valid)]
                m.d.sync += settled.eq(1)
                with m.If(settled & self.drained):
                    m.d.comb += [self.done_event.eq(~self.record.valid), self.error_event.eq(self.record.valid & ~self.error)]
                    m.next = "IDLE"
                with m.Elif(expired & ~self.error):
                    m.d.comb += self.error_event.eq(1)
                    with m.If(~self.record.valid):
                        m.d.sync += self.record.eq(first)
        with m.If(self.done_event):
            m.d.sync += self.done.eq(1)
        with m.If(self.error_event):
            m.d.sync += self.error.eq(1)

        with m.If(self.begin | self.progress | restart_watchdog):
            m.d.sync += quiet.eq(0)
        with m.Elif(self.busy & ~expired):
            m.d.sync += quiet.eq(quiet + 1)
        return m
