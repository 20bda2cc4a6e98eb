"""A deep stream FIFO: its memory is read synchronously."""

from typing import Any

from amaranth import *
from amaranth.hdl import ShapeLike
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.errors import ConfigError
from hw.protect.domains import NONE
from hw.protect.storage import storage, use

__all__ = ["DeepFIFO"]


class DeepFIFO(wiring.Component):
    """Stream FIFO of block RAM or an SRAM macro: latency 3 cycles, initiation interval 1.

    A payload taken in cycle t is offered from t + 3 on, from a register, so that neither the memory's access time nor a wide
    multiplexer delays what follows. No combinational path leads from one side to the other. For few payloads, `StreamFIFO` is
    smaller and faster.

    Parameters
    ----------
    shape : ShapeLike
        Shape of the payload.
    depth : int
        Payloads that it holds, at least 1; 4 suffice for one payload a cycle.
    protection : str
        What guards the payloads in its memory: "none", "parity" or "secded".

    Members
    -------
    i : In(stream of `shape`), o : Out(stream of `shape`)
    level : Out(range(depth + 1))
        Payloads inside, the one that is offered included.

    Raises
    ------
    ConfigError
        If the depth is below 1.
    """

    latency = 3

    def __init__(self, *, shape: ShapeLike, depth: int, protection: str = NONE):
        if depth < 1:
            raise ConfigError(f"DeepFIFO.depth must be at least 1, not {depth!r}")
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
        write, read = rows.write_port(), rows.read_port()

        write_index = Signal(range(self.depth))
        read_index = Signal(range(self.depth))
        stored = Signal(range(self.depth + 1))          # payloads that have yet to be read
        arrived = Signal()                              # one is at the memory's output
        taken, fetched, moved, given = Signal(), Signal(), Signal(), Signal()
        offered = Signal.like(self.o.payload, reset_less=True)
        m.d.comb += [
            self.i.ready.eq(self.level != self.depth),
            self.o.payload.eq(offered),
            taken.eq(self.i.valid & self.i.ready),
            given.eq(self.o.valid & self.o.ready),
            moved.eq(arrived & (~self.o.valid | self.o.ready)),
            fetched.eq((stored != 0) & (~arrived | moved)),
            write.addr.eq(write_index),
            write.data.eq(self.i.payload),
            write.en.eq(taken),
            read.addr.eq(read_index),
            read.en.eq(fetched),
        ]
        use(m, read, moved)
        m.d.sync += [
            self.level.eq(self.level + taken - given),
            stored.eq(stored + taken - fetched),
            arrived.eq(fetched | (arrived & ~moved)),
            self.o.valid.eq(moved | (self.o.valid & ~self.o.ready)),
        ]
        with m.If(moved):
            m.d.sync += offered.eq(read.data)
        for index, step in ((write_index, taken), (read_index, fetched)):
            with m.If(step):
                m.d.sync += index.eq(Mux(index == self.depth - 1, 0, index + 1))
        return m
