"""Streams tokens past a tile of weights."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.array.hss_sequencer import hss_tile_layout
from hw.array.hss_shape import HssShape
from hw.array.tasd_shape import TasdShape
from hw.array.tile import advance, tag_layout
from hw.config import AcceleratorConfig
from hw.engines.hss import hss_tokens
from hw.isa import ErrorCause
from hw.memory.vfmu import VariableFetch
from hw.ports import ErrorReport, ScratchpadReadPort

__all__ = ["HssStreamer"]


class HssStreamer(wiring.Component):
    """Holds one tile and issues its tokens, one a cycle, each in the cycle in which the last of its reads is granted.

    Latency: the first token is issued in the cycle after the tile was taken, its slice is on `o` two cycles later. Initiation
    interval: a tile of T tokens every T cycles, since the next one is taken in the cycle of the last token.

    Parameters
    ----------
    config : AcceleratorConfig
    shape : HssShape or TasdShape

    Members
    -------
    i : In(stream of `hss_tile_layout`)
    read : Out(ScratchpadReadPort)
    issue : Out(1), tag : Out(`tag_layout`)
        A token is issued; where its results go.
    h0, sdq, cut : Out
        Of its mode.
    o : Out(groups × bytes × unsigned(8))
        The slice of the token issued two cycles ago.
    halt : In(1)
        Request nothing.
    loaded : Out(1)
        Holds a tile.
    fault : Out(1), report : Out(ErrorReport)
        Level: the next slice is outside the scratchpad, or its row outside the accumulator.
    """

    def __init__(self, config: AcceleratorConfig, shape: HssShape | TasdShape):
        self.config, self.shape = config, shape
        tile = hss_tile_layout(config)
        slices = data.ArrayLayout(data.ArrayLayout(unsigned(8), shape.group_bytes), shape.groups)
        super().__init__({
            "i": In(stream.Signature(tile)),
            "read": Out(ScratchpadReadPort(config)),
            "issue": Out(1),
            "tag": Out(tag_layout(config)),
            "h0": Out(tile["h0"].shape),
            "sdq": Out(1),
            "cut": Out(tile["cut"].shape),
            "o": Out(slices),
            "halt": In(1),
            "loaded": Out(1),
            "fault": Out(1),
            "report": Out(ErrorReport),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config, shape = self.config, self.shape
        most = hss_tokens(config)
        m.submodules.fetch = fetch = VariableFetch(config, streams=most, groups=shape.groups, group_bytes=shape.group_bytes)
        connect(m, fetch=fetch.read, scratchpad=flipped(self.read))
        tile = Signal(hss_tile_layout(config))
        address, acc = Signal(tile.activation_addr.shape()), Signal(tile.acc_addr.shape())
        token, left = Signal(range(most)), Signal(range(most + 1))

        beyond = address.overflow | (address.value + tile.depth > config.scratchpad_bytes)
        beyond_acc = acc.overflow | (acc.value >= config.accumulator_rows)
        m.d.comb += [
            fetch.valid.eq(self.loaded & ~self.fault & ~self.halt), fetch.fresh.eq(tile.fresh | tile.again),
            fetch.stream.eq(token), fetch.addr.eq(address.value), fetch.count.eq(tile.depth), fetch.spacing.eq(tile.group),
            self.o.eq(fetch.o),
            self.issue.eq(fetch.ready), self.h0.eq(tile.h0), self.sdq.eq(tile.sdq), self.cut.eq(tile.cut),
            self.tag.addr.eq(acc.value), self.tag.accumulate.eq(tile.accumulate), self.tag.last.eq(tile.last & (left == 1)),
            self.fault.eq(self.loaded & (beyond | beyond_acc)),
            self.report.cause.eq(ErrorCause.ACCUMULATOR_RANGE), self.report.addr.eq(acc),
        ]
        with m.If(beyond):
            m.d.comb += [self.report.cause.eq(ErrorCause.SCRATCHPAD_RANGE), self.report.addr.eq(address)]
        with m.If(self.issue):
            m.d.sync += [address.eq(advance(address, tile.activation_stride)), acc.eq(advance(acc, Const(1))),
                         token.eq(token + 1), left.eq(left - 1)]
        m.d.comb += self.i.ready.eq(~self.loaded | (self.issue & (left == 1)))
        with m.If(self.i.ready):
            m.d.sync += self.loaded.eq(self.i.valid)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [tile.eq(self.i.p), address.eq(self.i.p.activation_addr), acc.eq(self.i.p.acc_addr), token.eq(0),
                         left.eq(self.i.p.tokens)]
        return m
