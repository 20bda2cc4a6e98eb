"""Activation rows of the BitVert engine: lines of the scratchpad in, 16 activations of every row out."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.array.bitvert_check import bitvert_rules
from hw.array.commands import refuse
from hw.array.tile import advance, running_address
from hw.config import AcceleratorConfig, ceil_log2
from hw.engines.bitvert import bitvert_piece_bytes
from hw.isa import DESCRIPTORS, ErrorCause, Unit
from hw.pe.bitvert.sums import LANES
from hw.ports import ErrorReport, ScratchpadReadPort, descriptor_layout

__all__ = ["BitvertRows"]


class BitvertRows(wiring.Component):
    """Checks commands, hands them on, and keeps the activations of R rows ahead of the weights, in two banks of a line a row.

    A round reads one block of each valid row, a read a cycle, in the order of the walker's tiles: n-group → m-group → K. A block
    is a line, or as much of one as addresses and stride are multiples of. Of blocks of less than a chunk, 16 bytes, a bank takes
    several. It is filled again as soon as its last chunk is taken. The next command is taken when all rounds are read, while the
    walker is still at work.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    i : In(stream of commands), o : Out(stream of commands)
        Taken, and handed on once they are checked.
    read : Out(ScratchpadReadPort)
    ready : Out(1), chunk : Out(index), take : In(1)
        The next chunk is there, its place, and it is taken: its place stays as it is for two more cycles, then is free.
    place : In(index), activations : Out(R × 16 × signed(8))
        What lies in a place; zero beyond K, anything in rows beyond M.
    halt : In(1)
        Ask for nothing.
    fault : Out(1), report : Out(ErrorReport)
        Level: the command taken last is wrong, or a block of it outside the scratchpad; nothing more comes until reset.
    busy : Out(1)
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.chunks, self._piece = config.line_bytes // LANES, bitvert_piece_bytes(config)
        place = range(2 * self.chunks)
        super().__init__({
            "i": In(stream.Signature(descriptor_layout(Unit.MATRIX))),
            "o": Out(stream.Signature(descriptor_layout(Unit.MATRIX))),
            "read": Out(ScratchpadReadPort(config)),
            "ready": Out(1),
            "chunk": Out(place),
            "take": In(1),
            "place": In(place),
            "activations": Out(data.ArrayLayout(data.ArrayLayout(signed(8), LANES), config.rows)),
            "halt": In(1),
            "fault": Out(1),
            "report": Out(ErrorReport),
            "busy": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        widths = {field.name: field.width for field in DESCRIPTORS[Unit.MATRIX]}
        command = Signal(descriptor_layout(Unit.MATRIX))
        m_left, n_left, k_left = (Signal(widths[name], name=f"{name}_left") for name in ("m", "n", "k"))
        block_addr, row_addr = (Signal(running_address("activation_addr"), name=name) for name in ("block_addr", "row_addr"))
        row = Signal(range(config.rows))
        first_block = Signal()
        size = Signal(range(config.line_bytes + 1))                     # bytes of a block
        position = Signal(range(LANES))                                 # of a block that is less than a chunk, in its chunk
        bank, claimed, filled = Signal(), Signal(2), Signal(2)
        counts = [Signal(range(self.chunks + 1), name=f"count_{index}") for index in range(2)]
        arriving, writing = Signal(), Signal()

        ends_bank = (position + size >= LANES) | (k_left <= size)
        last_row = (row == config.rows - 1) | (row == m_left - 1)
        beyond = row_addr.overflow | (row_addr.value >= config.scratchpad_bytes)
        next_row = advance(row_addr, command.activation_stride)
        m.d.comb += [
            self.o.p.eq(command),
            self.read.addr.eq(row_addr.value >> ceil_log2(config.line_bytes)),
            self.fault.eq(0),
        ]
        granted = self.read.valid & self.read.ready

        with m.If(self.o.valid & self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.FSM(name="rows"):
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(~self.o.valid)
                with m.If(self.i.valid & self.i.ready):
                    m.d.sync += command.eq(self.i.p)
                    m.next = "CHECK"
            with m.State("CHECK"):
                for address in (block_addr, row_addr):
                    m.d.sync += [address.value.eq(command.activation_addr), address.overflow.eq(0)]
                m.d.sync += [m_left.eq(command.m), n_left.eq(command.n), k_left.eq(command.k), row.eq(0), first_block.eq(1),
                             self.o.valid.eq(1)]
                aligned = command.activation_addr | command.activation_stride
                m.d.sync += [size.eq(self._piece), position.eq(0)]
                for log2 in range(ceil_log2(self._piece) + 1, ceil_log2(config.line_bytes) + 1):
                    with m.If(aligned[:log2] == 0):
                        m.d.sync += size.eq(1 << log2)
                m.next = "READ"
                rules = bitvert_rules(config, command)
                with m.If(Cat(broken for broken, _, _ in rules).any()):
                    m.d.sync += self.o.valid.eq(0)
                refuse(m, rules, self.report)
            with m.State("READ"):
                free = ~claimed.bit_select(bank, 1)
                m.d.comb += self.read.valid.eq(free & ~beyond & ~self.halt)
                with m.If(beyond):
                    m.d.sync += [self.report.cause.eq(ErrorCause.SCRATCHPAD_RANGE), self.report.addr.eq(row_addr)]
                    m.next = "FAULT"
                with m.Elif(granted):
                    m.d.sync += [row.eq(row + 1), row_addr.eq(next_row)]
                    with m.If(last_row):
                        m.d.sync += [row.eq(0), position.eq(position + size)]
                        with m.If(ends_bank):
                            m.d.sync += [bank.eq(~bank), claimed.bit_select(bank, 1).eq(1), position.eq(0)]
                        self._next_block(m, command, k_left, m_left, n_left, block_addr, row_addr, next_row, first_block, size)
            with m.State("FAULT"):
                m.d.comb += self.fault.eq(~arriving & ~writing)
        idle = Signal()
        m.d.comb += [idle.eq(self.i.ready & ~arriving & ~writing & ~self.o.valid), self.busy.eq(~idle)]

        self._store(m, granted, last_row & ends_bank, row, bank, row_addr, position, size, k_left, arriving, writing, filled,
                    counts)
        self._hand_out(m, claimed, filled, counts)
        return m

    def _next_block(self, m: Module, command: data.View, k_left: Signal, m_left: Signal, n_left: Signal, block_addr: data.View,
                    row_addr: data.View, next_row: Value, first_block: Signal, size: Signal) -> None:
        """Go on with the next block of the rows, or the next rows, or the same again for other outputs, or end."""
        config = self.config
        start = [address.value.eq(command.activation_addr) for address in (block_addr, row_addr)]
        below = Signal(running_address("activation_addr"), name="below")     # the rows after these, seen in the first block
        with m.If(first_block):
            m.d.sync += below.eq(next_row)
        following = Mux(first_block, next_row, below)
        with m.If(k_left > size):
            onward = advance(block_addr, size)
            m.d.sync += [k_left.eq(k_left - size), block_addr.eq(onward), row_addr.eq(onward), first_block.eq(0)]
        with m.Else():
            m.d.sync += [k_left.eq(command.k), first_block.eq(1)]
            with m.If(m_left > config.rows):
                m.d.sync += [m_left.eq(m_left - config.rows), *(a.eq(following) for a in (block_addr, row_addr))]
            with m.Elif(n_left > config.columns):
                m.d.sync += [m_left.eq(command.m), n_left.eq(n_left - config.columns), *start,
                             *(a.overflow.eq(0) for a in (block_addr, row_addr))]
            with m.Else():
                m.next = "IDLE"

    def _store(self, m: Module, granted: Value, last: Value, row: Signal, bank: Signal, row_addr: data.View, position: Signal,
               size: Signal, k_left: Signal, arriving: Signal, writing: Signal, filled: Signal, counts: list[Signal]) -> None:
        """Put a block that was read into its row: a cycle to arrive, one to be masked, one to be written."""
        config, bits, pieces = self.config, 8 * LANES, self.config.line_bytes // self._piece
        described = data.StructLayout({"row": range(config.rows), "bank": 1, "last": 1, "turn": range(pieces),
                                       "position": range(LANES), "bytes": range(config.line_bytes + 1)})
        first, second = Signal(described, reset_less=True), Signal(described, reset_less=True)
        line = Signal(8 * config.line_bytes, reset_less=True)
        valid_bytes = Signal(range(config.line_bytes + 1))
        m.d.comb += valid_bytes.eq(Mux(k_left < size, k_left, size))
        m.d.sync += [arriving.eq(granted), writing.eq(arriving), second.eq(first)]
        with m.If(granted):
            m.d.sync += [first.row.eq(row), first.bank.eq(bank), first.last.eq(last), first.bytes.eq(valid_bytes),
                         first.position.eq(position), first.turn.eq((row_addr.value - position) >> ceil_log2(self._piece))]
        turned = Signal(8 * config.line_bytes)
        with m.Switch(first.turn):
            for turn in range(pieces):
                with m.Case(turn):
                    m.d.comb += turned.eq(self.read.data.rotate_right(turn * 8 * self._piece))
        for index in range(config.line_bytes):
            valid = index < first.position + first.bytes
            m.d.sync += line[8 * index:8 * index + 8].eq(Mux(valid, turned[8 * index:8 * index + 8], 0))

        places: list[list[Signal]] = []
        for place in range(2 * self.chunks):
            part = line[place % self.chunks * bits:(place % self.chunks + 1) * bits]
            held = [Signal(bits, name=f"row_{r}_{place}", reset_less=True) for r in range(config.rows)]
            for r, register in enumerate(held):
                with m.If(writing & (second.row == r) & (second.bank == place // self.chunks)):
                    # What a block before has put into the chunk stays.
                    kept = range(0, LANES if place % self.chunks == 0 else 1, self._piece)
                    for low, high in zip(kept, (*kept[1:], LANES), strict=True):
                        with m.If(second.position <= low):
                            m.d.sync += register[8 * low:8 * high].eq(part[8 * low:8 * high])
            places.append(held)
        with m.If(writing & second.last):
            m.d.sync += filled.bit_select(second.bank, 1).eq(1)
            for index, count in enumerate(counts):
                with m.If(second.bank == index):
                    m.d.sync += count.eq((second.bytes + LANES - 1) >> ceil_log2(LANES))
        for r in range(config.rows):
            m.d.comb += self.activations[r].eq(Array(held[r] for held in places)[self.place])

    def _hand_out(self, m: Module, claimed: Signal, filled: Signal, counts: list[Signal]) -> None:
        """Offer the chunks of a bank in order, then free it."""
        bank, chunk = Signal(name="out_bank"), Signal(range(max(2, self.chunks)), name="out_chunk")
        m.d.comb += [self.ready.eq(filled.bit_select(bank, 1)), self.chunk.eq(bank * self.chunks + chunk)]
        with m.If(self.take):
            m.d.sync += chunk.eq(chunk + 1)
            with m.If(chunk + 1 == Array(counts)[bank]):
                m.d.sync += [chunk.eq(0), bank.eq(~bank), filled.bit_select(bank, 1).eq(0), claimed.bit_select(bank, 1).eq(0)]
