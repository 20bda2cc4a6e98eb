"""What a vector command uses: the choices that the blocks of the unit share."""

from typing import Any

from amaranth import *
from amaranth.lib import data

from hw.config import AcceleratorConfig
from hw.isa import RowUse, StreamUse, VectorOutput, VectorSource
from hw.vector.address import Element

__all__ = ["USE_LAYOUT", "use_of"]

USE_LAYOUT = data.StructLayout({
    "n": 16,                # columns: 1 where rows have one element
    "accumulator": 1,       # source of a
    "a": 1,                 # a comes from the scratchpad
    "a_element": 2,         # an `Element`
    "a_scalar": 1,          # one word a row
    "b": 1,
    "c": 1,
    "row0": 1,
    "row1": 1,
    "sum": 1,
    "max": 1,
    "output": 1,            # something is written to the scratchpad
    "element": 2,           # an `Element`, of the output
    "scalar": 1,            # one word of each row is written
})
"""Members of what `use_of` returns."""


def use_of(m: Module, config: AcceleratorConfig, command: Any) -> Any:
    """Return a signal of `USE_LAYOUT` that says what `command` uses; what `config` leaves out is 0."""
    use = Signal(USE_LAYOUT, name="use")
    m.d.comb += [
        use.n.eq(command.n),
        use.b.eq(command.b_en),
        use.c.eq(command.c_use != StreamUse.NONE),
        use.output.eq(1),
        use.element.eq(Element.BYTE),
        use.accumulator.eq(1),
    ]
    if config.vector == "requantize":
        return use
    one_element = (command.source == VectorSource.ROW) | (command.source == VectorSource.SCALAR)
    m.d.comb += [
        use.n.eq(Mux(one_element, 1, command.n)),
        use.accumulator.eq(command.source == VectorSource.ACCUMULATOR),
        use.a.eq((command.source != VectorSource.ACCUMULATOR) & (command.source != VectorSource.ROW)),
        use.a_scalar.eq(command.source == VectorSource.SCALAR),
        use.row0.eq(command.row0_en | (command.source == VectorSource.ROW)),
        use.row1.eq(command.row1_use != RowUse.NONE),
        use.sum.eq(command.sum != 0),
        use.max.eq(command.max != 0),
        use.output.eq(command.output != VectorOutput.NONE),
        use.scalar.eq(command.output == VectorOutput.SCALAR),
        use.a_element.eq(Element.WORD),
        use.element.eq(Element.WORD),
    ]
    for chosen, kinds, field in ((use.a_element, VectorSource, command.source), (use.element, VectorOutput, command.output)):
        with m.If(field == kinds.INT8):
            m.d.comb += chosen.eq(Element.BYTE)
        with m.Elif(field == kinds.UINT4):
            m.d.comb += chosen.eq(Element.NIBBLE)
    return use
