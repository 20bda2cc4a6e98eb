"""What the load and store units share: checking a block, and cutting it into AXI4 bursts."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.config import AcceleratorConfig, ceil_log2
from hw.isa import ANGLE_RECORD_BYTES, ErrorCause, Unit
from hw.ports import ADDRESS_WIDTH, AXI_PAGE_BYTES, ErrorReport, descriptor_layout
from hw.protect.address_check import ADDRESS_RESIDUE_BITS, AddressCheck
from hw.protect.residue import digits, residue_sum

__all__ = [
    "SCRATCHPAD_WIDTH", "BlockCheck", "BurstSplitter", "block_layout", "burst_layout", "check_address", "first_bytes",
    "place_layout",
]

SCRATCHPAD_WIDTH = 25           # one bit more than an address field, so that the first address beyond the end is seen as such


def block_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return the layout of a checked block: a descriptor with `row_bytes` split into beats and the bytes of the last one.

    `tail` is 0 when the last beat of a row is full.
    """
    beat_log2 = ceil_log2(config.beat_bytes)
    return data.StructLayout({
        "dram_addr": 32, "dram_stride": 32, "rows": 16, "row_beats": 24 - beat_log2 + 1, "tail": beat_log2,
        "addr": 24, "stride": 24, "transpose": 1, "unpack": 1, **_elsewhere(config),
    })


def _elsewhere(config: AcceleratorConfig) -> dict[str, int]:
    """Return the bits that say what goes from or to other places than DRAM and scratchpad."""
    return {**({"stream": 1} if config.weight_stream else {}),
            **({"records": 1, "angles": 1, "advance": 1} if config.rotary_pairs else {})}


def burst_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return the layout of one burst and of where its bytes go.

    Fields: `dram_addr` of its first beat; `wrapped`: that address lies beyond 32 bits; `length` in beats less one; `addr` and
    `stride` in the scratchpad; `tail`: valid bytes in its last beat, 0 for all; `transpose`, `unpack`; `row_end`: no more beats
    of this row (of this column of beats, when transposed); `last` burst of the block. With an engine that has a weight stream
    also `stream`: the beats are for it. With a source of angles `records`: they are for that; `angles`: they come from there,
    not from DRAM; and `advance`: it goes on by a position behind the block.
    With residues of addresses also `check`, `dram_addr` plus `length` modulo 3.
    """
    check = {"check": ADDRESS_RESIDUE_BITS} if config.address_residue else {}
    return data.StructLayout({
        "dram_addr": 32, "wrapped": 1, "length": ceil_log2(max(2, config.burst_beats)), "addr": SCRATCHPAD_WIDTH, "stride": 24,
        "tail": ceil_log2(config.beat_bytes), "transpose": 1, "unpack": 1, "row_end": 1, "last": 1,
        **_elsewhere(config), **check,
    })


def place_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return what a scratchpad byte address says: `offset` in bytes in a `line`; `beyond` is zero within range."""
    offset_width, line_width = ceil_log2(config.line_bytes), ceil_log2(config.scratchpad_lines)
    return data.StructLayout({
        "offset": offset_width, "line": line_width, "beyond": SCRATCHPAD_WIDTH - line_width - offset_width})


def first_bytes(tail: Value, count: int) -> Value:
    """Return a mask of the first `tail` of `count` bytes, or of all of them when `tail` is zero."""
    return Mux(tail == 0, (1 << count) - 1, ((1 << tail) - 1)[:count])


def check_address(m: Module, *, issue: Value, check: Value, valid: Value, addr: Value, length: Value) -> None:
    """Add an `AddressCheck` of what an address channel shows, against the `check` of the burst that it took with `issue`."""
    m.submodules.address_check = checker = AddressCheck()
    held = Signal(ADDRESS_RESIDUE_BITS, name="address_residue", reset_less=True)
    with m.If(issue):
        m.d.sync += held.eq(check)
    m.d.comb += [checker.valid.eq(valid), checker.addr.eq(addr), checker.length.eq(length), checker.check.eq(held)]


class BlockCheck(wiring.Component):
    """Checks sizes and alignment of a load or store descriptor. Combinational.

    Parameters
    ----------
    config : AcceleratorConfig
    unit : Unit
        LOAD or STORE: which descriptor; a store is never transposed nor unpacked.

    Members
    -------
    descriptor : In(descriptor_layout(unit))
    block : Out(block_layout(config))
    fault : Out(1), report : Out(ErrorReport)
        Set when the descriptor is impossible: BAD_SIZE for an empty block, UNSUPPORTED for a stream that no engine takes or that
        would be transposed or unpacked (with a source of angles: both), BAD_SIZE for more angles than there are, MISALIGNED
        for an address or stride that is no multiple of the beat; with the size, the
        bit or the address in question, in this order, and in that of the fields.
    """

    def __init__(self, config: AcceleratorConfig, unit: Unit):
        self.config = config
        self.unit = unit
        super().__init__({
            "descriptor": In(descriptor_layout(unit)),
            "block": Out(block_layout(config)),
            "fault": Out(1),
            "report": Out(ErrorReport),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        given = self.descriptor
        beat_log2 = ceil_log2(self.config.beat_bytes)

        m.d.comb += [
            self.block.row_beats.eq((given.row_bytes + self.config.beat_bytes - 1) >> beat_log2),
            self.block.tail.eq(given.row_bytes),
        ]
        for name in ("transpose", "unpack"):
            turned: Any = given[name] if self.unit == Unit.LOAD else 0
            if self.unit == Unit.LOAD and self.config.rotary_pairs:
                turned &= ~given.stream
            m.d.comb += self.block[name].eq(turned)
        for name in ("dram_addr", "dram_stride", "rows", "addr", "stride"):
            m.d.comb += self.block[name].eq(given[name])

        wrong = [(given[name] == 0, ErrorCause.BAD_SIZE, given[name]) for name in ("rows", "row_bytes")]
        if self.unit == Unit.LOAD:
            refused = given.stream
            if self.config.rotary_pairs:
                refused = self._angles(m)
            elif self.config.weight_stream:
                m.d.comb += self.block.stream.eq(given.stream)
                refused = given.stream & (given.transpose | given.unpack)
            wrong.append((refused, ErrorCause.UNSUPPORTED, given.stream))
            if self.config.rotary_pairs:
                wrong += self._angle_sizes()
        wrong += [((given[name] & (self.config.beat_bytes - 1)).any(), ErrorCause.MISALIGNED, given[name])
                  for name in ("dram_addr", "dram_stride", "addr", "stride")]
        for condition, cause, value in reversed(wrong):          # the last assignment wins, so the first fault does
            with m.If(condition):
                m.d.comb += [self.fault.eq(1), self.report.cause.eq(cause), self.report.addr.eq(value)]
        return m

    def _angles(self, m: Module) -> Value:
        """Tell what `stream` is with which other bit; return whether there is no such thing."""
        given, block = self.descriptor, self.block
        m.d.comb += [
            block.records.eq(given.stream & given.transpose),
            block.angles.eq(given.stream & given.unpack),
            block.advance.eq(block.angles & (given.dram_stride != 0)),
        ]
        weights = given.stream & ~given.transpose & ~given.unpack
        if not self.config.weight_stream:
            return weights | (given.stream & given.transpose & given.unpack)
        m.d.comb += block.stream.eq(weights)
        return given.stream & given.transpose & given.unpack

    def _angle_sizes(self) -> list[tuple[Value, ErrorCause, Value]]:
        """Return the rules of records, one row, and of angles, a row of cosines and one of sines."""
        given, pairs = self.descriptor, self.config.rotary_pairs
        records, angles = given.stream & given.transpose, given.stream & given.unpack
        return [
            ((records & (given.rows > 1)) | (angles & (given.rows > 2)), ErrorCause.BAD_SIZE, given.rows),
            ((records & ((given.row_bytes > ANGLE_RECORD_BYTES * pairs) | (given.row_bytes & (ANGLE_RECORD_BYTES - 1)).any()))
             | (angles & (given.row_bytes > 4 * pairs)), ErrorCause.BAD_SIZE, given.row_bytes),
        ]


class BurstSplitter(wiring.Component):
    """Cuts blocks into INCR bursts: at most `burst_beats` long, within a row, never across 4 KiB.

    Latency 1 cycle; one burst in each cycle, across rows and blocks too. One more block waits behind the one that is cut, so
    that `ready` of `i` is a register. A plain block is walked row by row. A transposed one is
    walked by columns of beats, from the top down, in bursts of one beat; the scratchpad address of the beat of row i then is
    i bytes after that of row 0, and the next column's `beat_bytes` strides further. In the scratchpad unpacked beats are two, and
    columns of beats twice as many strides apart.

    Scratchpad addresses are not checked here, but they are right up to and including the first one that is out of range. The
    first burst that would start beyond 32 bits of DRAM address, and all that follow in its block, are marked `wrapped`.

    With residues of addresses, those of the block's address and stride are taken when it comes in, and go through sums of their
    own beside those of the addresses.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    i : In(stream of `block_layout(config)`)
    o : Out(stream of `burst_layout(config)`)
    """

    latency = 1

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "i": In(stream.Signature(block_layout(config))),
            "o": Out(stream.Signature(burst_layout(config))),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        beat_bytes, beat_log2 = config.beat_bytes, ceil_log2(config.beat_bytes)
        page_beats = AXI_PAGE_BYTES // beat_bytes
        fields = block_layout(config).members
        burst = self.o.payload
        position = data.StructLayout({"dram": ADDRESS_WIDTH + 1, "scratchpad": SCRATCHPAD_WIDTH})
        kept = ("dram_stride", "rows", "row_beats", "tail", "stride", "transpose", "unpack", *_elsewhere(config))

        # Both walks are two loops. Plain: rows, and in them bursts. Transposed: columns, and in them single beats.
        active = Signal()
        waiting = Signal()
        waiting_block = Signal(block_layout(config), reset_less=True)       # while `waiting`
        free = Signal()                                                     # the next block can be begun
        given = Signal(block_layout(config))
        block = Signal(data.StructLayout({name: fields[name] for name in kept}), reset_less=True)
        start = Signal(position, reset_less=True)                           # of this row or column
        here = Signal(position, reset_less=True)
        inner_left = Signal(fields["row_beats"], reset_less=True)           # beats of this row, or rows of this column
        outer_left = Signal(fields["row_beats"], reset_less=True)           # rows or columns, this one included

        page_left = Signal(range(page_beats + 1))
        room = Signal(range(config.burst_beats + 1))
        beats = Signal(range(config.burst_beats + 1))
        inner_last = Signal()
        outer_last = Signal()
        m.d.comb += [
            page_left.eq(page_beats - here.dram[beat_log2:beat_log2 + ceil_log2(page_beats)]),
            room.eq(Mux(page_left < config.burst_beats, page_left, config.burst_beats)),
            beats.eq(Mux(block.transpose, 1, Mux(inner_left < room, inner_left, room))),
            inner_last.eq(inner_left == beats),
            outer_last.eq(outer_left == 1),
        ]

        after = Signal(position)                                            # what follows in the inner loop, and in the outer one
        after_start = Signal(position)
        beyond = here.dram & (1 << ADDRESS_WIDTH)                            # once there, it stays there
        with m.If(block.transpose):
            m.d.comb += [
                after.dram.eq((here.dram + block.dram_stride) | beyond),
                after.scratchpad.eq(here.scratchpad + 1),
                after_start.dram.eq((start.dram + beat_bytes) | beyond),
                after_start.scratchpad.eq(start.scratchpad + (Mux(block.unpack, block.stride << 1, block.stride) << beat_log2)),
            ]
        with m.Else():
            m.d.comb += [
                after.dram.eq((here.dram + (beats << beat_log2)) | beyond),
                after.scratchpad.eq(here.scratchpad + (Mux(block.unpack, beats << 1, beats) << beat_log2)),
                after_start.dram.eq((start.dram + block.dram_stride) | beyond),
                after_start.scratchpad.eq(start.scratchpad + block.stride),
            ]

        m.d.comb += [
            self.o.valid.eq(active),
            burst.dram_addr.eq(here.dram),
            burst.wrapped.eq(here.dram[ADDRESS_WIDTH]),
            burst.length.eq(beats - 1),
            burst.addr.eq(here.scratchpad),
            burst.stride.eq(block.stride),
            burst.tail.eq(Mux(Mux(block.transpose, outer_last, inner_last), block.tail, 0)),
            burst.transpose.eq(block.transpose),
            burst.unpack.eq(block.unpack),
            *[burst[name].eq(block[name]) for name in _elsewhere(config)],
            burst.row_end.eq(inner_last),
            burst.last.eq(inner_last & outer_last),
            self.i.ready.eq(~waiting),
            free.eq(~active | (self.o.ready & burst.last)),
            given.eq(Mux(waiting, waiting_block, self.i.payload)),
        ]
        m.d.sync += waiting.eq(~free & (waiting | self.i.valid))
        with m.If(~waiting):
            m.d.sync += waiting_block.eq(self.i.payload)

        with m.If(free):
            m.d.sync += [
                active.eq(waiting | self.i.valid),
                start.dram.eq(given.dram_addr),
                start.scratchpad.eq(given.addr),
                here.dram.eq(given.dram_addr),
                here.scratchpad.eq(given.addr),
                inner_left.eq(Mux(given.transpose, given.rows, given.row_beats)),
                outer_left.eq(Mux(given.transpose, given.row_beats, given.rows)),
            ]
            m.d.sync += [block[name].eq(given[name]) for name in kept]
        with m.Elif(self.o.ready):
            with m.If(inner_last):
                m.d.sync += [
                    start.eq(after_start),
                    here.eq(after_start),
                    inner_left.eq(Mux(block.transpose, block.rows, block.row_beats)),
                    outer_left.eq(outer_left - 1),
                ]
            with m.Else():
                m.d.sync += [here.eq(after), inner_left.eq(inner_left - beats)]
        if config.address_residue:
            self._elaborate_residues(m, block, beats, inner_last=inner_last, free=free, waiting=waiting)
        return m

    def _elaborate_residues(self, m: Module, block: Any, beats: Value, *, inner_last: Value, free: Value, waiting: Value) -> None:
        """Add what the registers `start` and `here` are modulo 3, from the block's own address and stride on."""
        bits, beat_log2 = ADDRESS_RESIDUE_BITS, ceil_log2(self.config.beat_bytes)

        def register(name: str) -> Signal:
            return Signal(bits, name=name, reset_less=True)

        incoming = {name: residue_sum(m, digits(self.i.payload[name], bits), bits) for name in ("dram_addr", "dram_stride")}
        held = {name: register(f"waiting_{name}_residue") for name in incoming}
        given = {name: Mux(waiting, held[name], value) for name, value in incoming.items()}
        with m.If(~waiting):
            m.d.sync += [held[name].eq(value) for name, value in incoming.items()]

        stride, start, here = register("stride_residue"), register("start_residue"), register("here_residue")
        along = residue_sum(m, digits(Cat(C(0, beat_log2), beats), bits), bits)
        across = C(self.config.beat_bytes % ((1 << bits) - 1), bits)
        after = residue_sum(m, [here, Mux(block.transpose, stride, along)], bits)
        after_start = residue_sum(m, [start, Mux(block.transpose, across, stride)], bits)
        m.d.comb += self.o.payload.check.eq(residue_sum(m, [here, *digits(self.o.payload.length, bits)], bits))
        with m.If(free):
            m.d.sync += [stride.eq(given["dram_stride"]), start.eq(given["dram_addr"]), here.eq(given["dram_addr"])]
        with m.Elif(self.o.ready):
            m.d.sync += here.eq(Mux(inner_last, after_start, after))
            with m.If(inner_last):
                m.d.sync += start.eq(after_start)
