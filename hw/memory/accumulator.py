"""The accumulator: banked rows of psums with a saturating read-modify-write in every cycle."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig, ceil_log2
from hw.memory.float_accumulator_lane import FloatAccumulatorLane
from hw.ports import AccumulatorReadPort, AccumulatorWritePort
from hw.protect.memory import bank_name, bank_of
from hw.share import shared

__all__ = ["Accumulator", "AccumulatorLane"]


class AccumulatorLane(wiring.Component):
    """One column's adder: a psum, the word that its row held, and in between a register for the latter.

    Latency 2 cycles, initiation interval 1: the psum is taken, one cycle later the old word, and in the next one the sum is
    there, saturated. So neither the memory's access nor the adder waits for the other.

    Parameters
    ----------
    psum_width, acc_width : int
        Bits of the psum and of the accumulator word, both signed; either may be the wider one.

    Members
    -------
    psum : In(signed(psum_width))
        What to add.
    accumulate, again : In(1), old : In(signed(acc_width))
        One cycle after the psum: whether to add to what the row held, else to zero; whether that is the sum that `result` has in
        this cycle, else it is `old`.
    result : Out(signed(acc_width)), saturated : Out(1)
        The word to write, two cycles after the psum, and whether it was clipped.
    """

    latency = 2

    def __init__(self, *, psum_width: int, acc_width: int):
        self.psum_width = psum_width
        self.acc_width = acc_width
        super().__init__({
            "psum": In(signed(psum_width)),
            "accumulate": In(1),
            "again": In(1),
            "old": In(signed(acc_width)),
            "result": Out(signed(acc_width)),
            "saturated": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        waiting = Signal(signed(self.psum_width), name="psum_waiting", reset_less=True)
        psum = Signal(signed(self.psum_width), name="psum_register", reset_less=True)
        held = Signal(signed(self.acc_width), name="old_register", reset_less=True)
        total = Signal(signed(max(self.psum_width, self.acc_width) + 1))
        maximum = (1 << (self.acc_width - 1)) - 1

        m.d.sync += [waiting.eq(self.psum), psum.eq(waiting), held.eq(0)]
        with m.If(self.accumulate):
            m.d.sync += held.eq(Mux(self.again, self.result, self.old))
        m.d.comb += [total.eq(psum + held), self.result.eq(total)]
        with m.If(total > maximum):
            m.d.comb += [self.result.eq(maximum), self.saturated.eq(1)]
        with m.Elif(total < -maximum - 1):
            m.d.comb += [self.result.eq(-maximum - 1), self.saturated.eq(1)]
        return m


class Accumulator(wiring.Component):
    """Banked accumulator rows: overwrite or saturating add of one row in every cycle, and a second reader.

    The write port never stalls, also for the same row in successive cycles. A row that is valid in cycle t is written at the end
    of cycle t + 2 and seen by reads accepted from cycle t + 2 on (`latency`). The read port is refused in exactly those cycles
    in which the write port is valid with `accumulate` and addresses the same bank, whose read port it then needs; `ready` is
    combinational on both ports' valid and addr. Contents survive a reset.

    With floating-point activations words are float32 and none saturates (`FloatAccumulatorLane`): a row is written at the end of
    cycle t + 8, seen by reads accepted from cycle t + 8 on, and must not be added to before that. So engines let such rows pass
    at that distance.

    Parameters
    ----------
    config : AcceleratorConfig
        Gives `accumulator_banks` banks, one after the other in the address space; `psum_width`, `acc_width`, `columns`.

    Members
    -------
    write : In(AccumulatorWritePort)
    read : In(AccumulatorReadPort)
        Data come one cycle after acceptance.
    saturated : Out(1)
        Pulse for each row in which at least one word was clipped, two cycles after its valid.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.latency = FloatAccumulatorLane.latency if config.float_activations else AccumulatorLane.latency
        super().__init__({
            "write": In(AccumulatorWritePort(config)),
            "read": In(AccumulatorReadPort(config)),
            "saturated": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        rows, columns = config.accumulator_bank_rows, config.columns
        row_layout = data.ArrayLayout(signed(config.acc_width), columns)
        place = data.StructLayout({"row": ceil_log2(rows), "bank": ceil_log2(config.accumulator_banks)})
        reading, writing = data.View(place, self.read.addr), data.View(place, self.write.addr)

        width = columns * config.acc_width
        mechanism = config.protection_of("accumulator")
        banks = [bank_of(mechanism, word=config.acc_width, depth=rows, width=width, transparent=True)
                 for _ in range(config.accumulator_banks)]
        for index, bank in enumerate(banks):
            m.submodules[f"bank_{index}"] = shared(platform, bank_name(f"accumulator_bank_r{rows}_w{width}", mechanism), bank)
        if config.float_activations:
            name = "accumulator_lane_float32"
            lanes: list[Any] = [FloatAccumulatorLane() for _ in range(columns)]
        else:
            name = f"accumulator_lane_p{config.psum_width}_a{config.acc_width}"
            lanes = [AccumulatorLane(psum_width=config.psum_width, acc_width=config.acc_width) for _ in range(columns)]
        for index, lane in enumerate(lanes):
            m.submodules[f"lane_{index}"] = shared(platform, name, lane)

        needs_read = Signal()                   # the write port reads before it writes
        taken = Signal()                        # the read port's request is accepted
        m.d.comb += [
            needs_read.eq(self.write.valid & self.write.accumulate),
            self.read.ready.eq(self.read.valid & ~(needs_read & (reading.bank == writing.bank))),
            taken.eq(self.read.valid & self.read.ready),
        ]

        fetch = Signal()  # the second cycle of a row: what it held arrives
        accumulate = Signal()
        fetched = Signal(place)
        update = Signal()                       # the third: add and write
        updated = Signal(place)
        read_bank = Signal(range(config.accumulator_banks))
        adding, added = fetch, fetched.as_value()
        for stage in range(self.latency - AccumulatorLane.latency):
            valid, where = Signal(name=f"adding_{stage}"), Signal(len(added), name=f"added_{stage}")
            m.d.sync += [valid.eq(adding), where.eq(added)]
            adding, added = valid, where
        m.d.sync += [fetch.eq(self.write.valid), update.eq(adding), updated.eq(added)]
        with m.If(self.write.valid):
            m.d.sync += [fetched.eq(writing), accumulate.eq(self.write.accumulate)]
        with m.If(taken):
            m.d.sync += read_bank.eq(reading.bank)

        result = Signal(row_layout)
        for index, bank in enumerate(banks):
            with m.If(needs_read & (writing.bank == index)):
                m.d.comb += [bank.read_addr.eq(writing.row), bank.read_en.eq(1)]
            with m.Elif(taken & (reading.bank == index)):
                m.d.comb += [bank.read_addr.eq(reading.row), bank.read_en.eq(1)]
            m.d.comb += [
                bank.write_addr.eq(updated.row),
                bank.write_data.eq(result),
                bank.write_en.eq(update & (updated.bank == index)),
            ]

        # The bank itself shows a write of the cycle in which it was read, but not one of the cycle after.
        old = Signal(row_layout)
        again = Signal()
        m.d.comb += [
            old.eq(Array(bank.read_data for bank in banks)[fetched.bank]),
            again.eq(update & (updated == fetched)),
            self.read.data.eq(Array(bank.read_data for bank in banks)[read_bank]),
        ]
        if not config.float_activations:
            m.d.comb += self.saturated.eq(update & Cat(lane.saturated for lane in lanes).any())
        for index, lane in enumerate(lanes):
            m.d.comb += [
                lane.psum.eq(self.write.data[index]),
                lane.accumulate.eq(accumulate),
                *([] if config.float_activations else [lane.again.eq(again)]),
                lane.old.eq(old[index]),
                result[index].eq(lane.result),
            ]
        return m
