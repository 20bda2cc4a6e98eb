"""The sequencer's loop stack."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.control.queue import PC_WIDTH
from hw.isa import LOOP_DEPTH
from hw.protect.domains import NONE
from hw.protect.storage import storage, use

__all__ = ["LoopStack"]

_ENTRY = data.StructLayout({"start": PC_WIDTH, "remaining": 32})


class LoopStack(wiring.Component):
    """Start and remaining count of each open loop; the innermost one in registers, so that `end` is decided in its own cycle.

    Parameters
    ----------
    protection : str
        What guards its memory: "none", "parity" or "secded".

    Members
    -------
    clear : In(1)
        Close all loops.
    push : In(1), push_start : In(32), push_count : In(32)
        Open a loop that runs `push_count` ≥ 1 times from instruction `push_start` on. Not when `full`.
    end : In(1)
        The innermost loop's body has ended: count it, or close the loop. Not when `empty`, not together with `push`.
    again : Out(1), start : Out(32)
        An `end` now goes back to `start`.
    empty, full : Out(1)
    """

    def __init__(self, *, protection: str = NONE) -> None:
        self._protection = protection
        super().__init__({
            "clear": In(1),
            "push": In(1),
            "push_start": In(PC_WIDTH),
            "push_count": In(32),
            "end": In(1),
            "again": Out(1),
            "start": Out(PC_WIDTH),
            "empty": Out(1),
            "full": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.outer = outer = storage(self._protection, shape=_ENTRY, depth=LOOP_DEPTH)
        save, restore = outer.write_port(), outer.read_port(domain="comb")
        depth = Signal(range(LOOP_DEPTH + 1))
        top = Signal(_ENTRY)
        m.d.comb += [
            self.again.eq(top.remaining != 1),
            self.start.eq(top.start),
            self.empty.eq(depth == 0),
            self.full.eq(depth == LOOP_DEPTH),
            save.addr.eq(depth),
            save.data.eq(top),
            save.en.eq(self.push),
            restore.addr.eq(depth - 1),
        ]
        use(m, restore, self.end & ~self.again & ~self.clear & (depth > 1))
        with m.If(self.clear):
            m.d.sync += depth.eq(0)
        with m.Elif(self.push):
            m.d.sync += [depth.eq(depth + 1), top.start.eq(self.push_start), top.remaining.eq(self.push_count)]
        with m.Elif(self.end & self.again):
            m.d.sync += top.remaining.eq(top.remaining - 1)
        with m.Elif(self.end):
            m.d.sync += [depth.eq(depth - 1), top.eq(restore.data)]
        return m
