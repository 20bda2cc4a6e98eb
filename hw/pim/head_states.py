"""(m, l) of the heads of a softmax unit: read, written at once or later, cleared."""

from typing import Any

from amaranth import *
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hw.errors import ConfigError

__all__ = ["HeadStates", "state_layout"]

_MINUS_INFINITY = 0xFF80_0000


def state_layout() -> data.StructLayout:
    """Return the layout of what a row of a head has: l and m, float32."""
    return data.StructLayout({"l": 32, "m": 32})


class HeadStates(wiring.Component):
    """Memory of states, one of which may be owed: it comes later, unless its head is cleared before.

    Parameters
    ----------
    heads, rows : int

    Members
    -------
    head : In(8), o : Out(rows × `state_layout`)
        States of that head, in the next cycle.
    put : In(1), to : In(8), data : In(rows × `state_layout`)
        Write them; not while a state is pending.
    owed : In(1)
        That of head `to` will come with `late`; not while one is pending.
    late : In(1), late_data : In(rows × `state_layout`)
        Here it is; the data hold in the cycles after this one too.
    pending : Out(1)
        What is owed is not there.
    clear : In({valid: 1, head: 8})
        The head has seen nothing.

    Raises
    ------
    ConfigError
        If there are no heads or rows.
    """

    def __init__(self, *, heads: int, rows: int):
        for name, value in (("heads", heads), ("rows", rows)):
            if value < 1:
                raise ConfigError(f"HeadStates.{name} must be at least 1, not {value!r}")
        self._heads, self._rows = heads, rows
        states = data.ArrayLayout(state_layout(), rows)
        super().__init__({
            "head": In(8), "o": Out(states), "put": In(1), "to": In(8), "data": In(states), "owed": In(1), "late": In(1),
            "late_data": In(states), "pending": Out(1), "clear": In(wiring.Signature({"valid": Out(1), "head": Out(8)})),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.states = states = memory.Memory(shape=self.o.shape(), depth=self._heads, init=[])
        write, read = states.write_port(), states.read_port()
        debtor, cancelled, arrived = Signal(8), Signal(), Signal()
        takes = arrived & ~self.clear.valid
        m.d.comb += [
            read.addr.eq(self.head), read.en.eq(1), self.o.eq(read.data), write.en.eq(self.clear.valid | self.put),
            write.addr.eq(self.to), write.data.eq(self.data),
        ]
        with m.If(self.owed):
            m.d.sync += [debtor.eq(self.to), self.pending.eq(1), cancelled.eq(0)]
        with m.If(self.late):
            m.d.sync += arrived.eq(1)
        with m.If(takes):
            m.d.comb += [write.addr.eq(debtor), write.data.eq(self.late_data), write.en.eq(~cancelled)]
            m.d.sync += [arrived.eq(0), self.pending.eq(0)]
        with m.If(self.clear.valid):
            m.d.comb += write.addr.eq(self.clear.head)
            for row in range(self._rows):
                m.d.comb += [write.data[row].l.eq(0), write.data[row].m.eq(_MINUS_INFINITY)]
            with m.If(self.clear.head == debtor):
                m.d.sync += cancelled.eq(1)
        return m
