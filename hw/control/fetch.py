"""Instruction fetch: a direct-mapped cache that reads ahead."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from hw.control.queue import PC_WIDTH
from hw.isa import INSTRUCTION_BYTES, INSTRUCTION_FIELDS
from hw.ports import ADDRESS_WIDTH, AXI_BURST_INCR, AXI_CACHE_NORMAL, AXI_FETCH_ID, AxiReadPort
from hw.protect.domains import NONE
from hw.protect.storage import storage, use
from hw.timing import FETCH_FILLS, FETCH_LINE_BYTES, fetch_ahead

__all__ = ["InstructionFetch", "InstructionPort", "instruction_layout"]

_LINE_SHIFT = exact_log2(FETCH_LINE_BYTES // INSTRUCTION_BYTES)
_LINE_WIDTH = PC_WIDTH - _LINE_SHIFT

instruction_layout = data.StructLayout({field.name: field.width for field in INSTRUCTION_FIELDS})
"""One instruction, from the instruction-set table."""


class InstructionPort(wiring.Signature):
    """Where the sequencer reads instructions (directions of the sequencer).

    Members
    -------
    next_pc : Out(32)
        Index of the instruction to look up for the next cycle, in every cycle.
    pc : In(32), following : In(32)
        `next_pc` of the cycle before, and one more.
    hit : In(1), word : In(instruction)
        The instruction at `pc` is in the cache, and what it is.
    beyond : In(1)
        `pc` is outside the program.
    fault : In(1), fault_addr : In(32)
        The line of `pc` could not be read, and its address.
    """

    def __init__(self) -> None:
        super().__init__({
            "next_pc": Out(PC_WIDTH),
            "pc": In(PC_WIDTH),
            "following": In(PC_WIDTH),
            "hit": In(1),
            "word": In(instruction_layout),
            "beyond": In(1),
            "fault": In(1),
            "fault_addr": In(ADDRESS_WIDTH),
        })


class InstructionFetch(wiring.Component):
    """Cache of instruction lines of 64 bytes, one burst each.

    A hit costs nothing: an instruction every cycle. A line that misses, its address being `pc` for the first time in cycle 0,
    has ARVALID in cycle 1, and `hit` two cycles after its last beat. Meanwhile, and whenever the line of `pc` is there, the
    lines after it are read too, up to `ahead` of them and never past the program's end. A line read ahead that fails is
    forgotten; only when `pc` waits for it (it is then read again) does it show as `fault`.

    Parameters
    ----------
    bus_width : int
        Width of the bus in bits, 64 to 512.
    lines : int
        Lines in the cache; a power of two, at least 4.
    protection : str
        What guards its memories: "none", "parity" or "secded".

    Attributes
    ----------
    ahead : int
        Lines that are read ahead.

    Members
    -------
    start : In(1), program_addr : In(32), program_length : In(32)
        Empty the cache and latch the program's first byte (rounded down to a line) and length in instructions. Only while not
        `busy`.
    enable : In(1)
        Lines may be requested.
    instruction : In(InstructionPort)
    bus : Out(AxiReadPort)
        RREADY is always high.
    beat : Out(1)
        A beat arrives.
    busy : Out(1)
        A line is on its way.
    """

    def __init__(self, *, bus_width: int, lines: int, protection: str = NONE):
        self._bus_width, self._lines, self._protection = bus_width, lines, protection
        self.ahead = fetch_ahead(lines)
        super().__init__({
            "start": In(1),
            "program_addr": In(ADDRESS_WIDTH),
            "program_length": In(PC_WIDTH),
            "enable": In(1),
            "instruction": In(InstructionPort()),
            "bus": Out(AxiReadPort(bus_width)),
            "beat": Out(1),
            "busy": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        bus, port = self.bus, self.instruction
        index_width = exact_log2(self._lines)
        beats = FETCH_LINE_BYTES * 8 // self._bus_width
        beat_width = exact_log2(beats)
        beat_layout = data.ArrayLayout(instruction_layout, self._bus_width // (8 * INSTRUCTION_BYTES))
        line_layout = data.StructLayout({"index": index_width, "tag": _LINE_WIDTH - index_width})

        m.submodules.words = words = storage(self._protection, shape=beat_layout, depth=self._lines * beats)
        m.submodules.tags = tags = storage(self._protection, shape=line_layout.members["tag"], depth=self._lines)
        m.submodules.order = order = storage(self._protection, shape=index_width, depth=FETCH_FILLS)
        words_in, words_out = words.write_port(), words.read_port()
        tags_in, tags_out, tags_ahead = tags.write_port(), tags.read_port(), tags.read_port(domain="comb")
        order_in, order_out = order.write_port(), order.read_port(domain="comb")
        present = Signal(self._lines)
        coming = Signal(self._lines)

        base = Signal(ADDRESS_WIDTH)
        length = Signal(PC_WIDTH)
        with m.If(self.start):
            m.d.sync += [base.eq(self.program_addr & -FETCH_LINE_BYTES), length.eq(self.program_length)]

        # Look-up: words, tags and flags of the next cycle's line are sampled by the same edge, so that they fit together.
        pc = Signal(PC_WIDTH)
        line = Signal(line_layout)
        next_line = Signal(line_layout)
        line_before = Signal(line_layout)
        moved = Signal()                                # pc has come to this line in this cycle; from registers alone
        line_present = Signal()
        line_coming = Signal()
        same_tag = Signal()
        m.d.comb += [
            line.eq(pc[_LINE_SHIFT:]),
            next_line.eq(port.next_pc[_LINE_SHIFT:]),
            words_out.addr.eq(port.next_pc[_LINE_SHIFT - beat_width:][:index_width + beat_width]),
            tags_out.addr.eq(next_line.index),
            same_tag.eq(tags_out.data == line.tag),
            port.pc.eq(pc),
            port.following.eq(pc + 1),
            port.hit.eq(line_present & same_tag),
            port.word.eq(words_out.data[pc[:_LINE_SHIFT - beat_width]]),
            port.beyond.eq(pc >= length),
            moved.eq(line != line_before),
        ]
        m.d.sync += [
            pc.eq(port.next_pc),
            line_before.eq(line),
            line_present.eq(present.bit_select(next_line.index, 1) & ~self.start),
            line_coming.eq(coming.bit_select(next_line.index, 1)),
        ]

        # Which line to request: the one of pc, else the next one ahead that is neither here nor on its way. Which one that is, is
        # worked out in one cycle and looked up in the next.
        distance = Signal(range(1, self.ahead + 2), init=1)
        ahead = Signal(line_layout)
        ahead_valid = Signal()
        ahead_known = Signal()
        wanted = Signal()
        wanted_ahead = Signal()
        request = Signal()
        requested = Signal(line_layout)
        fills = Signal(range(FETCH_FILLS + 1))
        fault = Signal()
        flags_ahead = Cat(present.bit_select(ahead.index, 1), coming.bit_select(ahead.index, 1))
        m.d.comb += [
            tags_ahead.addr.eq(ahead.index),
            ahead_known.eq(flags_ahead.any() & (tags_ahead.data == ahead.tag)),
            wanted.eq(~port.beyond & ~port.fault & ~line_coming & ~port.hit),
            wanted_ahead.eq(~wanted & ahead_valid & (distance <= self.ahead) & ~ahead_known & ~coming.bit_select(ahead.index, 1)
                            & ((ahead.as_value() << _LINE_SHIFT) < length)),
            requested.eq(Mux(wanted, line, ahead)),
            request.eq(self.enable & ~bus.arvalid & (fills != FETCH_FILLS) & (wanted | wanted_ahead)),
        ]
        m.d.sync += [ahead.eq(line.as_value() + distance), ahead_valid.eq(1)]
        with m.If(self.start | moved):
            m.d.sync += [distance.eq(1), ahead_valid.eq(0)]
        with m.Elif(ahead_valid & (distance <= self.ahead) & (ahead_known | (request & wanted_ahead))):
            m.d.sync += [distance.eq(distance + 1), ahead_valid.eq(0)]

        order_first = Signal(range(FETCH_FILLS))
        order_last = Signal(range(FETCH_FILLS))
        m.d.comb += [
            bus.arid.eq(AXI_FETCH_ID),
            bus.arlen.eq(beats - 1),
            bus.arsize.eq(ceil_log2(self._bus_width // 8)),
            bus.arburst.eq(AXI_BURST_INCR),
            bus.arcache.eq(AXI_CACHE_NORMAL),
            tags_in.addr.eq(requested.index),
            tags_in.data.eq(requested.tag),
            tags_in.en.eq(request),
            order_in.addr.eq(order_last),
            order_in.data.eq(requested.index),
            order_in.en.eq(request),
        ]
        with m.If(request):
            m.d.sync += [
                bus.araddr.eq(base + (requested.as_value() << exact_log2(FETCH_LINE_BYTES))),
                bus.arvalid.eq(1),
                order_last.eq(order_last + 1),
            ]
        with m.Elif(bus.arready):
            m.d.sync += bus.arvalid.eq(0)

        # Lines arrive in the order of their requests.
        beat_index = Signal(max(1, beat_width))         # of one bit where a line is one beat: no zero-width register in Verilog
        failed = Signal()
        arrived = Signal()
        bad = Signal()
        m.d.comb += [
            bus.rready.eq(1),
            self.beat.eq(bus.rvalid),
            self.busy.eq(fills != 0),
            order_out.addr.eq(order_first),
            words_in.addr.eq(Cat(beat_index[:beat_width], order_out.data)),
            words_in.data.eq(bus.rdata),
            words_in.en.eq(bus.rvalid),
            arrived.eq(bus.rvalid & bus.rlast),
            bad.eq(failed | (bus.rresp != 0)),
            port.fault.eq(fault & ~moved),
            port.fault_addr.eq(base + (line.as_value() << exact_log2(FETCH_LINE_BYTES))),
        ]
        with m.If(bus.rvalid):
            m.d.sync += [beat_index.eq(Mux(bus.rlast, 0, beat_index + 1)), failed.eq(bad & ~bus.rlast)]
        with m.If(arrived):
            m.d.sync += order_first.eq(order_first + 1)
        m.d.sync += [
            fills.eq(fills + request - arrived),
            fault.eq(~self.start & (port.fault | (arrived & bad & line_coming & same_tag & (order_out.data == line.index)))),
        ]

        use(m, words_out, port.hit, port.hit & (port.next_pc != pc))
        use(m, tags_out, line_present | line_coming)
        use(m, tags_ahead, ahead_valid & flags_ahead.any())
        use(m, order_out, bus.rvalid & (fills != 0), arrived)

        with m.If(arrived):
            m.d.sync += [present.bit_select(order_out.data, 1).eq(~bad), coming.bit_select(order_out.data, 1).eq(0)]
        with m.If(request):
            m.d.sync += [present.bit_select(requested.index, 1).eq(0), coming.bit_select(requested.index, 1).eq(1)]
        with m.If(self.start):
            m.d.sync += [present.eq(0), coming.eq(0)]
        return m
