"""Cuts matrix commands of the BitMoD engine into tiles."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring

from hw.array.commands import cutter_members, misaligned, packed_rules, refuse
from hw.array.outer_loops import OuterLoops
from hw.array.tile import running_address
from hw.config import AcceleratorConfig, ceil_log2
from hw.isa import DESCRIPTORS, ErrorCause, Unit
from hw.ports import descriptor_layout

__all__ = ["BitmodTiles", "bitmod_mode_width", "bitmod_tile_layout"]

_WIDTHS = {field.name: field.width for field in DESCRIPTORS[Unit.MATRIX]}


def bitmod_mode_width(config: AcceleratorConfig) -> int:
    """Return the bits of a mode that the config has."""
    return max(1, ceil_log2(1 + len(config.weight_formats)))



def bitmod_tile_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return the layout of a tile: up to R rows × C outputs over all of K.

    `activation`, `weight`: where its operands begin; `beyond`: its accumulator rows, from `acc` on, do not all exist, and
    `acc_end` is the last of them; `last`: the last tile of its command.
    """
    return data.StructLayout({
        "mode": bitmod_mode_width(config),
        "k": _WIDTHS["k"],
        "rows": range(config.rows + 1),
        "columns": range(config.columns + 1),
        "activation": running_address("activation_addr"),
        "activation_stride": _WIDTHS["activation_stride"],
        "weight": running_address("weight_addr"),
        "weight_stride": _WIDTHS["weight_stride"],
        "acc": ceil_log2(config.accumulator_rows),
        "acc_end": _WIDTHS["acc_addr"] + 2,
        "beyond": 1,
        "accumulate": 1,
        "last": 1,
    })


class BitmodTiles(wiring.Component):
    """Checks a command and gives its tiles in order: n-group → m-group.

    The first tile comes `latency` cycles after the command was taken, then one a cycle at most; the next command is taken in the
    cycle after the last tile was.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    i : In(stream of commands), o : Out(stream of `bitmod_tile_layout`)
    fault : Out(1), report : Out(ErrorReport)
        Level: the command taken last is wrong; nothing more comes until reset.
    busy : Out(1)
        A command is being cut.
    """

    latency = 2

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(cutter_members(bitmod_tile_layout(config)))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config, tile = self.config, self.o.p
        command = Signal(descriptor_layout(Unit.MATRIX))
        loops = OuterLoops(config, command, tokens=config.rows)
        end = loops.acc.as_value() + tile.rows - 1      # the overflow bit is above the value
        m.d.comb += [
            tile.mode.eq(command.mode), tile.k.eq(command.k), tile.accumulate.eq(command.accumulate),
            tile.rows.eq(loops.tokens), tile.columns.eq(loops.columns),
            tile.activation.eq(loops.activation), tile.activation_stride.eq(command.activation_stride),
            tile.weight.eq(loops.weight), tile.weight_stride.eq(command.weight_stride),
            tile.acc.eq(loops.acc.value), tile.acc_end.eq(end), tile.beyond.eq(end >= config.accumulator_rows),
            tile.last.eq(loops.last_m & loops.last_n), self.busy.eq(~self.i.ready),
        ]

        with m.FSM(name="tiles"):
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += command.eq(self.i.p)
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += loops.begin()
                m.next = "TILES"
                self._check(m, command)
            with m.State("TILES"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    with m.If(~loops.last_m):
                        m.d.sync += loops.next_m()
                    with m.Elif(~loops.last_n):
                        m.d.sync += loops.next_n()
                    with m.Else():
                        m.next = "IDLE"
            with m.State("FAULT"):
                m.d.comb += self.fault.eq(1)
        return m

    def _check(self, m: Module, command: data.View) -> None:
        """Go to FAULT with a report where the command cannot be done; the first rule that is broken is the one reported."""
        config = self.config
        slot, piece = config.weight_slot_bytes, 2 * config.columns
        rules = [*packed_rules(command), (command.mode > len(config.weight_formats), ErrorCause.UNSUPPORTED, command.mode)]
        for part in ("addr", "stride", "tile_stride"):
            rules.append(misaligned(command[f"activation_{part}"], config.activation_slot_bytes))
        for part in ("addr", "stride", "tile_stride"):
            value = command[f"weight_{part}"]
            rules.append(((value & Mux(command.mode == 0, slot - 1, piece - 1)) != 0, ErrorCause.MISALIGNED, value))
        refuse(m, rules, self.report)
