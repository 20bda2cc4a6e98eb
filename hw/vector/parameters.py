"""Keeps the bias and scale of each column of a group."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.floating import float_layout
from hw.config import AcceleratorConfig, ceil_div, ceil_log2
from hw.elements import FP32
from hw.isa import ErrorCause, Unit
from hw.ports import ErrorReport, ScratchpadReadPort, descriptor_layout

__all__ = ["ParameterStore"]

WORD_BYTES = 4


class ParameterStore(wiring.Component):
    """Parameter store: C biases and C scales in registers, fetched for each group from the scratchpad, line by line.

    A command without bias gets zeros, one without scales per channel its one scale for every column, both at `start` and then
    for all its groups. A fetch of p lines takes p + 1 cycles, biases before scales. Each line's address is checked first;
    a line out of range is never asked for.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    command : In(vector descriptor)
        Stable from `start` on.
    start : In(1)
        Begin a command.
    fetch : In(1)
        Fetch the next group's parameters, while high; `done` or `fault` ends it.
    done : Out(1)
        The last line is on the port: the parameters are complete in the next cycle.
    fault : Out(1), report : Out(ErrorReport)
        The line to be fetched next is out of range; only with `fetch`, after all lines before it.
    read : ScratchpadReadPort
    bias : Out(C × signed(32)), scale : Out(C × float32)
        One for each column.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "command": In(descriptor_layout(Unit.VECTOR)),
            "start": In(1),
            "fetch": In(1),
            "done": Out(1),
            "fault": Out(1),
            "report": Out(ErrorReport),
            "read": Out(ScratchpadReadPort(config)),
            "bias": Out(data.ArrayLayout(signed(32), config.columns)),
            "scale": Out(data.ArrayLayout(float_layout(FP32), config.columns)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config, command = self.config, self.command
        line_log2 = ceil_log2(config.line_bytes)
        line_words = config.line_bytes // WORD_BYTES
        lines = ceil_div(config.columns, line_words)        # of a group's biases; padding lines of the slot are not read
        to_next_group = config.parameter_slot_bytes // config.line_bytes - (lines - 1)

        bias = Signal(data.ArrayLayout(signed(32), config.columns), reset_less=True)
        scale = Signal(data.ArrayLayout(float_layout(FP32), config.columns), reset_less=True)
        m.d.comb += [self.bias.eq(bias), self.scale.eq(scale)]

        # Requests: bias lines, then scale lines. The pointers have a bit more than an address, so that they cannot wrap.
        bias_pointer = Signal(25 - line_log2, reset_less=True)
        scale_pointer = Signal(25 - line_log2, reset_less=True)
        line = Signal(range(lines), reset_less=True)
        scales = Signal(reset_less=True)                    # what is being asked for: 0 biases, 1 scales
        asked = Signal()                                    # everything
        pointer, last_line, granted = Signal.like(bias_pointer), Signal(), Signal()
        step = Signal.like(pointer)
        m.d.comb += [
            pointer.eq(Mux(scales, scale_pointer, bias_pointer)),
            last_line.eq(line == lines - 1),
            step.eq(pointer + Mux(last_line, to_next_group, 1)),
            self.fault.eq(self.fetch & ~asked & (pointer >= config.scratchpad_lines)),
            self.report.cause.eq(ErrorCause.SCRATCHPAD_RANGE),
            self.report.addr.eq(pointer << line_log2),
            self.read.addr.eq(pointer),
            self.read.valid.eq(self.fetch & ~asked & ~self.fault),
            granted.eq(self.read.valid & self.read.ready),
        ]
        with m.If(self.start):
            m.d.sync += [
                bias_pointer.eq(command.bias_addr >> line_log2),
                scale_pointer.eq(command.scale_addr >> line_log2),
                line.eq(0),
                scales.eq(~command.bias_en),
            ]
        with m.Elif(granted):
            m.d.sync += line.eq(Mux(last_line, 0, line + 1))
            with m.If(scales):
                m.d.sync += scale_pointer.eq(step)
            with m.Else():
                m.d.sync += bias_pointer.eq(step)
            with m.If(last_line):
                m.d.sync += [
                    asked.eq(scales | ~command.per_channel),
                    scales.eq(Mux(scales, ~command.bias_en, command.per_channel)),
                ]

        # Data, one cycle after its request.
        filling = Signal()
        fill_scales = Signal(reset_less=True)
        fill_line = Signal.like(line, reset_less=True)
        m.d.sync += [filling.eq(granted), fill_scales.eq(scales), fill_line.eq(line)]
        m.d.comb += self.done.eq(filling & asked)
        with m.If(self.done):
            m.d.sync += asked.eq(0)
        with m.If(self.start & ~command.bias_en):
            m.d.sync += bias.eq(0)
        with m.If(self.start & ~command.per_channel):
            m.d.sync += Value.cast(scale).eq(command.scale.replicate(config.columns))
        for number in range(lines):
            columns = range(number * line_words, min((number + 1) * line_words, config.columns))
            with m.If(filling & (fill_line == number)):
                for column in columns:
                    word = self.read.data.word_select(column - columns.start, 8 * WORD_BYTES)
                    with m.If(fill_scales):
                        m.d.sync += Value.cast(scale[column]).eq(word)
                    with m.Else():
                        m.d.sync += bias[column].eq(word)
        return m
