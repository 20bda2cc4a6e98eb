"""The accumulator whose columns are written to rows of their own: where an engine's channels come in another order."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig, ceil_log2
from hw.memory.accumulator import AccumulatorLane
from hw.ports import AccumulatorReadPort, AccumulatorWritePort
from hw.protect.memory import bank_name, bank_of
from hw.share import shared

__all__ = ["LaneAccumulator"]


class LaneAccumulator(wiring.Component):
    """As `Accumulator`, each column in memories of its own, written at row `addr + offset` of the column.

    Timing is that of `Accumulator`. The read port is refused in those cycles in which the write port is valid with `accumulate`
    and one of its columns addresses the same bank.

    Parameters
    ----------
    config : AcceleratorConfig
        With `lane_rows`; else as for `Accumulator`.

    Members
    -------
    write : In(AccumulatorWritePort), read : In(AccumulatorReadPort)
    saturated : Out(1)
        Pulse for each row of the write port in which at least one word was clipped, two cycles after its valid.
    """

    latency = AccumulatorLane.latency

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "write": In(AccumulatorWritePort(config)),
            "read": In(AccumulatorReadPort(config)),
            "saturated": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        place = data.StructLayout({"row": ceil_log2(config.accumulator_bank_rows), "bank": ceil_log2(config.accumulator_banks)})
        reading = data.View(place, self.read.addr)
        needs_read, taken, fetch, update, accumulate = (Signal(name=name) for name in (
            "needs_read", "taken", "fetch", "update", "accumulate"))
        read_bank = Signal(range(config.accumulator_banks))
        m.d.comb += needs_read.eq(self.write.valid & self.write.accumulate)
        m.d.sync += [fetch.eq(self.write.valid), update.eq(fetch)]
        with m.If(self.write.valid):
            m.d.sync += accumulate.eq(self.write.accumulate)
        with m.If(taken):
            m.d.sync += read_bank.eq(reading.bank)
        conflicts, saturated = [], []
        for column in range(config.columns):
            writing = Signal(place, name=f"writing_{column}")
            m.d.comb += writing.as_value().eq(self.write.addr + self.write.offset[column])
            conflicts.append(writing.bank == reading.bank)
            lane, data_read = self._lane(m, platform, column, writing, reading, needs_read, taken, fetch, update, accumulate)
            m.d.comb += self.read.data[column].eq(Array(data_read)[read_bank])
            saturated.append(lane.saturated)
        m.d.comb += [
            self.read.ready.eq(self.read.valid & ~(needs_read & Cat(conflicts).any())),
            taken.eq(self.read.valid & self.read.ready),
            self.saturated.eq(update & Cat(saturated).any()),
        ]
        return m

    def _lane(self, m: Module, platform: Any, column: int, writing: data.View, reading: data.View, needs_read: Signal,
              taken: Signal, fetch: Signal, update: Signal, accumulate: Signal) -> tuple[AccumulatorLane, list[Value]]:
        """Build a column: its banks and its adder; return this, and what the banks show."""
        config = self.config
        mechanism, rows, width = config.protection_of("accumulator"), config.accumulator_bank_rows, config.acc_width
        lane = AccumulatorLane(psum_width=config.psum_width, acc_width=width)
        m.submodules[f"lane_{column}"] = shared(platform, f"accumulator_lane_p{config.psum_width}_a{width}", lane)
        fetched, updated = (Signal(writing.shape(), name=f"{name}_{column}") for name in ("fetched", "updated"))
        m.d.sync += updated.eq(fetched)
        with m.If(self.write.valid):
            m.d.sync += fetched.eq(writing)
        shown = []
        for index in range(config.accumulator_banks):
            bank = bank_of(mechanism, word=width, depth=rows, width=width, transparent=True)
            name = bank_name(f"accumulator_bank_r{rows}_w{width}", mechanism)
            m.submodules[f"bank_{index}_lane_{column}"] = shared(platform, name, bank)
            with m.If(needs_read & (writing.bank == index)):
                m.d.comb += [bank.read_addr.eq(writing.row), bank.read_en.eq(1)]
            with m.Elif(taken & (reading.bank == index)):
                m.d.comb += [bank.read_addr.eq(reading.row), bank.read_en.eq(1)]
            m.d.comb += [bank.write_addr.eq(updated.row), bank.write_data.eq(lane.result),
                         bank.write_en.eq(update & (updated.bank == index))]
            shown.append(bank.read_data)
        m.d.comb += [
            lane.psum.eq(self.write.data[column]), lane.accumulate.eq(accumulate),
            # The bank itself shows a write of the cycle in which it was read, but not one of the cycle after.
            lane.again.eq(update & (updated == fetched)), lane.old.eq(Array(shown)[fetched.bank]),
        ]
        return lane, shown
