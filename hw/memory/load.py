"""The load unit: DRAM blocks into the scratchpad, optionally unpacked from nibbles and transposed; angles from its own source."""

from collections.abc import Iterable
from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import Out

from hw.config import AcceleratorConfig, ceil_log2
from hw.isa import ErrorCause, Unit
from hw.memory.axi import BlockCheck, BurstSplitter, burst_layout, check_address, first_bytes, place_layout
from hw.memory.deep_fifo import DeepFIFO
from hw.memory.transposer import Transposer
from hw.ports import AXI_BURST_INCR, AXI_CACHE_NORMAL, AxiReadPort, ErrorReport, ScratchpadWritePort, UnitPort
from hw.timing import LOAD_LATENCY
from hw.token.angles import AngleSource

__all__ = ["LoadUnit"]


class LoadUnit(wiring.Component):
    """Load DMA: one beat a cycle as long as memory keeps up, across bursts, rows and commands.

    A checked command is cut into bursts; each burst waits in a FIFO, with the place in the scratchpad where it belongs, for its
    beats. So addresses run ahead of the data by up to `outstanding_reads` bursts, into the next commands too. With B beats and a
    read latency of L cycles (address handshake to first beat), a command alone takes `latency` + L + B cycles from its handshake
    to its `done`, both included; if it follows others closely, B cycles. A transposed command reads single beats; it takes
    the beats of whole blocks (see `Transposer`), and `beat_bytes` cycles more if no other transposed one follows closely.

    The scratchpad gets whole beats, zero past `row_bytes`. When transposed, zeros fill the lanes of rows that do not exist, and
    columns past `row_bytes` are not written.

    With an engine that has a weight stream, beats of a command with `stream` go there, zero past `row_bytes`, and wait until they
    are taken.

    With `rotary_pairs` there is a source of angles (`AngleSource`), which records set that come as a stream does, and whose rows
    go to the scratchpad in the place of beats of DRAM, in the order of the commands.

    An unpacked command makes two bytes of each, the low nibble first: a row has 2 · row_bytes in the scratchpad. A beat of the
    bus becomes two of the scratchpad, in two cycles, or one at the end of a row where half of it is enough. When transposed, a
    column of bytes leaves the transposer, and becomes two of nibbles, for two rows of the scratchpad.

    Errors, each reported when all older commands are done: BAD_SIZE (rows or row_bytes zero, with that size; or the block goes
    beyond 32 bits of DRAM address, with the low bits of the first address beyond), UNSUPPORTED, BAD_SIZE (see `BlockCheck`),
    MISALIGNED (dram_addr, dram_stride, addr or stride is no multiple of the beat, with its value), SCRATCHPAD_RANGE (with the
    first address outside), BUS_READ (RRESP is not OKAY, with the address of the beat). After an error or on `abort` no address
    is issued, the beats on their way are taken and dropped, and then `busy` falls.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    unit : Out(UnitPort(Unit.LOAD))
    bus : Out(AxiReadPort)
        Id 0.
    write : Out(ScratchpadWritePort)
    stream : Out(stream of bus_width)
        To the engine, if it has a weight stream.
    beat : Out(1)
        A beat is taken from the bus in this cycle.
    """

    latency = LOAD_LATENCY

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "unit": Out(UnitPort(Unit.LOAD)),
            "bus": Out(AxiReadPort(config.bus_width)),
            "write": Out(ScratchpadWritePort(config)),
            **({"stream": Out(stream.Signature(config.bus_width))} if config.weight_stream else {}),
            "beat": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config, unit, bus = self.config, self.unit, self.bus
        beat_log2 = ceil_log2(config.beat_bytes)
        lanes = config.line_bytes // config.beat_bytes
        flush = Signal()                                    # after an error, or on abort
        beat_taken = Signal()                               # the beat at hand has been used

        check = BlockCheck(config, Unit.LOAD)
        splitter = BurstSplitter(config)
        in_flight = DeepFIFO(shape=burst_layout(config), depth=config.outstanding_reads, protection=config.protection_of("fifos"))
        transposer = Transposer(config)
        m.submodules.check = check
        m.submodules.splitter = ResetInserter(flush)(splitter)
        m.submodules.in_flight = in_flight
        m.submodules.transposer = ResetInserter(flush)(transposer)
        angles = AngleSource(config) if config.rotary_pairs else None
        if angles is not None:
            m.submodules.angles = angles

        # Commands: an impossible one is taken, and reported, when all before it are done.
        m.d.comb += [
            unit.busy.eq(splitter.o.valid | (in_flight.level != 0) | transposer.busy | unit.done),
            check.descriptor.eq(unit.command.payload),
            splitter.i.payload.eq(check.block),
            splitter.i.valid.eq(unit.command.valid & ~check.fault & ~flush),
            unit.command.ready.eq(Mux(check.fault, ~unit.busy, splitter.i.ready) & ~flush),
        ]

        # Address side: a burst goes at once to the address channel and into the FIFO of those that await their data. One beyond
        # the address space goes into the FIFO alone, and fails when its turn comes.
        request = splitter.o.payload
        address_free = Signal()
        m.d.comb += [
            address_free.eq(~bus.arvalid | bus.arready),
            in_flight.i.payload.eq(request),
            in_flight.i.valid.eq(splitter.o.valid & address_free & ~flush),
            splitter.o.ready.eq(in_flight.i.ready & address_free & ~flush),
            bus.arsize.eq(beat_log2),
            bus.arburst.eq(AXI_BURST_INCR),
            bus.arcache.eq(AXI_CACHE_NORMAL),
        ]
        with m.If(address_free):
            no_address = request.wrapped if angles is None else request.wrapped | request.angles
            m.d.sync += bus.arvalid.eq(in_flight.i.valid & in_flight.i.ready & ~no_address)
        with m.If(address_free & in_flight.i.valid):
            m.d.sync += [bus.araddr.eq(request.dram_addr), bus.arlen.eq(request.length)]
        if config.address_residue:
            check_address(m, issue=address_free & in_flight.i.valid, check=request.check, valid=bus.arvalid, addr=bus.araddr,
                          length=bus.arlen)

        # Data side: a register, then the first burst of the FIFO tells where the beat goes.
        burst = in_flight.o.payload
        missing = Signal()                                  # the next beat was never asked for
        present = Signal()                                  # the first burst is known, and a beat for it is there or missing
        beat_valid = Signal()
        beat = Signal(data.StructLayout({"data": config.bus_width, "resp": 2}), reset_less=True)
        wrapped, there, used = burst.wrapped, beat_valid | burst.wrapped, ~missing
        if angles is not None:                              # its beats take the place of those of the bus
            wrapped = burst.wrapped & ~burst.angles
            there, used = Mux(burst.angles, angles.o.valid | flush, beat_valid | wrapped), ~missing & ~burst.angles
        m.d.comb += [
            missing.eq(in_flight.o.valid & wrapped),
            present.eq(in_flight.o.valid & there),
            bus.rready.eq(~beat_valid | (beat_taken & used)),
            self.beat.eq(bus.rvalid & bus.rready),
        ]
        with m.If(bus.rready):
            m.d.sync += beat_valid.eq(bus.rvalid)
        with m.If(self.beat):
            m.d.sync += [beat.data.eq(bus.rdata), beat.resp.eq(bus.rresp)]

        bad: Value = beat.resp != 0
        if angles is not None:
            bad = bad & ~burst.angles
        index = Signal(range(config.burst_beats))           # of the beat in its burst
        burst_end = Signal()
        failed = Signal()
        m.d.comb += [
            burst_end.eq(index == burst.length),
            failed.eq(missing | (present & bad)),
            in_flight.o.ready.eq(beat_taken & burst_end),
        ]
        with m.If(beat_taken):
            m.d.sync += index.eq(Mux(burst_end, 0, index + 1))

        source, turned = transposer.i.payload, transposer.o.payload
        m.d.comb += [
            transposer.i.valid.eq(present & burst.transpose & ~flush),
            source.data.eq(beat.data),
            source.addr.eq(burst.addr),
            source.stride.eq(burst.stride),
            source.unpack.eq(burst.unpack),
            source.tail.eq(burst.tail),
            source.end.eq(burst.row_end),
            source.last.eq(burst.last),
            source.bad.eq(failed),
        ]

        # The write: what leaves the transposer comes before the plain beats behind it. A bad block is held back until the flush.
        place = Signal(place_layout(config))
        plain = Signal()
        placing = Signal()
        outside = Signal()
        straight = Signal(config.bus_width)                 # what is to be written, and its bytes unpacked
        unpacked = Signal(config.bus_width)
        unpack = Signal()
        second = Signal()                                   # of the beats that an unpacked one becomes
        whole = Signal()                                    # nothing of the beat is left to write
        written = Signal()
        tail = Signal(beat_log2)
        tail_written = Signal(beat_log2)
        to_scratchpad: Value = ~burst.stream if config.weight_stream else C(1)
        given: Value = beat.data
        if angles is not None:
            to_scratchpad, given = to_scratchpad & ~burst.records, Mux(burst.angles, angles.o.payload, beat.data)
        half_is_enough = Signal()
        kept = Signal(config.beat_bytes)
        m.d.comb += [
            tail.eq(Mux(burst_end, burst.tail, 0)),
            half_is_enough.eq((tail != 0) & ~(tail[-1] & tail[:-1].any())),
            plain.eq(present & ~burst.transpose & ~failed & ~transposer.busy & ~flush),
        ]
        with m.If(transposer.busy):
            m.d.comb += [
                place.eq(turned.addr + Mux(second, turned.stride, 0)),
                straight.eq(turned.data),
                unpacked.eq(_bytes_of_nibbles(Mux(second, byte[4:], byte[:4]) for byte in _split(turned.data, 8))),
                unpack.eq(turned.unpack),
                whole.eq(second | ~unpack),
                placing.eq(transposer.o.valid & turned.write & ~transposer.bad & ~flush),
            ]
        with m.Else():
            half = Mux(second, beat.data[config.bus_width // 2:], beat.data[:config.bus_width // 2])
            m.d.comb += [
                place.eq(burst.addr + (Mux(burst.unpack, Cat(second, index), index) << beat_log2)),
                straight.eq(given),
                unpacked.eq(_bytes_of_nibbles(_split(half, 4))),
                unpack.eq(burst.unpack),
                whole.eq(second | half_is_enough | ~unpack),
                tail_written.eq(Mux(whole, Mux(unpack, tail << 1, tail), 0)),
                placing.eq(plain & to_scratchpad),
            ]
        kept_bits = Cat(bit.replicate(8) for bit in kept)
        streamed: Value = C(0)
        if config.weight_stream:
            m.d.comb += [self.stream.valid.eq(plain & burst.stream), self.stream.payload.eq(straight & kept_bits)]
            streamed = self.stream.valid & self.stream.ready
        if angles is not None:
            m.d.comb += [
                angles.i.valid.eq(plain & burst.records),
                angles.i.payload.data.eq(straight & kept_bits),
                angles.i.payload.last.eq(burst_end & burst.last),
                angles.o.ready.eq(beat_taken & burst.angles & ~flush),
                angles.row_end.eq(burst_end & burst.row_end),
                angles.last.eq(burst_end & burst.last),
                angles.advance.eq(burst.advance),
                angles.clear.eq(flush),
            ]
            streamed = streamed | (angles.i.valid & angles.i.ready)
        m.d.comb += [
            kept.eq(first_bytes(tail_written, config.beat_bytes)),
            outside.eq(placing & (place.beyond != 0)),
            self.write.valid.eq(placing & ~outside),
            self.write.addr.eq(place.line),
            self.write.data.eq((Mux(unpack, unpacked, straight) & kept_bits).replicate(lanes)),
            self.write.mask.eq(((1 << config.beat_bytes) - 1) << place.offset),
            written.eq((self.write.valid & self.write.ready) | streamed),
            transposer.o.ready.eq(Mux(turned.write, written & whole, ~transposer.bad & ~flush)),
            beat_taken.eq(Mux(burst.transpose & ~flush, transposer.i.valid & transposer.i.ready,
                              present & (flush | (plain & written & whole)))),
        ]
        with m.If(flush):
            m.d.sync += second.eq(0)
        with m.Elif(written):
            m.d.sync += second.eq(~whole)

        # One cycle later: semaphores hang on it.
        m.d.sync += unit.done.eq(Mux(transposer.busy, transposer.o.valid & transposer.o.ready & turned.last,
                                     plain & beat_taken & burst_end & burst.last))

        # Errors, the oldest first. A failed beat of a transposed command goes on through the transposer like any other, so that
        # what came before it can leave; its report is kept (`poisoned`) until its block comes out as bad.
        found = Signal(ErrorReport)
        noted = Signal()
        stopping = Signal()
        poisoned = Signal()
        with m.If(outside):
            m.d.comb += [noted.eq(1), stopping.eq(1), found.cause.eq(ErrorCause.SCRATCHPAD_RANGE), found.addr.eq(place)]
        with m.Elif(poisoned):
            m.d.comb += stopping.eq(transposer.bad)
        with m.Elif(failed):
            m.d.comb += [
                noted.eq(burst.transpose | ~transposer.busy),
                stopping.eq(~burst.transpose & ~transposer.busy),
                found.cause.eq(Mux(missing, ErrorCause.BAD_SIZE, ErrorCause.BUS_READ)),
                found.addr.eq(burst.dram_addr + (index << beat_log2)),
            ]
        with m.Elif(unit.command.valid & check.fault):
            m.d.comb += [noted.eq(~unit.busy), stopping.eq(noted), found.eq(check.report)]

        m.d.comb += flush.eq(unit.error | unit.abort)
        with m.If(flush):
            m.d.sync += [unit.error.eq(~unit.abort), poisoned.eq(0)]
        with m.Else():
            m.d.sync += [unit.error.eq(stopping), poisoned.eq(poisoned | (failed & burst.transpose & beat_taken))]
            with m.If(noted):
                m.d.sync += unit.report.eq(found)
        return m


def _split(word: Value, width: int) -> list[Value]:
    return [word[at:at + width] for at in range(0, len(word), width)]


def _bytes_of_nibbles(nibbles: Iterable[Value]) -> Value:
    return Cat(Cat(nibble, C(0, 4)) for nibble in nibbles)
