"""Checks what of a vector command does not depend on its slices."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig, ceil_log2, ceil_power_of_two
from hw.isa import ErrorCause, RowUse, StreamUse, Unit, VectorFunction, VectorOutput, VectorSource
from hw.ports import ErrorReport, descriptor_layout
from hw.vector.address import Element
from hw.vector.use import USE_LAYOUT

__all__ = ["CommandChecker"]

Rule = tuple[ErrorCause, Value, Value]
"""What is reported, cause and value, and the condition under which it is."""


class CommandChecker(wiring.Component):
    """Command checker: the first rule that a command breaks. Latency 1 cycle.

    Rules in their order: values that are not in their enumeration, or that need what others or `config.vector` exclude; m and n;
    alignment; row scalars.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    command : In(vector descriptor), use : In(USE_LAYOUT)
        Stable for two cycles.
    report : Out(ErrorReport)
        Of the command that was there in the last cycle; cause NONE when it breaks no rule.
    """

    latency = 1

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "command": In(descriptor_layout(Unit.VECTOR)),
            "use": In(USE_LAYOUT),
            "report": Out(ErrorReport),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        rules = [*self._values(), *self._sizes(), *self._row_ranges()]
        broken = Signal(len(rules), reset_less=True)
        m.d.sync += broken.eq(Cat(condition.bool() for _, _, condition in rules))
        for (cause, value, _), condition in reversed(list(zip(rules, broken, strict=True))):    # the first one is reported
            with m.If(condition):
                m.d.comb += [self.report.cause.eq(cause), self.report.addr.eq(value)]
        return m

    def _values(self) -> list[Rule]:
        """Return the rules about values and combinations of them."""
        command, config = self.command, self.config
        counts = (("source", len(VectorSource)), ("middle", 3 + config.range_restriction), ("function", len(VectorFunction)),
                  ("post", 3), ("sum", 3), ("max", 3), ("output", len(VectorOutput)))
        one_element = (command.source == VectorSource.ROW) | (command.source == VectorSource.SCALAR)
        of_one_element = (command.function == VectorFunction.RECIPROCAL) | (command.function == VectorFunction.RSQRT)
        rules = [(command[name], command[name] >= count) for name, count in counts]
        rules += [
            (command.function, of_one_element & ~one_element),
            (command.output, one_element & (command.output != VectorOutput.NONE) & (command.output != VectorOutput.SCALAR)),
            (command.b_en, one_element & command.b_en),
            (command.c_use, one_element & (command.c_use != StreamUse.NONE)),
        ]
        if config.vector_lanes == 1:
            rules += [(command.source, command.source == VectorSource.UINT4),
                      (command.output, command.output == VectorOutput.UINT4)]
        biased = command.c_use == StreamUse.BIAS
        rules += [(command.c_use, biased if config.float_activations else biased & (command.source != VectorSource.ACCUMULATOR)),
                  (command.post, (command.sum == 2) & (command.post != 0))]
        if config.vector == "requantize":
            only = {"source": VectorSource.ACCUMULATOR, "row0_en": 0, "row1_use": RowUse.NONE, "mask_en": 0,
                    "function": VectorFunction.IDENTITY, "post": 0, "sum": 0, "max": 0, "output": VectorOutput.INT8}
            rules += [(command[name], command[name] != value) for name, value in only.items()]
            rules += [(command.c_use, command.c_use > StreamUse.BIAS), (command.middle, command.middle == 1)]
        return [(ErrorCause.UNSUPPORTED, value, condition) for value, condition in rules]

    def _sizes(self) -> list[Rule]:
        """Return the rules about sizes and alignment."""
        command, use = self.command, self.use
        rules: list[Rule] = [(ErrorCause.BAD_SIZE, command[name], command[name] == 0) for name in ("m", "n")]
        streams = (
            (use.a, command.a_addr, command.a_stride, use.a_element, use.a_scalar),
            (use.b, command.b_addr, command.b_stride, Element.WORD, 0),
            (use.c, command.c_addr, command.c_stride, Element.WORD, 0),
            (use.output, command.addr, command.stride, use.element, use.scalar),
        )
        for used, addr, stride, element, scalar in streams:
            rules += [(ErrorCause.MISALIGNED, value, used & self._misaligned(value, element, scalar)) for value in (addr, stride)]
        return rules

    def _misaligned(self, value: Value, element: Any, scalar: Any) -> Value:
        """Return whether an address is not a multiple of a slice, or of 4 if it is a scalar's."""
        slots = ceil_power_of_two(self.config.vector_lanes)
        inside = [value[:ceil_log2(max(1, slots * kind.bits // 8))].any() for kind in Element]
        slice_inside = Mux(element == Element.WORD, inside[Element.WORD],
                           Mux(element == Element.BYTE, inside[Element.BYTE], inside[Element.NIBBLE]))
        return Mux(scalar, value[:2].any(), slice_inside)

    def _row_ranges(self) -> list[Rule]:
        """Return the rules about row scalars."""
        command, use = self.command, self.use
        if self.config.vector == "requantize":
            return []
        ranges = ((use.row0, command.row0_addr), (use.row1, command.row1_addr), (use.sum, command.sum_addr),
                  (use.max, command.max_addr))
        return [(ErrorCause.ROW_SCALAR_RANGE, first, used & (first + command.m > self.config.vector_rows))
                for used, first in ranges]
