"""Cuts matrix commands of the structured-sparsity engine into tiles of weights."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring

from hw.array.commands import cutter_members, misaligned, packed_rules, refuse
from hw.array.tile import advance, running_address
from hw.config import AcceleratorConfig, ceil_log2
from hw.engines.hss import hss_granule, hss_modes, hss_tokens
from hw.isa import DESCRIPTORS, ErrorCause, Unit
from hw.ports import descriptor_layout

__all__ = ["HssSequencer", "hss_tile_layout"]

_WIDTHS = {field.name: field.width for field in DESCRIPTORS[Unit.MATRIX]}


def hss_tile_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return the layout of a tile: weights of one step of K for C outputs, and the tokens that stream past them.

    `h1`, `h0`, `group`: of its mode, `group` their product. `coordinates`: records have some; `packed`: they are whole. `fresh`:
    first step of K, so weights and tokens start at the given addresses, else they go on. `depth`: valid inputs; `rows`: weights
    that are loaded of each column; `columns`: valid outputs. `last`: last tile of its command.
    """
    modes = hss_modes(config)
    return data.StructLayout({
        "h1": 4,
        "h0": 3,
        "group": range(max(mode.group for mode in modes) + 1),
        "coordinates": 1,
        "sdq": 1,
        "fresh": 1,
        "last": 1,
        "accumulate": 1,
        "activation_addr": running_address("activation_addr"),
        "activation_stride": _WIDTHS["activation_stride"],
        "weight_addr": running_address("weight_addr"),
        "weight_stride": _WIDTHS["weight_stride"],
        "acc_addr": running_address("acc_addr"),
        "tokens": range(hss_tokens(config) + 1),
        "depth": range(max(hss_granule(config, mode) for mode in modes) + 1),
        "rows": range(config.rows + 1),
        "columns": range(config.columns + 1),
    })


class HssSequencer(wiring.Component):
    """Checks a command and gives its tiles in order: n-group → piece of up to `hss_tokens` tokens → step of K.

    The first tile comes `latency` cycles after the command was taken, then one a cycle; the next command is taken in the cycle
    after the last tile at the earliest. Addresses advance by adding.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    i : In(stream of commands), o : Out(stream of `hss_tile_layout`)
    fault : Out(1), report : Out(ErrorReport)
        Level: the command taken last is wrong; nothing more comes until reset.
    busy : Out(1)
        A command is being cut.
    """

    latency = 3

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__(cutter_members(hss_tile_layout(config)))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config, tile = self.config, self.o.p
        command = Signal(descriptor_layout(Unit.MATRIX))
        mode = Signal(data.StructLayout({"h1": 4, "h0": 3, "group": tile.group.shape(), "granule": tile.depth.shape(),
                                         "coordinates": 1, "sdq": 1, "packed": 1}))
        most = hss_tokens(config)
        left = {name: Signal(_WIDTHS[name], name=f"{name}_left") for name in ("n", "m", "k")}
        row, activation, weight = (Signal(tile[name].shape(), name=name) for name in (
            "activation_addr", "activation_addr", "weight_addr"))
        column_acc, acc = Signal(tile.acc_addr.shape()), Signal(tile.acc_addr.shape())
        fresh = Signal()
        last_n, last_m, last_k = left["n"] <= config.columns, left["m"] <= most, left["k"] <= mode.granule
        depth = Mux(last_k, left["k"], mode.granule)
        m.d.comb += [
            tile.h1.eq(mode.h1), tile.h0.eq(mode.h0), tile.group.eq(mode.group), tile.coordinates.eq(mode.coordinates),
            tile.sdq.eq(mode.sdq), tile.fresh.eq(fresh), tile.last.eq(last_n & last_m & last_k),
            tile.accumulate.eq(command.accumulate | ~fresh),
            tile.activation_addr.eq(activation), tile.activation_stride.eq(command.activation_stride),
            tile.weight_addr.eq(weight), tile.weight_stride.eq(command.weight_stride), tile.acc_addr.eq(acc),
            tile.tokens.eq(Mux(last_m, left["m"], most)), tile.depth.eq(depth),
            tile.rows.eq(Mux(mode.packed | ~last_k, config.rows, left["k"])),
            tile.columns.eq(Mux(last_n, left["n"], config.columns)),
        ]

        def start(address: Any, name: str) -> list:
            return [address.value.eq(command[name]), address.overflow.eq(0)]

        def start_steps(address: Any) -> list:
            return [fresh.eq(1), left["k"].eq(command.k), activation.eq(address)]

        with m.FSM(name="sequencer"):
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += command.eq(self.i.p)
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.comb += self.busy.eq(1)
                m.d.sync += [*start(row, "activation_addr"), *start(weight, "weight_addr"), *start(column_acc, "acc_addr"),
                             *start(acc, "acc_addr"), left["n"].eq(command.n), left["m"].eq(command.m)]
                self._look_up(m, command.mode, mode)
                m.next = "START"
                self._check(m, command)
            with m.State("START"):
                m.d.comb += self.busy.eq(1)
                m.d.sync += start_steps(row)
                m.next = "TILES"
            with m.State("TILES"):
                m.d.comb += [self.busy.eq(1), self.o.valid.eq(1)]
                with m.If(self.o.ready):
                    m.d.sync += fresh.eq(0)
                    with m.If(~last_k):
                        m.d.sync += [left["k"].eq(left["k"] - mode.granule), activation.eq(advance(activation, mode.granule))]
                    with m.Elif(~last_m):
                        below = advance(row, command.activation_stride << ceil_log2(most))
                        m.d.sync += [left["m"].eq(left["m"] - most), row.eq(below), *start_steps(below),
                                     acc.eq(advance(acc, Const(most)))]
                    with m.Elif(~last_n):
                        right = advance(column_acc, command.acc_tile_stride)
                        first = Cat(command.activation_addr, C(0, 1))
                        m.d.sync += [left["n"].eq(left["n"] - config.columns), left["m"].eq(command.m), row.eq(first),
                                     *start_steps(first), weight.eq(advance(weight, command.weight_tile_stride)),
                                     column_acc.eq(right), acc.eq(right)]
                    with m.Else():
                        m.next = "IDLE"
            with m.State("FAULT"):
                m.d.comb += [self.busy.eq(1), self.fault.eq(1)]
        return m

    def _look_up(self, m: Module, number: Value, mode: Any) -> None:
        """Set what the steps of a mode are; unknown modes are refused anyway."""
        for index, known in enumerate(hss_modes(self.config)):
            with m.If(number == index):
                m.d.sync += [mode.h1.eq(known.h1), mode.h0.eq(known.h0), mode.group.eq(known.group),
                             mode.granule.eq(hss_granule(self.config, known)), mode.coordinates.eq(not known.dense),
                             mode.sdq.eq(known.sdq), mode.packed.eq(known.packed)]

    def _check(self, m: Module, command: Any) -> None:
        """Go to FAULT with a report where the command cannot be done; the first rule that is broken is the one reported."""
        config = self.config
        rules = [*packed_rules(command), (command.mode >= len(hss_modes(config)), ErrorCause.UNSUPPORTED, command.mode)]
        for part in ("addr", "stride", "tile_stride"):
            rules.append(misaligned(command[f"weight_{part}"], config.weight_slot_bytes))
        refuse(m, rules, self.report)

