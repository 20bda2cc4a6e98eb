"""Walks through the weights of a BitVert command: which slots to read, and what each column is."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.array.bitvert_drain import bitvert_step_layout
from hw.array.cursor import SlotCursor
from hw.array.tile import advance, running_address
from hw.config import AcceleratorConfig, ceil_log2
from hw.engines.bitvert import PlanesFormat, bitvert_formats, bitvert_pace
from hw.isa import DESCRIPTORS, ErrorCause, Unit
from hw.pe.bitvert.sums import LANES
from hw.ports import ErrorReport, ScratchpadReadPort, descriptor_layout

__all__ = ["RECORD_PASSES", "BitvertWalker", "SlotKind", "bitvert_tag_layout", "read_layout"]

RECORD_PASSES = 4
"""Passes of 16 k for which a slot of metadata is enough."""
_PLAIN_COLUMNS = 8


class SlotKind:
    """What a slot of weights is: `read_layout.kind`."""

    COLUMN, METADATA, PLAIN = range(3)


def bitvert_tag_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return the layout of what becomes of a result: first accumulator row, valid columns of the tile.

    `accumulate`: add to the rows; `last`: the result is the last one of its command. With `lane_rows`: whether channels are split
    (`split`), of which of the groups that share a stream the result is (`member`), rows from one group's to the next one's
    (`stride`), and which of the last four choices counts (`choice`).
    """
    address = ceil_log2(config.accumulator_rows)
    split = {"split": 1, "member": 3, "stride": address, "choice": 2} if config.lane_rows else {}
    return data.StructLayout({"addr": address, "columns": range(config.columns + 1), "accumulate": 1, "last": 1, **split})


def read_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return the layout of what is known of a slot that is read.

    `kind` of `SlotKind`; `offset` in its line, in slots of plain weights. Of a column: its `step`, the `place` of its
    activations, the `group` of the metadata that it belongs to, if any (`described`). A plain slot is weight `lane` of its pass;
    the last one of a pass (`ends`) has step and place. With `lane_rows`, of metadata: it is the `choice`-th choice (`chooses`).
    """
    split = {"chooses": 1, "choice": 2} if config.lane_rows else {}
    return data.StructLayout({
        "kind": 2,
        "offset": range(config.line_bytes // config.weight_slot_bytes),
        "lane": range(LANES),
        "ends": 1,
        "described": 1,
        "group": 1,
        "place": range(2 * config.line_bytes // LANES),
        "step": bitvert_step_layout(bitvert_tag_layout(config).size),
        **split,
    })


class BitvertWalker(wiring.Component):
    """Asks for the slots of a command in order: n-group → m-group → K, in passes of 16 of K.

    Packed weights: for every four passes a slot of metadata, then for each pass a slot for each column. Plain weights: a slot
    for each k of a pass; what comes behind them makes columns of these (`BitvertPlanes`), which takes 8 cycles. Of groups that
    share a stream (`PlanesFormat.one_of`), one's records are read, and the cursor passes over the others'. A read a cycle,
    without a gap between passes and tiles (Stripes PEs take a column every other cycle); the next command is taken two cycles
    before its first read.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    i : In(stream of commands)
        Checked ones.
    ready : In(1), chunk : In(index), take : Out(1)
        Activations of the next pass (`BitvertRows`).
    read : Out(ScratchpadReadPort)
        Without its data.
    issue : Out(1), o : Out(`read_layout`)
        A slot is granted.
    macs, macs_gated : Out
        With the slot that a pass starts with (packed) or ends with (plain): its multiply-accumulates on valid rows, columns and
        k, and the others.
    halt : In(1)
        Ask for nothing.
    starved : Out(1)
        Nothing is asked for before activations come, if then.
    fault : Out(1), report : Out(ErrorReport)
        Level: a slot or a row is outside its memory; nothing more comes until reset.
    busy : Out(1)
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.formats, self._pace = bitvert_formats(config), bitvert_pace(config)
        macs = range(LANES * config.rows * config.columns + 1)
        super().__init__({
            "i": In(stream.Signature(descriptor_layout(Unit.MATRIX))),
            "ready": In(1),
            "chunk": In(range(2 * config.line_bytes // LANES)),
            "take": Out(1),
            "read": Out(ScratchpadReadPort(config)),
            "issue": Out(1),
            "o": Out(read_layout(config)),
            "macs": Out(macs),
            "macs_gated": Out(macs),
            "halt": In(1),
            "starved": Out(1),
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
        run_passes = config.os_depth // LANES
        run_left, lane = Signal(range(run_passes + 1)), Signal(range(LANES))
        column, record_pass = Signal(3), Signal(range(RECORD_PASSES))
        described = Signal()                # the metadata of this record is there, or there are none
        fresh_tile = Signal()
        weight_base = Signal(running_address("weight_addr"))
        column_acc, acc = (Signal(running_address("acc_addr"), name=name) for name in ("column_acc", "acc"))
        member, choice = Signal(3), Signal(2)
        stream_base = Signal(running_address("weight_addr"))            # where the stream of the groups that share it begins
        mode = self._mode(m, command, member)

        rows, columns, depth = (Signal(range(limit + 1), name=name) for limit, name in (
            (config.rows, "rows"), (config.columns, "columns"), (LANES, "depth")))
        m.d.comb += [rows.eq(_least(m_left, config.rows)), columns.eq(_least(n_left, config.columns)),
                     depth.eq(_least(k_left, LANES))]
        m.submodules.cursor = cursor = SlotCursor(config, slot_bytes=config.weight_slot_bytes)
        last_acc = acc.as_value() + rows - 1
        beyond_acc = last_acc >= config.accumulator_rows

        # What the next slot is.
        kind, first, ends, tile_last, run_last = (Signal(width, name=name) for width, name in (
            (2, "kind"), (1, "first"), (1, "ends"), (1, "tile_last"), (1, "run_last")))
        m.d.comb += [
            kind.eq(Mux(mode.plain, SlotKind.PLAIN, Mux(described, SlotKind.COLUMN, SlotKind.METADATA))),
            ends.eq(Mux(mode.plain, lane == depth - 1, (kind == SlotKind.COLUMN) & (column == mode.columns - 1))),
            first.eq(Mux(mode.plain, ends, (kind == SlotKind.COLUMN) & (column == 0))),
            tile_last.eq(k_left <= LANES),
            run_last.eq(tile_last | (run_left == 1)),
        ]

        # When it may be read: the columns of a plain pass are on their way for long, and rows of a result leave one a cycle.
        plain_gap, plain_later = _PLAIN_COLUMNS * self._pace, (_PLAIN_COLUMNS - 1) * self._pace + 1
        gap, draining = Signal(range(plain_gap + 1)), Signal(range(config.rows + plain_later + 1))
        turn = Mux(mode.plain, draining <= plain_later, draining == 0)
        held = Signal()                 # a column was read, and the array takes the next one in another cycle
        m.d.sync += held.eq((self._pace > 1) & self.issue & (kind == SlotKind.COLUMN))
        busy_planes = Mux(mode.plain, ends & (gap > 1), (kind == SlotKind.COLUMN) & (gap != 0))
        active = Signal()
        wanted = active & ~cursor.beyond & ~beyond_acc & ~self.halt
        wait = (held & (kind == SlotKind.COLUMN)) | busy_planes | (first & ~self.ready) | (ends & run_last & ~turn)
        m.d.comb += [
            self.read.addr.eq(cursor.line),
            self.read.valid.eq(wanted & ~wait),
            self.issue.eq(self.read.valid & self.read.ready),
            self.take.eq(self.issue & first),
            self.starved.eq(active & first & ~self.ready),
            cursor.stride.eq(Mux(mode.plain, command.weight_stride, self._step(mode, ends, record_pass))),
            cursor.step.eq(self.issue),
        ]
        with m.If(gap != 0):
            m.d.sync += gap.eq(gap - 1)
        with m.If(draining != 0):
            m.d.sync += draining.eq(draining - 1)
        with m.If(self.issue & ends):
            with m.If(mode.plain):
                m.d.sync += gap.eq(plain_gap)
            with m.If(run_last):
                m.d.sync += draining.eq(rows - 1 + Mux(mode.plain, plain_later, 0))

        self._describe(m, command, mode, kind, column, lane, record_pass, first, ends, run_last, tile_last, run_left, run_passes,
                       fresh_tile, rows, columns, acc, m_left, n_left, cursor)
        if config.lane_rows:
            tag = data.View(bitvert_tag_layout(config), self.o.step.tag)
            m.d.comb += [self.o.chooses.eq(mode.kept & (k_left == command.k)), self.o.choice.eq(choice), tag.choice.eq(choice),
                         tag.split.eq(mode.split), tag.member.eq(member), tag.stride.eq(command.acc_tile_stride)]
        with m.If(self.take):
            used = rows * columns * depth
            m.d.comb += [self.macs.eq(used), self.macs_gated.eq(LANES * config.rows * config.columns - used)]

        def start_tile() -> list:
            return [k_left.eq(command.k), run_left.eq(run_passes), fresh_tile.eq(1), described.eq(~mode.metadata), column.eq(0),
                    lane.eq(0), record_pass.eq(0)]

        with m.FSM(name="walker"):
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += command.eq(self.i.p)
                    m.next = "START"
            with m.State("START"):
                m.d.comb += [cursor.restart.eq(1), cursor.base.eq(_extended(command.weight_addr))]
                m.d.sync += [*start_tile(), m_left.eq(command.m), n_left.eq(command.n), weight_base.value.eq(command.weight_addr),
                             weight_base.overflow.eq(0)]
                if config.lane_rows:
                    m.d.sync += [stream_base.value.eq(command.weight_addr), stream_base.overflow.eq(0), member.eq(0),
                                 choice.eq(choice + 1)]
                for address in (column_acc, acc):
                    m.d.sync += [address.value.eq(command.acc_addr), address.overflow.eq(0)]
                m.next = "READ"
            with m.State("READ"):
                m.d.comb += active.eq(1)
                with m.If(beyond_acc):
                    m.d.sync += [self.report.cause.eq(ErrorCause.ACCUMULATOR_RANGE), self.report.addr.eq(last_acc)]
                    m.next = "FAULT"
                with m.Elif(cursor.beyond):
                    m.d.sync += [self.report.cause.eq(ErrorCause.SCRATCHPAD_RANGE), self.report.addr.eq(cursor.addr)]
                    m.next = "FAULT"
                with m.If(self.issue):
                    with m.If(kind == SlotKind.METADATA):
                        m.d.sync += described.eq(1)
                    with m.Elif(~ends):
                        m.d.sync += [column.eq(column + 1), lane.eq(lane + 1)]
                    with m.Else():
                        m.d.sync += [column.eq(0), lane.eq(0), k_left.eq(k_left - LANES), record_pass.eq(record_pass + 1),
                                     run_left.eq(run_left - 1)]
                        with m.If(record_pass == RECORD_PASSES - 1):
                            m.d.sync += described.eq(~mode.metadata)
                        with m.If(run_last):
                            m.d.sync += [run_left.eq(run_passes), fresh_tile.eq(0)]
                        with m.If(tile_last):
                            m.d.sync += start_tile()
                            self._next_tile(m, command, mode, m_left, n_left, weight_base, stream_base, member, choice,
                                            column_acc, acc, cursor)
            with m.State("FAULT"):
                m.d.comb += self.fault.eq(1)
        m.d.comb += self.busy.eq(~self.i.ready)
        return m

    def _mode(self, m: Module, command: data.View, member: Signal) -> data.View:
        """Return what the command's mode means for a group of columns; with `lane_rows` also if and how channels are split.

        `kept`: the group has all columns; `last_member` of those that share a stream; `record` and `skip`: bytes of the group's
        records, and of the others'.
        """
        width = command.weight_tile_stride.shape()
        split = {"split": 1, "kept": 1, "last_member": 3, "record": width, "skip": width} if self.config.lane_rows else {}
        mode = Signal(data.StructLayout({"plain": 1, "columns": 4, "metadata": 1, "subtract": 1, **split}))
        m.d.comb += [mode.plain.eq(1), mode.columns.eq(_PLAIN_COLUMNS)]
        with m.Switch(command.mode):
            for number, fmt in enumerate(self.formats, 1):
                with m.Case(number):
                    m.d.comb += _described(mode, fmt)
                    if fmt.one_of > 1:
                        self._split(m, mode, fmt, member)
        return mode

    def _split(self, m: Module, mode: data.View, fmt: PlanesFormat, member: Signal) -> None:
        """Say how a group of a mode that splits channels lies: the first has all its columns."""
        slot = 2 * self.config.columns
        kept, other = fmt.members[:2]
        m.d.comb += [mode.split.eq(1), mode.kept.eq(member == 0), mode.last_member.eq(fmt.one_of - 1)]
        for first, group in ((1, kept), (0, other)):
            with m.If(mode.kept == first):
                m.d.comb += [*_described(mode, group), mode.record.eq(group.slots * slot),
                             mode.skip.eq((fmt.slots - group.slots) * slot)]

    def _step(self, mode: data.View, ends: Signal, record_pass: Signal) -> Value:
        """Return the bytes from a packed slot to the next one that is read."""
        slot = 2 * self.config.columns
        if not self.config.lane_rows:
            return Const(slot)
        return Mux(ends & (record_pass == RECORD_PASSES - 1), mode.skip + slot, slot)

    def _describe(self, m: Module, command: data.View, mode: data.View, kind: Signal, column: Signal, lane: Signal,
                  record_pass: Signal, first: Signal, ends: Signal, run_last: Signal, tile_last: Signal, run_left: Signal,
                  run_passes: int, fresh_tile: Signal, rows: Signal, columns: Signal, acc: data.View, m_left: Signal,
                  n_left: Signal, cursor: SlotCursor) -> None:
        """Say of the slot that is read what those behind need to know."""
        config, o = self.config, self.o
        step = o.step
        tag = data.View(bitvert_tag_layout(config), step.tag)
        m.d.comb += [
            o.kind.eq(kind), o.offset.eq(cursor.offset), o.lane.eq(lane), o.ends.eq(ends),
            o.described.eq(mode.metadata & ~mode.kept if config.lane_rows else mode.metadata),
            o.group.eq(record_pass[1]), o.place.eq(self.chunk),
            step.first.eq(first), step.second.eq(column == 1), step.ends.eq(ends),
            step.fresh.eq(first & (run_left == run_passes)),
            step.last.eq(ends & run_last), step.subtract.eq(mode.subtract), step.rows.eq(rows),
            tag.addr.eq(acc.value), tag.columns.eq(columns), tag.accumulate.eq(command.accumulate | ~fresh_tile),
            tag.last.eq(tile_last & (m_left <= config.rows) & (n_left <= config.columns)),
        ]

    def _next_tile(self, m: Module, command: data.View, mode: data.View, m_left: Signal, n_left: Signal, weight_base: data.View,
                   stream_base: data.View, member: Signal, choice: Signal, column_acc: data.View, acc: data.View,
                   cursor: SlotCursor) -> None:
        """Go on with the next group of rows, or else of columns, or end."""
        config = self.config
        m.d.comb += cursor.restart.eq(1)
        with m.If(m_left > config.rows):
            m.d.comb += cursor.base.eq(weight_base)
            m.d.sync += [m_left.eq(m_left - config.rows), acc.eq(advance(acc, Const(config.rows)))]
        with m.Elif(n_left > config.columns):
            right, below = advance(weight_base, command.weight_tile_stride), advance(column_acc, command.acc_tile_stride)
            if config.lane_rows:
                shares = mode.split & (member != mode.last_member)
                right = Mux(shares, advance(weight_base, mode.record), advance(stream_base, command.weight_tile_stride))
                m.d.sync += member.eq(Mux(shares, member + 1, 0))
                with m.If(~shares):
                    m.d.sync += [stream_base.eq(right), choice.eq(choice + 1)]
            m.d.comb += cursor.base.eq(right)
            m.d.sync += [m_left.eq(command.m), n_left.eq(n_left - config.columns), weight_base.eq(right), column_acc.eq(below),
                         acc.eq(below)]
        with m.Else():
            m.next = "IDLE"


def _described(mode: data.View, fmt: PlanesFormat) -> list:
    return [mode.plain.eq(0), mode.columns.eq(fmt.columns), mode.metadata.eq(fmt.metadata), mode.subtract.eq(fmt.subtract)]


def _least(value: Value, limit: int) -> Value:
    """Return the lesser of `value` and `limit`."""
    return Mux(value < limit, value, limit)


def _extended(address: Value) -> Value:
    """Return an address with its overflow bit, which is clear."""
    return Cat(address, C(0, 1))
