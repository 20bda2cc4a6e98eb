"""What all matrix engines do with commands: take them, refuse those that cannot be, stop at the first fault."""

from collections.abc import Iterable
from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.isa import Dataflow, ErrorCause, Unit
from hw.ports import ErrorReport, descriptor_layout
from hw.timing import ACCUMULATOR_LATENCY, FLOAT_ACCUMULATOR_LATENCY

__all__ = ["Rule", "cutter_members", "done_after_float_rows", "misaligned", "packed_rules", "refuse", "size_rule", "stop_at",
           "take_commands"]

Rule = tuple[Any, ErrorCause, Any]
"""(broken, cause, value to report)."""


def cutter_members(tile: data.StructLayout) -> dict[str, wiring.Member]:
    """Return the members of a block that cuts commands into tiles: both streams, a fault and its report, busy."""
    return {
        "i": In(stream.Signature(descriptor_layout(Unit.MATRIX))),
        "o": Out(stream.Signature(tile)),
        "fault": Out(1),
        "report": Out(ErrorReport),
        "busy": Out(1),
    }


def take_commands(m: Module, unit: Any, first: Any) -> Value:
    """Hand the unit's commands to the stream `first`, but after an error and during `abort`; return whether that is so."""
    closed = unit.error | unit.abort
    m.d.comb += [
        first.p.eq(unit.command.p), first.valid.eq(unit.command.valid & ~closed), unit.command.ready.eq(first.ready & ~closed),
    ]
    return closed


def stop_at(m: Module, unit: Any, fault: Any, report: Any) -> None:
    """Raise the unit's error at a fault of the oldest command that is not done; `abort` clears it."""
    with m.If(unit.abort):
        m.d.sync += unit.error.eq(0)
    with m.Elif(fault & ~unit.error):
        m.d.sync += [unit.error.eq(1), unit.report.eq(report)]


def done_after_float_rows(m: Module, unit: Any, valid: Any, ends: Any) -> Value:
    """Report commands done when their last row has been added in float32, later than in int32; return whether any row is not.

    Parameters
    ----------
    m : Module
    unit : interface of an engine
    valid : Value
        A row goes to the accumulators.
    ends : Value
        It is its command's last.
    """
    adding, ending = (Signal(FLOAT_ACCUMULATOR_LATENCY - ACCUMULATOR_LATENCY, name=name) for name in ("adding", "ending"))
    with m.If(unit.abort):
        m.d.sync += [adding.eq(0), ending.eq(0), unit.done.eq(0)]
    with m.Else():
        m.d.sync += [adding.eq(Cat(valid, adding)), ending.eq(Cat(valid & ends, ending)), unit.done.eq(ending[-1])]
    return adding.any()


def size_rule(command: data.View) -> Rule:
    """Return the rule that nothing is empty."""
    return (command.m == 0) | (command.n == 0) | (command.k == 0), ErrorCause.BAD_SIZE, Const(0)


def packed_rules(command: data.View) -> list[Rule]:
    """Return the rules of engines that have one dataflow and nothing to serialize."""
    return [size_rule(command), (command.dataflow != Dataflow.WS, ErrorCause.UNSUPPORTED, command.dataflow),
            (command.serialize, ErrorCause.UNSUPPORTED, command.serialize)]


def misaligned(value: Value, step: int) -> Rule:
    """Return the rule that an address or a stride is a multiple of a power of two."""
    return (value & (step - 1)) != 0, ErrorCause.MISALIGNED, value


def refuse(m: Module, rules: Iterable[Rule], report: Any) -> None:
    """Within a state of a machine: go to FAULT where a rule is broken; the first such one is reported."""
    for broken, cause, value in reversed(list(rules)):      # the last assignment wins, so the first rule does
        with m.If(broken):
            m.d.sync += [report.cause.eq(cause), report.addr.eq(value)]
            m.next = "FAULT"
