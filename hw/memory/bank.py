"""A memory bank: the block RAM of which the scratchpad and the accumulator are built."""

from typing import Any

from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["MemoryBank", "bank_ports"]


def bank_ports(*, depth: int, width: int, enables: int) -> dict[str, Any]:
    """Return the members of a bank: a read port and a write port."""
    return {
        "read_addr": In(range(depth)),
        "read_en": In(1),
        "read_data": Out(width),
        "write_addr": In(range(depth)),
        "write_data": In(width),
        "write_en": In(enables),
    }


class MemoryBank(wiring.Component):
    """One bank: a synchronous read and a write in every cycle; infers block RAM. Contents survive a reset.

    Parameters
    ----------
    depth, width : int
        Words, and bits of a word.
    enables : int
        Write enables, one for each `width / enables` bits.
    transparent : bool
        Whether a read of the word that is written in the same cycle gives the new word; otherwise it gives the old one.

    Members
    -------
    read_addr : In(range(depth)), read_en : In(1)
    read_data : Out(width)
        The word, in the cycle after `read_en`; held until the next read.
    write_addr : In(range(depth)), write_data : In(width), write_en : In(enables)
    """

    latency = 1

    def __init__(self, *, depth: int, width: int, enables: int = 1, transparent: bool = False):
        self.depth = depth
        self.width = width
        self.enables = enables
        self.transparent = transparent
        super().__init__(bank_ports(depth=depth, width=width, enables=enables))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.array = array = memory.Memory(shape=self.width, depth=self.depth, init=[], attrs={"ram_style": "block"})
        write = array.write_port(granularity=self.width // self.enables)
        read = array.read_port(transparent_for=(write,) if self.transparent else ())
        m.d.comb += [
            read.addr.eq(self.read_addr),
            read.en.eq(self.read_en),
            self.read_data.eq(read.data),
            write.addr.eq(self.write_addr),
            write.data.eq(self.write_data),
            write.en.eq(self.write_en),
        ]
        return m
