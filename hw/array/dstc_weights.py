"""Weights of the dual-side sparse engine: slots or packed records in, packed vectors of one k out."""

from itertools import pairwise
from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.array.compactor import Compactor
from hw.array.dstc_sequencer import dstc_chunk_layout
from hw.array.dual_side import side_layout
from hw.array.tile import advance
from hw.config import AcceleratorConfig, ceil_log2
from hw.engines.dstc import MASKED, dstc_chunk, dstc_records
from hw.isa import ErrorCause
from hw.memory.bank import MemoryBank
from hw.memory.vfmu import VariableFetch
from hw.ports import ErrorReport, ScratchpadReadPort

__all__ = ["DstcWeights"]


class DstcWeights(wiring.Component):
    """Reads a chunk's weights into a bank of packed vectors: one k a cycle; of packed records first the masks, 8 k a cycle.

    Plain weights are packed on their way in. Values of a record lie one after the other, and so begin anywhere in a line. What
    was read `latency` cycles ago is in the bank.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    start : In(1), chunk : In(`dstc_chunk_layout`), bank : In(1)
        Begin with a chunk in the next cycle, for this bank; what is not `fresh` goes on where the last one ended.
    read : Out(ScratchpadReadPort)
    halt : In(1)
        Request nothing.
    done : Out(1)
        Level: all is asked for, with this cycle.
    occupied : Out(2 × k of a chunk)
        Which k of each bank have a weight that is not zero.
    pick_en : In(1), pick_bank : In(1), pick : In(range(k of a chunk)), vector : Out(side_layout(C))
        In the cycle after `pick_en`, until the next one.
    fault : Out(1), report : Out(ErrorReport)
        Level: the next slice is outside the scratchpad, or masks tell of more values than a record has room for.
    """

    latency = VariableFetch.latency + Compactor.latency + 1

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.size, self.columns = dstc_chunk(config), config.columns
        super().__init__({
            "start": In(1),
            "chunk": In(dstc_chunk_layout(config)),
            "bank": In(1),
            "read": Out(ScratchpadReadPort(config)),
            "halt": In(1),
            "done": Out(1),
            "occupied": Out(data.ArrayLayout(self.size, 2)),
            "pick_en": In(1),
            "pick_bank": In(1),
            "pick": In(range(self.size)),
            "vector": Out(side_layout(self.columns)),
            "fault": Out(1),
            "report": Out(ErrorReport),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config, columns = self.config, self.columns
        m.submodules.fetch = fetch = VariableFetch(config, streams=2, groups=1, group_bytes=columns)
        connect(m, fetch=fetch.read, scratchpad=flipped(self.read))
        chunk = Signal(dstc_chunk_layout(config))
        bank, position = Signal(), Signal(range(self.size))
        left = Signal(range(self.size + 1))                         # k that are not asked for
        slot = Signal(chunk.weight_addr.shape())                    # the next plain slot, or the next masks
        packed = chunk.mode != 0
        asked = {"valid": 1, "mask": 1, "group": range(self.size // MASKED), "bank": 1, "k": position.shape(), "packed": 1,
                 "bits": columns, "columns": chunk.columns.shape()}
        stages = [Signal(data.StructLayout(asked), name=f"arriving_{stage}") for stage in range(fetch.latency + 1)]
        first = stages[0]
        outside = slot.overflow | (slot.value >= config.scratchpad_bytes)
        m.d.comb += [
            first.bank.eq(bank), first.k.eq(position), first.columns.eq(chunk.columns), first.packed.eq(packed),
            fetch.addr.eq(slot.value), fetch.count.eq(Mux(packed, columns, chunk.columns)), fetch.fresh.eq(1),
            self.report.addr.eq(slot), self.report.cause.eq(ErrorCause.SCRATCHPAD_RANGE),
        ]
        m.d.sync += [later.eq(earlier) for earlier, later in pairwise(stages)]
        ready, step = Signal(), Signal()                            # a k is asked for
        with m.If(~packed & (left != 0)):
            m.d.comb += [fetch.valid.eq(~outside & ~self.halt), step.eq(fetch.ready), first.valid.eq(fetch.ready),
                         self.fault.eq(outside)]
            with m.If(fetch.ready):
                m.d.sync += slot.eq(advance(slot, chunk.weight_stride))
        if config.weight_formats:
            self._packed(m, fetch, chunk, left, slot, outside, stages, step)
        with m.If(step):
            m.d.sync += [position.eq(position + 1), left.eq(left - 1)]
        m.d.comb += [ready.eq(left == 0), self.done.eq(ready | (step & (left == 1)))]
        with m.If(self.start):
            m.d.sync += [chunk.eq(self.chunk), bank.eq(self.bank), position.eq(0), left.eq(self.chunk.depth)]
            with m.If(self.chunk.fresh):
                m.d.sync += slot.eq(self.chunk.weight_addr)
        self._keep(m, fetch, stages[-1])
        return m

    def _packed(self, m: Module, fetch: VariableFetch, chunk: data.View, left: Signal, slot: data.View, outside: Value,
                stages: list[Signal], step: Signal) -> None:
        """Ask for the masks of a chunk, then for the values of each k, as many as its mask has."""
        config, columns, first = self.config, self.columns, stages[0]
        records = dstc_records(config)
        most_k = max(record.k for record in records)
        masks, room = Signal(range(most_k * columns // 8 + 1)), Signal(range(max(r.room(columns) for r in records) + 1))
        inputs = Signal(range(most_k + 1))
        for mode, record in enumerate(records, 1):
            with m.If(chunk.mode == mode):
                m.d.comb += [inputs.eq(record.k), masks.eq(record.masks(columns)), room.eq(record.room(columns))]
        group, groups_left = Signal(range(self.size // MASKED)), Signal(range(self.size // MASKED + 1))
        mask_k, value_k = Signal(range(most_k + 1)), Signal(range(most_k + 1))      # of the record, that went before
        used = Signal(range(max(record.room(columns) for record in records) + 1))
        value = Signal(chunk.weight_addr.shape())                                   # the next value
        bits = [Signal(columns, name=f"mask_{k}", reset_less=True) for k in range(self.size)]
        there = Signal(self.size // MASKED)

        # The next k's mask, and how many values it tells of, a cycle ahead.
        ahead, ahead_valid, ahead_bits = Signal(range(self.size + 1)), Signal(), Signal(columns)
        ahead_count = Signal(range(columns + 1))
        of = ahead[:ceil_log2(self.size)]
        take = Signal()
        with m.If(~ahead_valid | take):
            known = (ahead < chunk.depth) & there.bit_select(of[ceil_log2(MASKED):], 1)
            m.d.sync += [ahead_valid.eq(known), ahead_bits.eq(Array(bits)[of]),
                         ahead_count.eq(sum(Array(bits)[of], Const(0, 1)))]
            with m.If(known):
                m.d.sync += ahead.eq(ahead + 1)

        after = value.value + ahead_count
        beyond = (ahead_count != 0) & (value.overflow | (after > config.scratchpad_bytes))
        too_many = used + ahead_count > room
        with m.If((chunk.mode != 0) & (groups_left != 0)):
            m.d.comb += [fetch.valid.eq(~outside & ~self.halt), self.fault.eq(outside)]
            with m.If(fetch.ready):
                m.d.comb += [first.valid.eq(1), first.mask.eq(1), first.group.eq(group)]
                m.d.sync += [group.eq(group + 1), groups_left.eq(groups_left - 1), mask_k.eq(mask_k + MASKED),
                             slot.eq(advance(slot, Const(columns)))]
                with m.If(mask_k + MASKED == inputs):
                    m.d.sync += [mask_k.eq(0), slot.eq(advance(slot, columns + room))]
        with m.Elif((chunk.mode != 0) & (left != 0) & ahead_valid):
            m.d.comb += [
                fetch.valid.eq((ahead_count != 0) & ~beyond & ~too_many & ~self.halt), fetch.fresh.eq(used == 0),
                fetch.stream.eq(1), fetch.addr.eq(value.value), fetch.count.eq(ahead_count),
                step.eq(fetch.ready | ((ahead_count == 0) & ~self.halt)), take.eq(step), first.valid.eq(step),
                first.bits.eq(ahead_bits), self.fault.eq(beyond | too_many), self.report.addr.eq(value),
            ]
            with m.If(too_many):
                m.d.comb += self.report.cause.eq(ErrorCause.METADATA)
            with m.If(step):
                m.d.sync += [value_k.eq(value_k + 1), used.eq(used + ahead_count), value.eq(advance(value, ahead_count))]
                with m.If(value_k + 1 == inputs):
                    m.d.sync += [value_k.eq(0), used.eq(0), value.eq(advance(value, masks + room - used))]
        arrived = stages[-1]
        with m.If(arrived.valid & arrived.mask):
            m.d.sync += there.bit_select(arrived.group, 1).eq(1)
            for k in range(self.size):
                with m.If(arrived.group == k // MASKED):
                    low = k % MASKED * columns
                    m.d.sync += bits[k].eq(fetch.o[0].as_value()[low:low + columns])
        with m.If(self.start):
            m.d.sync += [group.eq(0), groups_left.eq((self.chunk.depth + MASKED - 1) >> ceil_log2(MASKED)), there.eq(0),
                         ahead.eq(0), ahead_valid.eq(0)]
            with m.If(self.chunk.fresh):
                m.d.sync += [mask_k.eq(0), value_k.eq(0), used.eq(0)]
                for mode, record in enumerate(records, 1):
                    with m.If(self.chunk.mode == mode):
                        m.d.sync += value.eq(advance(self.chunk.weight_addr, Const(record.masks(columns))))

    def _keep(self, m: Module, fetch: VariableFetch, arrived: data.View) -> None:
        """Pack plain weights, drop those beyond the last output, and put the vector into its bank."""
        columns = self.columns
        m.submodules.compactor = compactor = Compactor(lanes=columns)
        values = fetch.o[0]
        inside = Cat(c < arrived.columns for c in range(columns))
        nonzero = Cat(values[c] != 0 for c in range(columns))
        mask = Signal(columns)
        write = Signal(data.StructLayout({"valid": 1, "bank": 1, "k": arrived.k.shape(), "mask": columns}))
        m.d.comb += [
            mask.eq(Mux(arrived.packed, arrived.bits, nonzero) & inside),
            compactor.en.eq(1), compactor.keep.eq(Mux(arrived.packed, ~C(0, columns), nonzero)),
            *(compactor.i[c].eq(values[c]) for c in range(columns)),
        ]
        m.d.sync += [write.valid.eq(arrived.valid & ~arrived.mask), write.bank.eq(arrived.bank), write.k.eq(arrived.k),
                     write.mask.eq(mask)]
        bank = MemoryBank(depth=2 * self.size, width=self.vector.shape().size)
        m.submodules.vectors = bank
        word = Signal(self.vector.shape())
        m.d.comb += [
            word.mask.eq(write.mask), word.values.eq(compactor.o), bank.write_data.eq(word),
            bank.write_addr.eq(Cat(write.k, write.bank)), bank.write_en.eq(write.valid),
            bank.read_addr.eq(Cat(self.pick, self.pick_bank)), bank.read_en.eq(self.pick_en), self.vector.eq(bank.read_data),
        ]
        for number in (0, 1):
            with m.If(write.valid & (write.bank == number)):
                m.d.sync += self.occupied[number].bit_select(write.k, 1).eq(write.mask.any())
            with m.If(self.start & (self.bank == number)):
                m.d.sync += self.occupied[number].eq(0)
