"""The store unit: scratchpad blocks into DRAM."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import Out

from hw.config import AcceleratorConfig, ceil_log2
from hw.isa import ErrorCause, Unit
from hw.memory.axi import BlockCheck, BurstSplitter, burst_layout, check_address, place_layout
from hw.memory.fifo import StreamFIFO
from hw.ports import AXI_BURST_INCR, AXI_CACHE_NORMAL, AxiWritePort, ErrorReport, ScratchpadReadPort, UnitPort
from hw.timing import STORE_LATENCY

__all__ = ["OUTSTANDING_WRITES", "StoreUnit"]

OUTSTANDING_WRITES = 32         # bursts whose response may be awaited at once
BURSTS_AHEAD = 4                # bursts whose address may be out while their data wait
BEATS_AHEAD = 4                 # beats read from the scratchpad and not yet sent: 3 cover the loop from space to beat


class StoreUnit(wiring.Component):
    """Store DMA: one beat a cycle as long as memory and scratchpad keep up, across bursts, rows and commands.

    Addresses run ahead of the data, and no command waits for the responses of the one before. With B beats and a response time
    of L cycles (last beat to B), a command alone takes `latency` + L + B cycles from its handshake to its `done`, both included;
    if it follows others closely, B cycles.

    Errors, each reported when all older commands are done: BAD_SIZE (rows or row_bytes zero, with that size; or the block goes
    beyond 32 bits of DRAM address, with the low bits of the first address beyond), MISALIGNED (dram_addr, dram_stride, addr or
    stride is no multiple of the beat, with its value), SCRATCHPAD_RANGE (with the first address outside; nothing of that burst is
    written), BUS_WRITE (BRESP is not OKAY, with the address of the burst). After an error or on `abort` no address is issued;
    bursts whose address is out are ended with beats without strobes, and when the last response is in, `busy` falls.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    unit : Out(UnitPort(Unit.STORE))
    bus : Out(AxiWritePort)
        Id 0.
    read : Out(ScratchpadReadPort)
    beat : Out(1)
        A beat leaves in this cycle.
    bytes_written : Out(range(beat_bytes + 1))
        Bytes strobed in it; 0 when none leaves.
    """

    latency = STORE_LATENCY

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "unit": Out(UnitPort(Unit.STORE)),
            "bus": Out(AxiWritePort(config.bus_width)),
            "read": Out(ScratchpadReadPort(config)),
            "beat": Out(1),
            "bytes_written": Out(range(config.beat_bytes + 1)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config, unit, bus = self.config, self.unit, self.bus
        beat_bytes, beat_log2 = config.beat_bytes, ceil_log2(config.beat_bytes)
        beat_layout = data.StructLayout({"data": config.bus_width, "bytes": range(beat_bytes + 1), "last": 1})
        flush = Signal()                                    # after an error, or on abort

        check = BlockCheck(config, Unit.STORE)
        splitter = BurstSplitter(config)
        guard = config.protection_of("fifos")
        bursts = StreamFIFO(shape=burst_layout(config), depth=BURSTS_AHEAD, protection=guard)
        beats = StreamFIFO(shape=beat_layout, depth=BEATS_AHEAD, protection=guard)
        response_layout = data.StructLayout({"dram_addr": 32, "last": 1})
        responses = StreamFIFO(shape=response_layout, depth=OUTSTANDING_WRITES, protection=guard)
        m.submodules.check = check
        m.submodules.splitter = ResetInserter(flush)(splitter)
        m.submodules.bursts = bursts
        m.submodules.beats = beats
        m.submodules.responses = responses

        # Commands: an impossible one is taken, and reported, when all before it are done.
        m.d.comb += [
            unit.busy.eq(splitter.o.valid | responses.o.valid),
            check.descriptor.eq(unit.command.payload),
            splitter.i.payload.eq(check.block),
            splitter.i.valid.eq(unit.command.valid & ~check.fault & ~flush),
            unit.command.ready.eq(Mux(check.fault, ~unit.busy, splitter.i.ready) & ~flush),
        ]

        # Address side: a legal burst goes at once to the channel, to the bursts awaiting data and those awaiting a response.
        request = splitter.o.payload
        first_place = data.View(place_layout(config), request.addr)
        last_place = Signal(place_layout(config))           # of the burst's last beat
        illegal = Signal()
        address_free = Signal()
        issue = Signal()
        m.d.comb += [
            last_place.eq(request.addr + (request.length << beat_log2)),
            illegal.eq(request.wrapped | (last_place.beyond != 0)),
            address_free.eq(~bus.awvalid | bus.awready),
            issue.eq(splitter.o.valid & ~illegal & address_free & bursts.i.ready & responses.i.ready & ~flush),
            splitter.o.ready.eq(issue),
            bursts.i.valid.eq(issue),
            bursts.i.payload.eq(request),
            responses.i.valid.eq(issue),
            responses.i.p.dram_addr.eq(request.dram_addr),
            responses.i.p.last.eq(request.last),
            bus.awsize.eq(beat_log2),
            bus.awburst.eq(AXI_BURST_INCR),
            bus.awcache.eq(AXI_CACHE_NORMAL),
        ]
        with m.If(address_free):
            m.d.sync += bus.awvalid.eq(issue)
        with m.If(issue):
            m.d.sync += [bus.awaddr.eq(request.dram_addr), bus.awlen.eq(request.length)]
        if config.address_residue:
            check_address(m, issue=issue, check=request.check, valid=bus.awvalid, addr=bus.awaddr, length=bus.awlen)

        # Read side: a beat is asked for when there is room for it; without strobes, it needs no scratchpad.
        burst = bursts.o.payload
        index = Signal(range(config.burst_beats))           # of the beat in its burst
        burst_end = Signal()
        place = Signal(place_layout(config))
        room = Signal()
        asked = Signal()
        arriving = Signal()                                 # the beat asked for in the last cycle
        arriving_offset = Signal(place.offset.shape(), reset_less=True)
        arriving_bytes = Signal(range(beat_bytes + 1), reset_less=True)
        arriving_last = Signal(reset_less=True)
        m.d.comb += [
            burst_end.eq(index == burst.length),
            place.eq(burst.addr + (index << beat_log2)),
            room.eq(bursts.o.valid & (beats.level + arriving < BEATS_AHEAD)),
            self.read.addr.eq(place.line),
            self.read.valid.eq(room & ~flush),
            asked.eq(room & (flush | self.read.ready)),
            bursts.o.ready.eq(asked & burst_end),
        ]
        m.d.sync += arriving.eq(asked)
        with m.If(asked):
            m.d.sync += [
                index.eq(Mux(burst_end, 0, index + 1)),
                arriving_offset.eq(place.offset),
                arriving_bytes.eq(Mux(flush, 0, Mux(burst_end & (burst.tail != 0), burst.tail, beat_bytes))),
                arriving_last.eq(burst_end),
            ]
        m.d.comb += [
            beats.i.valid.eq(arriving),
            beats.i.p.data.eq(self.read.data.word_select(arriving_offset[beat_log2:], config.bus_width)),
            beats.i.p.bytes.eq(arriving_bytes),
            beats.i.p.last.eq(arriving_last),
        ]

        # Write channel and responses.
        m.d.comb += [
            bus.wvalid.eq(beats.o.valid),
            bus.wdata.eq(beats.o.p.data),
            bus.wstrb.eq((1 << beats.o.p.bytes) - 1),
            bus.wlast.eq(beats.o.p.last),
            beats.o.ready.eq(bus.wready),
            self.beat.eq(bus.wvalid & bus.wready),
            self.bytes_written.eq(Mux(self.beat, beats.o.p.bytes, 0)),
            bus.bready.eq(1),
            responses.o.ready.eq(bus.bvalid),
            unit.done.eq(bus.bvalid & (bus.bresp == 0) & responses.o.p.last & ~flush),
        ]

        # Errors, the oldest command's first.
        found = Signal(ErrorReport)
        stopping = Signal()
        with m.If(bus.bvalid & (bus.bresp != 0)):
            m.d.comb += [stopping.eq(1), found.cause.eq(ErrorCause.BUS_WRITE), found.addr.eq(responses.o.p.dram_addr)]
        with m.Elif(splitter.o.valid & illegal):
            m.d.comb += stopping.eq(~responses.o.valid)
            with m.If(request.wrapped):
                m.d.comb += [found.cause.eq(ErrorCause.BAD_SIZE), found.addr.eq(request.dram_addr)]
            with m.Else():
                m.d.comb += [
                    found.cause.eq(ErrorCause.SCRATCHPAD_RANGE),
                    found.addr.eq(Mux(first_place.beyond != 0, request.addr, config.scratchpad_bytes)),
                ]
        with m.Elif(unit.command.valid & check.fault):
            m.d.comb += [stopping.eq(~unit.busy), found.eq(check.report)]

        m.d.comb += flush.eq(unit.error | unit.abort)
        with m.If(flush):
            m.d.sync += unit.error.eq(~unit.abort)
        with m.Else():
            m.d.sync += unit.error.eq(stopping)
            with m.If(stopping):
                m.d.sync += unit.report.eq(found)
        return m
