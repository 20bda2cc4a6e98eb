"""Streams the slots of a tile through the array."""

from typing import Any

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.array.cursor import SlotCursor
from hw.array.tile import SlotRequest, advance, is_os, result_layout, tile_layout
from hw.config import AcceleratorConfig
from hw.isa import ErrorCause
from hw.ports import ErrorReport

__all__ = ["StreamSequencer"]


class StreamSequencer(wiring.Component):
    """Holds one tile and issues its slots, one a cycle, each in the cycle in which the last of its reads is granted.

    A WS slot needs an activation slot; an OS slot an activation and a weight slot, which may be granted in different cycles
    (operands in the same bank).

    Latency: the first slot is issued in the cycle after the tile was taken, grants never waiting and no drain in the way.
    Initiation interval: a tile of S slots every S cycles, since the next one is taken in the cycle of the last slot.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    i : In(stream of tile_layout)
    activation, weight : Out(SlotRequest)
        Operand slots; `weight` only with OS tiles.
    issue : Out(1)
        A slot is issued; the next five describe it.
    os : Out(1), bank : Out(1), first : Out(1), last : Out(1)
        Its dataflow and stationary register; first and last step of its tile. `os` and `bank` hold for the tile.
    result : Out(result_layout)
        Where its result goes (WS), or those of its tile (OS); `last` for the last of the command.
    macs : Out(range(R·C + 1))
        Multiply-accumulates on valid lanes.
    drain_left : In(range(R + 1))
        Drain slots of the last OS tile that are still to come, the one of this cycle included.
    drained : In(1)
        Nothing is left in the array, which a serialized OS tile waits for.
    halt : In(1)
        Request nothing.
    loaded : Out(1)
        Holds a tile.
    fault : Out(1), report : Out(ErrorReport)
        Level: an operand of the next slot, or its result, is outside its memory.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "i": In(stream.Signature(tile_layout(config))),
            "activation": Out(SlotRequest.activation(config)),
            "weight": Out(SlotRequest.weight(config)),
            "issue": Out(1),
            "os": Out(1),
            "bank": Out(1),
            "first": Out(1),
            "last": Out(1),
            "result": Out(result_layout(config)),
            "macs": Out(range(config.rows * config.columns + 1)),
            "drain_left": In(range(config.rows + 1)),
            "drained": In(1),
            "halt": In(1),
            "loaded": Out(1),
            "fault": Out(1),
            "report": Out(ErrorReport),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        tile = Signal(tile_layout(self.config))
        acc_addr = Signal.like(tile.acc_addr)
        steps_left = Signal.like(tile.steps)
        valid_macs = Signal.like(self.macs)

        m.d.comb += [
            self.os.eq(self.loaded & is_os(self.config, tile.dataflow)),
            self.bank.eq(tile.bank),
            self.last.eq(steps_left == 1),
            self.result.addr.eq(acc_addr),
            self.result.rows.eq(tile.rows),
            self.result.accumulate.eq(tile.accumulate),
            self.result.last.eq(tile.last & self.last),
            self.macs.eq(Mux(self.issue, valid_macs, 0)),
        ]
        self._issue(m, tile)
        with m.If(self.issue):
            m.d.sync += [self.first.eq(0), steps_left.eq(steps_left - 1)]
            with m.If(~self.os):
                m.d.sync += acc_addr.eq(advance(acc_addr, Const(1)))

        m.d.comb += self.i.ready.eq(~self.loaded | (self.issue & self.last))
        with m.If(self.i.ready):
            m.d.sync += self.loaded.eq(self.i.valid)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                tile.eq(self.i.p),
                acc_addr.eq(self.i.p.acc_addr),
                steps_left.eq(self.i.p.steps),
                valid_macs.eq(self.i.p.rows * self.i.p.columns),
                self.first.eq(1),
            ]
        return m

    def _issue(self, m: Module, tile: Any) -> None:
        """Request operands, drive `issue` when all are there, and `fault` when one is outside its memory."""
        config = self.config
        beyond_acc = ~self.os & (self.result.addr.overflow | (self.result.addr.value >= config.accumulator_rows))
        wait = Signal()
        operands = [("activation", self.activation, config.activation_slot_bytes, Const(1))]
        if "os" in config.dataflows:
            # The psum chain carries the last tile's drain; a tile's sums must not replace sums that still drain.
            with m.If(self.os):
                m.d.comb += wait.eq((self.last & self.drain_left[1:].any()) | (tile.serialize & ~self.drained))
            with m.Else():
                m.d.comb += wait.eq(self.drain_left != 0)
            operands.append(("weight", self.weight, config.weight_slot_bytes, self.os))

        cursors, complete = [], []
        for name, request, slot_bytes, needed in operands:
            m.submodules[f"{name}_cursor"] = cursor = SlotCursor(config, slot_bytes=slot_bytes)
            fetched = Signal(name=f"{name}_fetched")    # granted already, while the slot waits for its other operand
            m.d.comb += [
                cursor.base.eq(self.i.p[f"{name}_addr"]),
                cursor.stride.eq(tile[f"{name}_stride"]),
                cursor.step.eq(self.issue),
                cursor.restart.eq(self.i.valid & self.i.ready & ~(is_os(config, self.i.p.dataflow) & self.i.p.resume)),
                request.line.eq(cursor.line),
                request.offset.eq(cursor.offset),
                request.count.eq(tile.rows if name == "activation" else tile.columns),
                request.valid.eq(self.loaded & needed & ~fetched & ~wait & ~self.fault & ~self.halt),
            ]
            granted = request.valid & request.ready
            m.d.sync += fetched.eq(~self.issue & (fetched | granted))
            cursors.append((cursor, needed))
            complete.append(granted | fetched | ~needed)
        m.d.comb += self.issue.eq(self.loaded & ~wait & Cat(complete).all())

        with m.If(beyond_acc):
            m.d.comb += [self.report.cause.eq(ErrorCause.ACCUMULATOR_RANGE), self.report.addr.eq(self.result.addr)]
        for cursor, needed in reversed(cursors):
            with m.If(cursor.beyond & needed):
                m.d.comb += [self.report.cause.eq(ErrorCause.SCRATCHPAD_RANGE), self.report.addr.eq(cursor.addr)]
        m.d.comb += self.fault.eq(self.loaded & (beyond_acc | Cat(cursor.beyond & needed for cursor, needed in cursors).any()))
