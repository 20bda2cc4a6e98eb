"""Walks through a matrix command of the BitMoD engine: which slots to read, and what each step is."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.array.cursor import SlotCursor
from hw.array.tile import SlotRequest, advance, running_address
from hw.config import AcceleratorConfig, ceil_log2
from hw.isa import DESCRIPTORS, Dataflow, ErrorCause, Unit
from hw.pe.bitmod.precision import LANES
from hw.ports import ErrorReport, descriptor_layout

__all__ = ["BitmodWalker", "bitmod_tag_layout"]


def bitmod_tag_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return the layout of what becomes of a group's products: first accumulator row, valid rows and columns of the tile.

    `accumulate`: the first group of a tile is added as well; `last`: the tile is the last one of its command.
    """
    return data.StructLayout({"addr": ceil_log2(config.accumulator_rows), "rows": range(config.rows + 1),
                              "columns": range(config.columns + 1), "accumulate": 1, "last": 1})


class BitmodWalker(wiring.Component):
    """Checks a command and asks for its slots in order: n-group → m-group → group: its header, then its steps of four k.

    A header is one weight slot; a step is one activation slot and one weight slot, granted in any order. The first step can be
    granted `latency` cycles after the command was taken, the next one whenever `room` allows; the next command is taken in the
    cycle after the last step at the earliest.

    Parameters
    ----------
    config : AcceleratorConfig
    group : int
        G, a multiple of 4.
    activation_slot, weight_slot : int
        Bytes of a slot, powers of two.

    Members
    -------
    i : In(stream of commands)
    room : In(1)
        A step may be granted.
    activation, weight : Out(SlotRequest)
        The former's `count` masks the values of a step beyond K.
    header : Out(1)
        The weight slot asked for is a header.
    issue : Out(1)
        Both slots of a step are granted, in this cycle or before: the following describe it.
    group_last, last : Out(1)
        The step is the last of its group, or of its tile.
    tag : Out(`bitmod_tag_layout`)
    macs : Out
        Multiply-accumulates on valid rows, columns and k of the step.
    halt : In(1)
        Ask for nothing.
    fault : Out(1), report : Out(ErrorReport)
        Level: the command is wrong, or a slot or row of it outside its memory; nothing more comes until reset.
    busy : Out(1)
    """

    latency = 3

    def __init__(self, config: AcceleratorConfig, *, group: int, activation_slot: int, weight_slot: int):
        self.config, self.group = config, group
        self._slots = {"activation": activation_slot, "weight": weight_slot}
        super().__init__({
            "i": In(stream.Signature(descriptor_layout(Unit.MATRIX))),
            "room": In(1),
            "activation": Out(SlotRequest(config, slot_bytes=activation_slot, lanes=LANES * config.rows)),
            "weight": Out(SlotRequest(config, slot_bytes=weight_slot, lanes=LANES * config.columns)),
            "header": Out(1),
            "issue": Out(1),
            "group_last": Out(1),
            "last": Out(1),
            "tag": Out(bitmod_tag_layout(config)),
            "macs": Out(range(LANES * config.rows * config.columns + 1)),
            "halt": In(1),
            "fault": Out(1),
            "report": Out(ErrorReport),
            "busy": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        command = Signal(descriptor_layout(Unit.MATRIX))
        widths = {field.name: field.width for field in DESCRIPTORS[Unit.MATRIX]}
        m_left, n_left, k_left = (Signal(widths[name], name=f"{name}_left") for name in ("m", "n", "k"))
        group_left = Signal(range(self.group + 1))
        weight_base, activation_base = (Signal(running_address(f"{name}_addr"), name=f"{name}_base")
                                        for name in ("weight", "activation"))
        column_acc, acc = (Signal(running_address("acc_addr"), name=name) for name in ("column_acc", "acc"))

        rows, columns, depth, macs_each = (Signal(range(limit + 1), name=name) for limit, name in (
            (config.rows, "rows"), (config.columns, "columns"), (LANES, "depth"), (config.rows * config.columns, "macs_each")))
        last_row = acc.as_value() + rows - 1
        beyond_acc = last_row >= config.accumulator_rows
        m.d.comb += [
            rows.eq(_least(m_left, config.rows)), columns.eq(_least(n_left, config.columns)), depth.eq(_least(k_left, LANES)),
            self.group_last.eq((group_left <= LANES) | self.last), self.last.eq(k_left <= LANES),
            self.tag.addr.eq(acc.value), self.tag.rows.eq(rows), self.tag.columns.eq(columns),
            self.tag.accumulate.eq(command.accumulate), self.tag.last.eq((m_left <= config.rows) & (n_left <= config.columns)),
            self.macs.eq(macs_each * depth),
        ]
        m.d.sync += macs_each.eq(rows * columns)        # a header stands between a new tile and its first step

        cursors = {}
        for name, slot in self._slots.items():
            m.submodules[f"{name}_cursor"] = cursor = SlotCursor(config, slot_bytes=slot)
            request = getattr(self, name)
            cursors[name] = cursor
            m.d.comb += [cursor.stride.eq(command[f"{name}_stride"]), request.line.eq(cursor.line),
                         request.offset.eq(cursor.offset)]
        m.d.comb += [self.activation.count.eq(depth * config.rows), self.weight.count.eq(LANES * config.columns)]
        granted = {name: getattr(self, name).valid & getattr(self, name).ready for name in cursors}
        fetched = {name: Signal(name=f"{name}_fetched") for name in cursors}

        def restart(activation: Value, weight: Value) -> list:
            """Go to the first slots of a tile."""
            return [cursors["activation"].restart.eq(1), cursors["activation"].base.eq(activation),
                    cursors["weight"].restart.eq(1), cursors["weight"].base.eq(weight)]

        def start_address(address: data.View, name: str) -> list:
            return [address.value.eq(command[name]), address.overflow.eq(0)]

        with m.FSM(name="walker"):
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += command.eq(self.i.p)
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.comb += restart(_extended(command.activation_addr), _extended(command.weight_addr))
                m.d.sync += [
                    m_left.eq(command.m), n_left.eq(command.n), k_left.eq(command.k), group_left.eq(self.group),
                    *start_address(weight_base, "weight_addr"), *start_address(activation_base, "activation_addr"),
                    *start_address(column_acc, "acc_addr"), *start_address(acc, "acc_addr"),
                ]
                m.next = "HEADER"
                self._check(m, command)
            with m.State("HEADER"):
                m.d.comb += [self.header.eq(1), self.weight.valid.eq(~self.halt & ~cursors["weight"].beyond & ~beyond_acc),
                             cursors["weight"].step.eq(granted["weight"])]
                with m.If(granted["weight"]):
                    m.next = "STEP"
                with m.If(cursors["weight"].beyond):
                    m.d.sync += _report(self.report, ErrorCause.SCRATCHPAD_RANGE, cursors["weight"].addr)
                    m.next = "FAULT"
                with m.If(beyond_acc):
                    m.d.sync += _report(self.report, ErrorCause.ACCUMULATOR_RANGE, last_row)
                    m.next = "FAULT"
            with m.State("STEP"):
                beyond = cursors["activation"].beyond | cursors["weight"].beyond
                for name, cursor in cursors.items():
                    m.d.comb += [getattr(self, name).valid.eq(self.room & ~self.halt & ~fetched[name] & ~beyond),
                                 cursor.step.eq(self.issue)]
                    m.d.sync += fetched[name].eq(~self.issue & (fetched[name] | granted[name]))
                m.d.comb += self.issue.eq(Cat(fetched[name] | granted[name] for name in cursors).all())
                with m.If(self.issue):
                    m.d.sync += [k_left.eq(k_left - LANES), group_left.eq(group_left - LANES)]
                    with m.If(self.group_last):
                        m.d.sync += group_left.eq(self.group)
                        m.next = "HEADER"
                    with m.If(self.last):
                        m.d.sync += k_left.eq(command.k)
                        self._next_tile(m, command, m_left, n_left, weight_base, activation_base, column_acc, acc, restart)
                with m.Elif(beyond):
                    with m.If(cursors["weight"].beyond):
                        m.d.sync += _report(self.report, ErrorCause.SCRATCHPAD_RANGE, cursors["weight"].addr)
                    with m.If(cursors["activation"].beyond):
                        m.d.sync += _report(self.report, ErrorCause.SCRATCHPAD_RANGE, cursors["activation"].addr)
                    m.next = "FAULT"
            with m.State("FAULT"):
                m.d.comb += self.fault.eq(1)
        m.d.comb += self.busy.eq(~self.i.ready)
        return m

    def _next_tile(self, m: Module, command: data.View, m_left: Signal, n_left: Signal, weight_base: data.View,
                   activation_base: data.View, column_acc: data.View, acc: data.View, restart: Any) -> None:
        """Go on with the next group of rows, or else of columns, or end."""
        config = self.config
        with m.If(m_left > config.rows):
            below = advance(activation_base, command.activation_tile_stride)
            m.d.comb += restart(below, weight_base)
            m.d.sync += [m_left.eq(m_left - config.rows), activation_base.eq(below), acc.eq(advance(acc, Const(config.rows)))]
        with m.Elif(n_left > config.columns):
            right = advance(weight_base, command.weight_tile_stride)
            next_acc = advance(column_acc, command.acc_tile_stride)
            m.d.comb += restart(_extended(command.activation_addr), right)
            m.d.sync += [
                m_left.eq(command.m), n_left.eq(n_left - config.columns), weight_base.eq(right), column_acc.eq(next_acc),
                acc.eq(next_acc), activation_base.value.eq(command.activation_addr), activation_base.overflow.eq(0),
            ]
        with m.Else():
            m.next = "IDLE"

    def _check(self, m: Module, command: data.View) -> None:
        """Go to FAULT with a report where the command cannot be done; the first rule that is broken is the one reported."""
        rules = [((command.m == 0) | (command.n == 0) | (command.k == 0), ErrorCause.BAD_SIZE, Const(0)),
                 (command.dataflow != Dataflow.OS, ErrorCause.UNSUPPORTED, command.dataflow),
                 (command.serialize, ErrorCause.UNSUPPORTED, command.serialize)]
        for name, slot in self._slots.items():
            for part in ("addr", "stride", "tile_stride"):
                value = command[f"{name}_{part}"]
                rules.append(((value & (slot - 1)) != 0, ErrorCause.MISALIGNED, value))
        for broken, cause, value in reversed(rules):        # the last assignment wins, so the first rule does
            with m.If(broken):
                m.d.sync += _report(self.report, cause, value)
                m.next = "FAULT"


def _least(value: Value, limit: int) -> Value:
    """Return the lesser of `value` and `limit`."""
    return Mux(value < limit, value, limit)


def _extended(address: Value) -> Value:
    """Return an address with its overflow bit, which is clear."""
    return Cat(address, C(0, 1))


def _report(report: data.View, cause: ErrorCause, value: Value) -> list:
    return [report.cause.eq(cause), report.addr.eq(value)]
