"""On-chip memory as the accelerator's DRAM: an AXI4 slave over block RAM, and a byte port for the host."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hw.bridge.ports import BytePort
from hw.config import ceil_log2
from hw.errors import ConfigError
from hw.memory.bank import MemoryBank
from hw.ports import ADDRESS_WIDTH, AxiReadPort, AxiWritePort

__all__ = ["AxiMemory"]

OKAY, DECERR = 0b00, 0b11


class AxiMemory(wiring.Component):
    """Block RAM behind an AXI4 slave: one burst of reads and one of writes at a time, a beat a cycle.

    Takes what our master sends: INCR bursts of full beats, aligned. The first beat of a read comes `latency` cycles after its
    address, the next address is taken when the last beat has been read from the array; the response of a write comes one cycle
    after its last beat. Beats beyond the memory answer DECERR and are not written. The host goes first: in a cycle in which
    it reads or writes, that direction of the bus waits; its reads wait for a beat that the master has not taken yet.

    Parameters
    ----------
    size : int
        Bytes, a power of two of at least two beats.
    bus_width : int
        Data width in bits.

    Members
    -------
    read : In(AxiReadPort), write : In(AxiWritePort)
        Directions of the master.
    host : In(BytePort)
        `addr` below `size`. `read_data` comes in the cycle after the request.

    Raises
    ------
    ConfigError
        If the size is none.
    """

    latency = 2

    def __init__(self, *, size: int, bus_width: int):
        self.beat_bytes = bus_width // 8
        if size < 2 * self.beat_bytes or size & (size - 1):
            raise ConfigError(f"AxiMemory.size must be a power of two of at least {2 * self.beat_bytes} bytes, not {size!r}")
        self.size = size
        self.bus_width = bus_width
        super().__init__({
            "read": In(AxiReadPort(bus_width)), "write": In(AxiWritePort(bus_width)), "host": In(BytePort(ceil_log2(size)))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.array = array = MemoryBank(depth=self.size // self.beat_bytes, width=self.bus_width, enables=self.beat_bytes)
        self._elaborate_read(m, array)
        self._elaborate_write(m, array)
        return m

    def _elaborate_read(self, m: Module, array: MemoryBank) -> None:
        bus, host, beat_log2 = self.read, self.host, ceil_log2(self.beat_bytes)
        free = Signal()                                 # the array's output, which is the beat on the bus, may change
        host_reads, asks = Signal(), Signal()
        asking = Signal()                               # the burst has beats that were not read yet
        addr = Signal(ADDRESS_WIDTH, reset_less=True)
        left = Signal(8, reset_less=True)
        burst_id = Signal.like(bus.arid, reset_less=True)
        outside = Signal(reset_less=True)
        lane = Signal(beat_log2)                        # of the byte that the host has asked for
        m.d.comb += [
            free.eq(~bus.rvalid | bus.rready),
            host_reads.eq(host.valid & ~host.write & free),
            asks.eq(asking & free & ~host_reads),
            host.ready.eq(host.write | free),
            bus.arready.eq(~asking),
            bus.rdata.eq(array.read_data),
            bus.rresp.eq(Mux(outside, DECERR, OKAY)),
            array.read_en.eq(host_reads | asks),
            array.read_addr.eq(Mux(host_reads, host.addr[beat_log2:], addr[beat_log2:])),
            host.read_data.eq(array.read_data.word_select(lane, 8)),
        ]
        with m.If(host_reads):
            m.d.sync += lane.eq(host.addr)
        with m.If(free):
            m.d.sync += bus.rvalid.eq(asks)
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += [asking.eq(1), addr.eq(bus.araddr), left.eq(bus.arlen), burst_id.eq(bus.arid)]
        with m.If(asks):
            m.d.sync += [
                asking.eq(left != 0), addr.eq(addr + self.beat_bytes), left.eq(left - 1),
                bus.rlast.eq(left == 0), bus.rid.eq(burst_id), outside.eq(addr[ceil_log2(self.size):].any()),
            ]

    def _elaborate_write(self, m: Module, array: MemoryBank) -> None:
        bus, host, beat_log2 = self.write, self.host, ceil_log2(self.beat_bytes)
        host_writes, writes = Signal(), Signal()
        writing = Signal()                              # the burst has beats to come
        addr = Signal(ADDRESS_WIDTH, reset_less=True)
        outside = Signal()
        m.d.comb += [
            host_writes.eq(host.valid & host.write),
            bus.awready.eq(~writing & ~bus.bvalid),
            bus.wready.eq(writing & ~host_writes),
            writes.eq(bus.wvalid & bus.wready),
            outside.eq(addr[ceil_log2(self.size):].any()),
            array.write_addr.eq(Mux(host_writes, host.addr[beat_log2:], addr[beat_log2:])),
            array.write_data.eq(Mux(host_writes, host.write_data.replicate(self.beat_bytes), bus.wdata)),
        ]
        with m.If(host_writes):
            m.d.comb += array.write_en.eq(1 << host.addr[:beat_log2])
        with m.Elif(writes & ~outside):
            m.d.comb += array.write_en.eq(bus.wstrb)
        with m.If(bus.bready):
            m.d.sync += bus.bvalid.eq(0)
        with m.If(bus.awvalid & bus.awready):
            m.d.sync += [writing.eq(1), addr.eq(bus.awaddr), bus.bid.eq(bus.awid), bus.bresp.eq(OKAY)]
        with m.If(writes):
            m.d.sync += addr.eq(addr + self.beat_bytes)
            with m.If(outside):
                m.d.sync += bus.bresp.eq(DECERR)
            with m.If(bus.wlast):
                m.d.sync += [writing.eq(0), bus.bvalid.eq(1)]
