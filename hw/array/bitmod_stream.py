"""The BitMoD engine's weight stream: pieces of plain or packed weights in, codes and scales of a step out."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.array.bitmod_tiles import bitmod_mode_width, bitmod_tile_layout
from hw.array.cursor import SlotCursor
from hw.array.tile import running_address
from hw.config import AcceleratorConfig, ceil_log2
from hw.engines.bitmod import BitmodMode, bitmod_modes
from hw.memory.fifo import StreamFIFO
from hw.pe.bitmod.precision import LANES
from hw.pe.bitmod.shape import SCALE_BITS
from hw.ports import ScratchpadReadPort

__all__ = ["WeightStream"]

_DEPTH = 4              # pieces that wait: one a cycle, whatever the steps do
_PLANE = 4              # bits that a piece has for each code of a step


class WeightStream(wiring.Component):
    """Reads a piece a cycle, ahead of the steps that need them, and puts the codes of a step together.

    Plain weights: a slot of C bytes for each k, four for a step. Packed: pieces of 2·C bytes, one behind the other at
    `weight_stride`: for each group a header, of each column its scale and the index of its special value; then, as steps need
    them, pieces of the upper plane and of the lower plane of the codes. A piece has 4/w steps of a plane of w bits: of 4-bit
    codes (one plane of 4) a step, of 8-bit ones (4 and 4) likewise, of 6 bits (4 and 2) one and two, of 5 bits (4 and 1) one
    and four, of 3 bits (2 and 1) two and four. Within it fields are in order of k, then of column.

    A tile's first step is there `latency` cycles and one for each of its pieces after the tile was taken.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    i : In(stream of `bitmod_tile_layout`), read : Out(ScratchpadReadPort)
    mode : In, index : In(2)
        Of the present step: its tile's mode, and where in its group it is, modulo 4.
    valid : Out(1), codes : Out(C × 4 × 8), scales : Out(C × 8), specials : Out(C × 2)
    step, group_last : In(1)
        The present step was taken; it ends its group.
    halt : In(1)
        Read nothing.
    fault : Out(1), addr : Out(running address)
        Level: the piece to read next, at `addr`, is not in the scratchpad, and none is on its way.
    """

    latency = 3

    def __init__(self, config: AcceleratorConfig):
        self.config, self._modes = config, bitmod_modes(config)
        self._entry = data.StructLayout({"data": 16 * config.columns, "header": 1, "write": LANES, "ends": 1})
        super().__init__({
            "i": In(stream.Signature(bitmod_tile_layout(config))),
            "read": Out(ScratchpadReadPort(config)),
            "mode": In(bitmod_mode_width(config)),
            "index": In(2),
            "valid": Out(1),
            "codes": Out(data.ArrayLayout(data.ArrayLayout(8, LANES), config.columns)),
            "scales": Out(data.ArrayLayout(SCALE_BITS, config.columns)),
            "specials": Out(data.ArrayLayout(2, config.columns)),
            "step": In(1),
            "group_last": In(1),
            "halt": In(1),
            "fault": Out(1),
            "addr": Out(running_address("weight_addr")),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.pieces = pieces = StreamFIFO(shape=self._entry, depth=_DEPTH, protection=self.config.protection_of("fifos"))
        self._fetch(m, pieces)
        self._assemble(m, pieces)
        return m

    def _fetch(self, m: Module, pieces: StreamFIFO) -> None:
        """Read the pieces of tiles in the order in which steps need them; a step without a piece of its own is told, too."""
        config, read, packed = self.config, self.read, self._modes[1:]
        m.submodules.cursor = cursor = SlotCursor(config, slot_bytes=config.weight_slot_bytes)
        arriving, tag, offset = Signal(), Signal(self._entry, reset_less=True), Signal.like(cursor.offset)
        loaded, plain = Signal(), Signal()
        mode = Signal(bitmod_mode_width(config), reset_less=True)
        stride = Signal.like(cursor.stride)
        left = Signal(self.i.p.k.shape(), reset_less=True)                      # k from this step on
        step = Signal(ceil_log2(max(info.group for info in self._modes) // LANES), reset_less=True)
        lane = Signal(2, reset_less=True)                                       # of plain weights
        header, upper = Signal(reset_less=True), Signal(reset_less=True)        # the piece is one; else it is of the lower plane
        last, needed, ends, beyond, may, event = (Signal(name=name) for name in (
            "last", "needed", "ends", "beyond", "may", "event"))
        high_first, group_end, high_next, low_due = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [plain.eq(mode == 0), last.eq(left <= LANES), low_due.eq(1)]
        with m.Switch(mode):
            for number, info in enumerate(packed, 1):
                with m.Case(number):
                    m.d.comb += [high_first.eq(info.high > 0), group_end.eq(step == info.group // LANES - 1),
                                 high_next.eq(_due(step + 1, info.high)), low_due.eq(_due(step, info.low))]
        m.d.comb += [
            needed.eq(plain | header | upper | low_due),
            ends.eq(Mux(plain, (lane == LANES - 1) | (left == lane + 1), ~header & ~upper)),
            self.addr.eq(cursor.addr), beyond.eq(loaded & needed & cursor.beyond),
            self.fault.eq(beyond & ~arriving & (pieces.level == 0)),
            may.eq(loaded & (pieces.level + arriving < _DEPTH) & ~self.halt & ~beyond), event.eq(may & (~needed | read.ready)),
            read.addr.eq(cursor.line), read.valid.eq(may & needed),
            self.i.ready.eq(~loaded | (event & ends & last)),
            cursor.step.eq(event & needed), cursor.stride.eq(stride),
            cursor.restart.eq(self.i.valid & self.i.ready), cursor.base.eq(self.i.p.weight),
        ]
        with m.If(event):
            m.d.sync += [header.eq(0), upper.eq(header & high_first), lane.eq(lane + 1)]
            with m.If(ends):
                m.d.sync += [left.eq(left - LANES), lane.eq(0), step.eq(Mux(group_end, 0, step + 1)),
                             header.eq(~plain & group_end), upper.eq(~plain & ~group_end & high_next)]
        with m.If(self.i.ready):
            m.d.sync += loaded.eq(self.i.valid)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [mode.eq(self.i.p.mode), stride.eq(self.i.p.weight_stride), left.eq(self.i.p.k), step.eq(0), lane.eq(0),
                         header.eq(self.i.p.mode != 0), upper.eq(0)]

        m.d.sync += arriving.eq(event)
        arriving_plain = Signal()
        with m.If(event):
            m.d.sync += [offset.eq(cursor.offset), arriving_plain.eq(plain), tag.header.eq(header), tag.ends.eq(ends),
                         tag.write.eq(Mux(plain, 1 << lane, Mux(upper, 0b1100, Mux(header | ~low_due, 0, 0b0011))))]
        width = 16 * config.columns
        piece = Array(read.data[low:low + width] for low in range(0, len(read.data), width))[offset >> 1]
        m.d.comb += [
            pieces.i.valid.eq(arriving), pieces.i.p.eq(tag), pieces.i.p.data.eq(piece),
        ]
        with m.If(arriving_plain):
            half = Mux(offset[0], piece[width // 2:], piece[:width // 2])
            m.d.comb += pieces.i.p.data.eq(Cat(half, half))

    def _assemble(self, m: Module, pieces: StreamFIFO) -> None:
        """Sort pieces into a step, headers into one that waits and one that is in use."""
        columns, entry = self.config.columns, pieces.o.p
        complete, waiting, current = Signal(), Signal(), Signal()
        next_header, header = (Signal(16 * columns, name=name, reset_less=True) for name in ("next_header", "header"))
        quarters = [Signal(8 * columns, name=f"quarter_{index}", reset_less=True) for index in range(4)]
        plain, taken, pop = Signal(), Signal(), Signal()
        m.d.comb += [
            plain.eq(self.mode == 0), taken.eq(waiting & (~current | (self.step & self.group_last & ~plain))),
            pieces.o.ready.eq(Mux(entry.header, ~waiting | taken, ~complete | self.step)),
            pop.eq(pieces.o.valid & pieces.o.ready), self.valid.eq(complete & (plain | current)),
        ]
        with m.If(self.step):
            m.d.sync += complete.eq(0)
        with m.If(self.step & self.group_last & ~plain):
            m.d.sync += current.eq(0)
        with m.If(taken):
            m.d.sync += [header.eq(next_header), current.eq(1), waiting.eq(0)]
        with m.If(pop):
            with m.If(entry.header):
                m.d.sync += [next_header.eq(entry.data), waiting.eq(1)]
            with m.Else():
                m.d.sync += complete.eq(entry.ends)
                for index, quarter in enumerate(quarters):
                    with m.If(entry.write[index]):
                        m.d.sync += quarter.eq(entry.data.word_select(index & 1, 8 * columns))
        for c in range(columns):
            fields = header.word_select(c, 16)
            m.d.comb += [self.scales[c].eq(Mux(plain, 1, fields[:SCALE_BITS])),
                         self.specials[c].eq(fields[SCALE_BITS:SCALE_BITS + 2])]
        low, high = Cat(quarters[:2]), Cat(quarters[2:])
        with m.Switch(self.mode):
            with m.Case(0):
                for lane, quarter in enumerate(quarters):
                    m.d.comb += [self.codes[c][lane].eq(quarter.word_select(c, 8)) for c in range(columns)]
            for number, info in enumerate(self._modes[1:], 1):
                with m.Case(number):
                    self._codes(m, info, _plane(low, info.low, self.index), _plane(high, info.high, self.index))

    def _codes(self, m: Module, info: BitmodMode, low: Value, high: Value) -> None:
        """Put the codes of a step together from the parts of two planes that are of this step."""
        columns = self.config.columns
        for c in range(columns):
            for lane in range(LANES):
                place = lane * columns + c
                m.d.comb += self.codes[c][lane].eq(Cat(low[place * info.low:(place + 1) * info.low],
                                                       high[place * info.high:(place + 1) * info.high]))


def _due(step: Value, width: int) -> Value:
    """Return whether a step begins a piece of a plane of `width` bits."""
    return (step & (_PLANE // width - 1)) == 0 if width else C(0, 1)


def _plane(piece: Value, width: int, index: Value) -> Value:
    """Return the part of a piece that is of the step `index`, of a plane of `width` bits."""
    if not width:
        return C(0, 0)
    size = len(piece) * width // _PLANE
    return Array(piece[low:low + size] for low in range(0, len(piece), size))[index & (_PLANE // width - 1)]
