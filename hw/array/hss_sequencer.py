"""Cuts matrix commands of the structured-sparsity engine into tiles of weights."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring

from hw.array.commands import cutter_members, misaligned, packed_rules, refuse
from hw.array.outer_loops import OuterLoops
from hw.array.tile import advance, running_address
from hw.config import AcceleratorConfig
from hw.engines.hss import hss_granule, hss_modes, hss_tokens
from hw.isa import DESCRIPTORS, ErrorCause, Unit
from hw.ports import descriptor_layout

__all__ = ["HssSequencer", "hss_tile_layout"]

_WIDTHS = {field.name: field.width for field in DESCRIPTORS[Unit.MATRIX]}


def hss_tile_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return the layout of a tile: weights of one step of K for C outputs, and the tokens that stream past them.

    `h1`, `h0`, `group`: of its mode, `group` their product. `coordinates`: records have some; `packed`: they are whole. `fresh`:
    first step of K, so weights and tokens start at the given addresses, else they go on. `again`, where there are series: tokens
    go back to inputs of before, for a further term. `cut`, with the engine "tasd": activations are cut to their pattern.
    `depth`: valid inputs; `rows`: weights that are loaded of each column; `columns`: valid outputs. `last`: last tile of its
    command.
    """
    modes = hss_modes(config)
    return data.StructLayout({
        "h1": 4,
        "h0": 3,
        "group": range(max(mode.group for mode in modes) + 1),
        "coordinates": 1,
        "sdq": 1,
        "fresh": 1,
        "again": int(any(mode.following for mode in modes)),
        "cut": int(any(mode.activations for mode in modes)),
        "last": 1,
        "accumulate": 1,
        "activation_addr": running_address("activation_addr"),
        "activation_stride": _WIDTHS["activation_stride"],
        "weight_addr": running_address("weight_addr"),
        "weight_stride": _WIDTHS["weight_stride"],
        "acc_addr": running_address("acc_addr"),
        "tokens": range(hss_tokens(config) + 1),
        "depth": range(max(hss_granule(config, mode) for mode in modes) + 1),
        "rows": range(max(config.rows, *(hss_granule(config, mode) for mode in modes if mode.activations), 0) + 1),
        "columns": range(config.columns + 1),
    })


class HssSequencer(wiring.Component):
    """Checks a command and gives its tiles in order: n-group → piece of up to `hss_tokens` tokens → step of K.

    Of a series (TASD) each granule of K comes once for each term, so that activations and sums stay where they are.

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
        deepest = max(len(mode.terms) for mode in hss_modes(config))
        terms = Signal(data.ArrayLayout(self._step_layout(), deepest))
        term, last_term = (Signal(range(deepest), name=name) for name in ("term", "last_term"))
        part, again = Signal(terms[0].parts.shape()), Signal(len(tile.again))
        mode = terms[term] if deepest > 1 else terms[0]
        loops = OuterLoops(config, command, tokens=hss_tokens(config))
        k_left, activation = Signal.like(command.k), Signal(tile.activation_addr.shape())
        granule_k, granule_activation = Signal.like(k_left), Signal(tile.activation_addr.shape())    # where each term begins
        fresh = Signal()
        ends_k = k_left <= mode.granule
        ends_term, last_k = ends_k | (part == mode.parts), ends_k & (term == last_term)
        depth = Mux(ends_k, k_left, mode.granule)
        m.d.comb += [
            tile.h1.eq(mode.h1), tile.h0.eq(mode.h0), tile.group.eq(mode.group), tile.coordinates.eq(mode.coordinates),
            tile.sdq.eq(mode.sdq), tile.fresh.eq(fresh), tile.again.eq(again), tile.last.eq(loops.last_n & loops.last_m & last_k),
            tile.accumulate.eq(command.accumulate | ~fresh),
            tile.activation_addr.eq(activation), tile.activation_stride.eq(command.activation_stride),
            tile.weight_addr.eq(loops.weight), tile.weight_stride.eq(command.weight_stride), tile.acc_addr.eq(loops.acc),
            tile.tokens.eq(loops.tokens), tile.depth.eq(depth),
            tile.rows.eq(Mux(mode.packed | ~ends_k, Mux(mode.cut, mode.granule, config.rows), k_left)), tile.cut.eq(mode.cut),
            tile.columns.eq(loops.columns),
        ]

        def start_steps(address: Any) -> list:
            return [fresh.eq(1), k_left.eq(command.k), activation.eq(address), *start_granule(command.k, address)]

        def start_granule(k: Any, address: Any) -> list:
            return [term.eq(0), part.eq(0), granule_k.eq(k), granule_activation.eq(address)] if deepest > 1 else []

        with m.FSM(name="sequencer"):
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += command.eq(self.i.p)
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.comb += self.busy.eq(1)
                m.d.sync += loops.begin()
                self._look_up(m, command.mode, terms, last_term)
                m.next = "START"
                self._check(m, command)
            with m.State("START"):
                m.d.comb += self.busy.eq(1)
                m.d.sync += start_steps(loops.activation)
                m.next = "TILES"
            with m.State("TILES"):
                m.d.comb += [self.busy.eq(1), self.o.valid.eq(1)]
                with m.If(self.o.ready):
                    m.d.sync += [fresh.eq(0), again.eq(0)]
                    with m.If(ends_term & (term != last_term)):
                        m.d.sync += [k_left.eq(granule_k), activation.eq(granule_activation), term.eq(term + 1), part.eq(0),
                                     again.eq(1)]
                    with m.Elif(~last_k):
                        k, inputs = k_left - mode.granule, advance(activation, mode.granule)
                        m.d.sync += [k_left.eq(k), activation.eq(inputs), part.eq(part + 1)]
                        with m.If(ends_term):
                            m.d.sync += start_granule(k, inputs)
                    with m.Elif(~loops.last_m):
                        m.d.sync += [*loops.next_m(), *start_steps(loops.below)]
                    with m.Elif(~loops.last_n):
                        m.d.sync += [*loops.next_n(), *start_steps(loops.top)]
                    with m.Else():
                        m.next = "IDLE"
            with m.State("FAULT"):
                m.d.comb += [self.busy.eq(1), self.fault.eq(1)]
        return m

    def _step_layout(self) -> data.StructLayout:
        """Return the layout of what the steps of a term are; `parts`: how many there are in a granule of its series, less one."""
        tile = self.o.p
        most = max(mode.group // term.group for mode in hss_modes(self.config) for term in mode.terms)
        return data.StructLayout({"h1": 4, "h0": 3, "group": tile.group.shape(), "granule": tile.depth.shape(), "coordinates": 1,
                                  "sdq": 1, "packed": 1, "cut": len(tile.cut), "parts": range(most)})

    def _look_up(self, m: Module, number: Value, terms: Any, last_term: Signal) -> None:
        """Set what the steps of a mode are; unknown modes are refused anyway."""
        for index, known in enumerate(hss_modes(self.config)):
            with m.If(number == index):
                m.d.sync += last_term.eq(len(known.terms) - 1)
                for view, term in zip(terms, known.terms, strict=False):
                    m.d.sync += [view.h1.eq(term.h1), view.h0.eq(term.h0), view.group.eq(term.group),
                                 view.granule.eq(hss_granule(self.config, term)), view.coordinates.eq(not term.dense),
                                 view.sdq.eq(term.sdq), view.packed.eq(term.packed),
                                 view.cut.eq(bool(term.activations)), view.parts.eq(known.group // term.group - 1)]

    def _check(self, m: Module, command: Any) -> None:
        """Go to FAULT with a report where the command cannot be done; the first rule that is broken is the one reported."""
        config = self.config
        rules = [*packed_rules(command), (command.mode >= len(hss_modes(config)), ErrorCause.UNSUPPORTED, command.mode)]
        for part in ("addr", "stride", "tile_stride"):
            rules.append(misaligned(command[f"weight_{part}"], config.weight_slot_bytes))
        refuse(m, rules, self.report)

