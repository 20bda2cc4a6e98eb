"""Cuts matrix commands into tiles."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring

from hw.array.commands import cutter_members, misaligned, refuse, size_rule
from hw.array.tile import advance, is_os, tile_layout
from hw.config import AcceleratorConfig
from hw.isa import Dataflow, ErrorCause, Unit
from hw.ports import descriptor_layout

__all__ = ["TileSequencer"]


class TileSequencer(wiring.Component):
    """Checks a command and gives its tiles in order: WS n-group → k-group; OS n-group → m-group → run of ≤ os_depth steps.

    The first tile comes `latency` cycles after the command was taken, then one a cycle; the next command is taken in the cycle
    after the last tile at the earliest. Addresses advance by adding strides.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    i : In(stream of commands), o : Out(stream of tile_layout)
    fault : Out(1), report : Out(ErrorReport)
        Level: the command taken last is wrong; nothing more comes until reset.
    busy : Out(1)
        A command is being cut.
    """

    latency = 2

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(cutter_members(tile_layout(config)))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        tile = self.o.p
        command = Signal(descriptor_layout(Unit.MATRIX))
        output_stationary = is_os(config, command.dataflow)

        first = Signal()                                # of the tiles that add up to the same results
        bank = Signal()
        columns_left = Signal.like(command.n)
        group_left = Signal.like(command.k)             # rows of K (WS) or M (OS) from this group of R on
        run_left = Signal.like(command.k)               # steps of K from this run on (OS)
        activation_addr = Signal(tile["activation_addr"].shape())
        weight_addr = Signal(tile["weight_addr"].shape())
        column_acc_addr = Signal(tile["acc_addr"].shape())
        acc_addr = Signal(tile["acc_addr"].shape())

        last_columns = columns_left <= config.columns
        last_group = group_left <= config.rows
        last_run = ~output_stationary | (run_left <= config.os_depth)
        along = Mux(output_stationary, command.m, command.k)
        run = Mux(run_left < config.os_depth, run_left, config.os_depth)

        m.d.comb += [
            tile.dataflow.eq(command.dataflow),
            tile.serialize.eq(command.serialize),
            tile.accumulate.eq(command.accumulate | ~first),
            tile.resume.eq(~first),
            tile.last.eq(last_columns & last_group & last_run),
            tile.bank.eq(bank),
            tile.activation_addr.eq(activation_addr),
            tile.activation_stride.eq(command.activation_stride),
            tile.weight_addr.eq(weight_addr),
            tile.weight_stride.eq(command.weight_stride),
            tile.acc_addr.eq(acc_addr),
            tile.steps.eq(Mux(output_stationary, run, command.m)),
            tile.rows.eq(Mux(last_group, group_left, config.rows)),
            tile.columns.eq(Mux(last_columns, columns_left, config.columns)),
        ]

        def start_groups() -> list:
            return [
                first.eq(1),
                group_left.eq(along),
                run_left.eq(command.k),
                activation_addr.value.eq(command.activation_addr),
                activation_addr.overflow.eq(0),
            ]

        with m.FSM(name="sequencer"):
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += command.eq(self.i.p)
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.comb += self.busy.eq(1)
                m.d.sync += [
                    *start_groups(),
                    columns_left.eq(command.n),
                    weight_addr.value.eq(command.weight_addr),
                    weight_addr.overflow.eq(0),
                ]
                for address in (column_acc_addr, acc_addr):
                    m.d.sync += [address.value.eq(command.acc_addr), address.overflow.eq(0)]
                m.next = "TILES"
                self._check(m, command)
            with m.State("TILES"):
                m.d.comb += [self.busy.eq(1), self.o.valid.eq(1)]
                with m.If(self.o.ready):
                    m.d.sync += [first.eq(0), bank.eq(bank ^ ~output_stationary)]
                    with m.If(~last_run):
                        m.d.sync += run_left.eq(run_left - config.os_depth)
                    with m.Elif(~last_group):
                        m.d.sync += [
                            group_left.eq(group_left - config.rows),
                            activation_addr.eq(advance(activation_addr, command.activation_tile_stride)),
                        ]
                        with m.If(output_stationary):
                            m.d.sync += [
                                first.eq(1),
                                run_left.eq(command.k),
                                acc_addr.eq(advance(acc_addr, Const(config.rows))),
                            ]
                    with m.Elif(~last_columns):
                        next_acc_addr = advance(column_acc_addr, command.acc_tile_stride)
                        m.d.sync += [
                            *start_groups(),
                            columns_left.eq(columns_left - config.columns),
                            weight_addr.eq(advance(weight_addr, command.weight_tile_stride)),
                            column_acc_addr.eq(next_acc_addr),
                            acc_addr.eq(next_acc_addr),
                        ]
                    with m.Else():
                        m.next = "IDLE"
            with m.State("FAULT"):
                m.d.comb += [self.busy.eq(1), self.fault.eq(1)]
        return m

    def _check(self, m: Module, command: Any) -> None:
        """Go to FAULT with a report where the command cannot be done; the first rule that is broken is the one reported."""
        config = self.config
        unknown = Const(0, 1)
        for dataflow in Dataflow:
            if dataflow.name.lower() not in config.dataflows:
                unknown = command.dataflow == dataflow
        rules = [
            size_rule(command),
            (unknown, ErrorCause.UNSUPPORTED, command.dataflow),
            (command.mode != 0, ErrorCause.UNSUPPORTED, command.mode),
        ]
        for operand, slot_bytes in (("activation", config.activation_slot_bytes), ("weight", config.weight_slot_bytes)):
            for part in ("addr", "stride", "tile_stride"):
                rules.append(misaligned(command[f"{operand}_{part}"], slot_bytes))
        refuse(m, rules, self.report)
