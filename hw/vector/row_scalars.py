"""The row scalars: a memory of float32 words, two of each row read and two written."""

from typing import Any

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig
from hw.isa import Unit
from hw.ports import descriptor_layout
from hw.protect.memory import bank_name, bank_of
from hw.share import shared
from hw.vector.layouts import RowResult
from hw.vector.slice_queue import SliceQueue
from hw.vector.use import USE_LAYOUT

__all__ = ["RowScalars"]


class RowScalars(wiring.Component):
    """Row scalars: row0 and row1 of each row of a command in order, sums and maxima of its rows back into the memory.

    Each of the two streams has a copy of the memory and reads ahead, one row a cycle. A scalar is written in the cycle after it
    came, a maximum in the one after that if a sum came with it; commands with both keep their rows two cycles apart. Contents are
    undefined after power-up and survive a reset.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    command : In(vector descriptor), use : In(USE_LAYOUT)
        Stable from `start` on.
    start : In(1)
        Begin a command: row 0 is asked for in the next cycle.
    row0, row1 : Out(stream of 32 bits)
        Of each row that the command has, if it uses them.
    sums, maxima : In(RowResult)
        Of row after row.
    empties : Out(1)
        Every scalar that has come is written by the end of this cycle.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "command": In(descriptor_layout(Unit.VECTOR)),
            "use": In(USE_LAYOUT),
            "start": In(1),
            "row0": Out(stream.Signature(32)),
            "row1": Out(stream.Signature(32)),
            "sums": In(RowResult),
            "maxima": In(RowResult),
            "empties": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        command, depth = self.command, self.config.vector_rows
        mechanism = self.config.protection_of("fifos")
        waiting = []                                        # whether, what and where to write
        for name, result in (("sum", self.sums), ("maximum", self.maxima)):
            waits = Signal(name=f"{name}_waits")
            value = Signal(32, name=f"{name}_value", reset_less=True)
            addr = Signal(range(depth), name=f"{name}_addr", reset_less=True)
            waiting.append((waits, value, addr))
            with m.If(result.valid):
                m.d.sync += value.eq(result.value)
        (sum_waits, sum_value, sum_addr), (maximum_waits, maximum_value, maximum_addr) = waiting
        m.d.sync += [
            sum_waits.eq(self.sums.valid),
            maximum_waits.eq(self.maxima.valid | (maximum_waits & sum_waits)),
        ]
        with m.If(self.start):
            m.d.sync += [sum_addr.eq(command.sum_addr), maximum_addr.eq(command.max_addr)]
        with m.Elif(sum_waits):
            m.d.sync += sum_addr.eq(sum_addr + 1)
        with m.Elif(maximum_waits):
            m.d.sync += maximum_addr.eq(maximum_addr + 1)
        m.d.comb += self.empties.eq(~(sum_waits & maximum_waits) & ~self.sums.valid & ~self.maxima.valid)

        for name, used, origin, port in (("row0", self.use.row0, command.row0_addr, self.row0),
                                         ("row1", self.use.row1, command.row1_addr, self.row1)):
            bank = bank_of(mechanism, word=32, depth=depth, width=32)
            m.submodules[f"{name}_bank"] = shared(platform, bank_name(f"row_scalars_bank_r{depth}", mechanism), bank)
            m.submodules[f"{name}_queue"] = queue = SliceQueue(shape=32)
            wiring.connect(m, queue=queue.o, port=wiring.flipped(port))
            addr = Signal(range(depth), name=f"{name}_addr", reset_less=True)
            left = Signal(16, name=f"{name}_left")          # rows to be asked for
            m.d.comb += [
                bank.write_addr.eq(Mux(sum_waits, sum_addr, maximum_addr)),
                bank.write_data.eq(Mux(sum_waits, sum_value, maximum_value)),
                bank.write_en.eq(sum_waits | maximum_waits),
                bank.read_addr.eq(addr),
                bank.read_en.eq(queue.ask & (left != 0)),
                queue.p.eq(bank.read_data),
            ]
            m.d.sync += queue.shown.eq(bank.read_en)
            with m.If(self.start):
                m.d.sync += [addr.eq(origin), left.eq(Mux(used, command.m, 0))]
            with m.Elif(bank.read_en):
                m.d.sync += [addr.eq(addr + 1), left.eq(left - 1)]
        return m
