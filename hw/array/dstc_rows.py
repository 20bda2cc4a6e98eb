"""Activations of the dual-side sparse engine: rows in, columns of one k out."""

from itertools import pairwise
from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.array.dstc_sequencer import dstc_chunk_layout
from hw.array.tile import advance
from hw.config import AcceleratorConfig
from hw.engines.dstc import dstc_chunk, dstc_tokens
from hw.isa import ErrorCause
from hw.memory.vfmu import VariableFetch
from hw.ports import ErrorReport, ScratchpadReadPort

__all__ = ["DstcRows"]


class DstcRows(wiring.Component):
    """Reads a slice of each token's row, one a cycle, into a bank of registers, of which columns are picked.

    Rows begin at any byte; the first slice of a row that crosses a line takes two cycles. What was read `latency` cycles ago is
    in the bank.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    start : In(1), chunk : In(`dstc_chunk_layout`), bank : In(1)
        Begin with a chunk in the next cycle, for this bank.
    read : Out(ScratchpadReadPort)
    halt : In(1)
        Request nothing.
    done : Out(1)
        Level: all is asked for, with this cycle.
    occupied : Out(2 × k of a chunk)
        Which k of each bank have an activation that is not zero.
    pick_bank : In(1), pick : In(range(k of a chunk)), column : Out(tokens × signed(8))
    fault : Out(1), report : Out(ErrorReport)
        Level: the next slice is outside the scratchpad, or its row outside the accumulator.
    """

    latency = VariableFetch.latency + 1

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.size, self.tokens = dstc_chunk(config), dstc_tokens(config)
        super().__init__({
            "start": In(1),
            "chunk": In(dstc_chunk_layout(config)),
            "bank": In(1),
            "read": Out(ScratchpadReadPort(config)),
            "halt": In(1),
            "done": Out(1),
            "occupied": Out(data.ArrayLayout(self.size, 2)),
            "pick_bank": In(1),
            "pick": In(range(self.size)),
            "column": Out(data.ArrayLayout(signed(8), self.tokens)),
            "fault": Out(1),
            "report": Out(ErrorReport),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        m.submodules.fetch = fetch = VariableFetch(config, streams=self.tokens, groups=1, group_bytes=self.size)
        connect(m, fetch=fetch.read, scratchpad=flipped(self.read))
        chunk = Signal(dstc_chunk_layout(config))
        address, acc = Signal(chunk.activation_addr.shape()), Signal(chunk.acc_addr.shape())
        bank, token, left = Signal(), Signal(range(self.tokens)), Signal(range(self.tokens + 1))
        beyond = address.overflow | (address.value + chunk.depth > config.scratchpad_bytes)
        beyond_acc = acc.overflow | (acc.value >= config.accumulator_rows)
        m.d.comb += [
            fetch.valid.eq((left != 0) & ~self.fault & ~self.halt), fetch.fresh.eq(chunk.fresh), fetch.stream.eq(token),
            fetch.addr.eq(address.value), fetch.count.eq(chunk.depth),
            self.done.eq((left == 0) | (fetch.ready & (left == 1))),
            self.fault.eq((left != 0) & (beyond | beyond_acc)),
            self.report.cause.eq(ErrorCause.ACCUMULATOR_RANGE), self.report.addr.eq(acc),
        ]
        with m.If(beyond):
            m.d.comb += [self.report.cause.eq(ErrorCause.SCRATCHPAD_RANGE), self.report.addr.eq(address)]
        with m.If(fetch.ready):
            m.d.sync += [address.eq(advance(address, chunk.activation_stride)), acc.eq(advance(acc, Const(1))),
                         token.eq(token + 1), left.eq(left - 1)]
        with m.If(self.start):
            m.d.sync += [chunk.eq(self.chunk), address.eq(self.chunk.activation_addr), acc.eq(self.chunk.acc_addr),
                         bank.eq(self.bank), token.eq(0), left.eq(self.chunk.tokens)]

        place = data.StructLayout({"valid": 1, "bank": 1, "token": token.shape()})
        arriving = [Signal(place, name=f"arriving_{stage}") for stage in range(fetch.latency)]
        m.d.sync += [arriving[0].valid.eq(fetch.ready), arriving[0].bank.eq(bank), arriving[0].token.eq(token),
                     *(later.eq(earlier) for earlier, later in pairwise(arriving))]
        there = arriving[-1]
        values = fetch.o[0]
        for number in (0, 1):
            with m.If(there.valid & (there.bank == number)):
                found = Cat(values[k] != 0 for k in range(self.size))
                m.d.sync += self.occupied[number].eq(self.occupied[number] | found)
            with m.If(self.start & (self.bank == number)):
                m.d.sync += self.occupied[number].eq(0)
        for index in range(self.tokens):
            rows = []
            for number in (0, 1):
                row = Signal(values.shape(), name=f"row_{index}_{number}", reset_less=True)
                with m.If(there.valid & (there.bank == number) & (there.token == index)):
                    m.d.sync += row.eq(values)
                rows += [row[k] for k in range(self.size)]
            m.d.comb += self.column[index].eq(Array(rows)[Cat(self.pick, self.pick_bank)])
        return m
