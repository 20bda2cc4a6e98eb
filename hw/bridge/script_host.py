"""A host that plays a script: registers written and read, the interrupt awaited, no software."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

from amaranth import *
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.config import ceil_log2
from hw.ports import AxiLitePort
from hw.regs import REGISTER_SPACE

__all__ = ["SCRIPT_STEPS", "STEP", "ScriptHost", "Step"]

SCRIPT_STEPS = 64


class Step(IntEnum):
    """What a step of the script does."""

    END = 0                 # `done` rises
    WRITE = 1               # `value` to the register at `addr`
    WAIT = 2                # until the interrupt is high
    EXPECT_NO_ERROR = 3     # read `addr`; any bit of the mask `value` sets `detected`
    COUNT_CORRECTED = 4     # read `addr`; any bit of the mask `value` sets `corrected`


STEP = data.StructLayout({"value": 32, "addr": ceil_log2(REGISTER_SPACE), "step": 3})
"""A step of the script, as the memory `script` holds it."""


class ScriptHost(wiring.Component):
    """Plays the script that lies in its memory from word 0 on, one step after the other, once.

    Answers other than OKAY set `detected`: a driver would raise an exception.

    Parameters
    ----------
    script : sequence of (step, addr, value)
        What the memory holds at first. A script that something outside loads into it needs no hardware of its own.

    Members
    -------
    registers : In(AxiLitePort)
        Directions of the slave, so this is its master.
    irq : In(1)
    done : Out(1)
        High from the end of the script on.
    detected, corrected : Out(1)
        High from the cycle on in which a step has found one.
    """

    def __init__(self, script: Sequence[tuple[Step, int, int]] = ()) -> None:
        self._script = [STEP.const({"step": step, "addr": addr, "value": value}).as_value().value for step, addr, value in script]
        super().__init__({
            "registers": In(AxiLitePort(ceil_log2(REGISTER_SPACE))), "irq": In(1),
            "done": Out(1), "detected": Out(1), "corrected": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.script = script = memory.Memory(shape=STEP.size, depth=SCRIPT_STEPS, init=self._script)
        read = script.read_port()
        bus, step = self.registers, data.View(STEP, read.data)
        pc = Signal(range(SCRIPT_STEPS))
        addressed, written = Signal(), Signal()
        m.d.comb += [
            read.addr.eq(pc), read.en.eq(1),
            bus.awaddr.eq(step.addr), bus.araddr.eq(step.addr), bus.wdata.eq(step.value), bus.wstrb.eq(0b1111),
        ]

        def proceed() -> None:
            m.d.sync += pc.eq(pc + 1)
            m.next = "FETCH"

        with m.FSM(name="state"):
            with m.State("FETCH"):
                m.d.sync += [addressed.eq(0), written.eq(0)]
                m.next = "STEP"
            with m.State("STEP"):
                with m.Switch(step.step):
                    with m.Case(Step.WRITE):
                        m.d.comb += [bus.awvalid.eq(~addressed), bus.wvalid.eq(~written), bus.bready.eq(1)]
                        m.d.sync += [addressed.eq(addressed | bus.awready), written.eq(written | bus.wready)]
                        with m.If(bus.bvalid):
                            m.d.sync += self.detected.eq(self.detected | (bus.bresp != 0))
                            proceed()
                    with m.Case(Step.WAIT):
                        with m.If(self.irq):
                            proceed()
                    with m.Case(Step.EXPECT_NO_ERROR, Step.COUNT_CORRECTED):
                        m.d.comb += [bus.arvalid.eq(~addressed), bus.rready.eq(1)]
                        m.d.sync += addressed.eq(addressed | bus.arready)
                        with m.If(bus.rvalid):
                            found, bad = (bus.rdata & step.value).any(), bus.rresp != 0
                            with m.If(step.step == Step.EXPECT_NO_ERROR):
                                m.d.sync += self.detected.eq(self.detected | found | bad)
                            with m.Else():
                                m.d.sync += [self.corrected.eq(self.corrected | found), self.detected.eq(self.detected | bad)]
                            proceed()
                    with m.Default():
                        m.d.comb += self.done.eq(1)
        return m
