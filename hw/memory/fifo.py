"""A small stream FIFO for queues and DMAs."""

from typing import Any

from amaranth import *
from amaranth.hdl import ShapeLike
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.errors import ConfigError
from hw.protect.domains import NONE
from hw.protect.storage import storage, use

__all__ = ["StreamFIFO"]


class StreamFIFO(wiring.Component):
    """Stream FIFO: latency 1 cycle, initiation interval 1.

    A payload taken in cycle t is offered from t + 1 on. The output is read asynchronously from a small memory (registers or LUT
    RAM); no combinational path leads from one side to the other, so a full FIFO takes nothing in the cycle in which it gives.

    Parameters
    ----------
    shape : ShapeLike
        Shape of the payload.
    depth : int
        Payloads that it holds, at least 1; 2 suffice for one payload a cycle.
    protection : str
        What guards the payloads in its memory: "none", "parity" or "secded".

    Members
    -------
    i : In(stream of `shape`), o : Out(stream of `shape`)
    level : Out(range(depth + 1))
        Payloads inside.

    Raises
    ------
    ConfigError
        If the depth is below 1.
    """

    latency = 1

    def __init__(self, *, shape: ShapeLike, depth: int, protection: str = NONE):
        if depth < 1:
            raise ConfigError(f"StreamFIFO.depth must be at least 1, not {depth!r}")
        self.shape = shape
        self.depth = depth
        self.protection = protection
        super().__init__({
            "i": In(stream.Signature(shape)),
            "o": Out(stream.Signature(shape)),
            "level": Out(range(depth + 1)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.storage = rows = storage(self.protection, shape=self.shape, depth=self.depth)
        write = rows.write_port()
        read = rows.read_port(domain="comb")

        write_index = Signal(range(self.depth))
        read_index = Signal(range(self.depth))
        taken = Signal()
        given = Signal()

        m.d.comb += [
            self.i.ready.eq(self.level != self.depth),
            self.o.valid.eq(self.level != 0),
            taken.eq(self.i.valid & self.i.ready),
            given.eq(self.o.valid & self.o.ready),
            write.addr.eq(write_index),
            write.data.eq(self.i.payload),
            write.en.eq(taken),
            read.addr.eq(read_index),
            self.o.payload.eq(read.data),
        ]
        use(m, read, self.o.valid, given)
        m.d.sync += self.level.eq(self.level + taken - given)
        for index, moved in ((write_index, taken), (read_index, given)):
            with m.If(moved):
                m.d.sync += index.eq(Mux(index == self.depth - 1, 0, index + 1))
        return m
