"""Picks the next k of a chunk with non-zeros on both sides, and packs its activations."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.array.compactor import Compactor
from hw.array.dstc_sequencer import dstc_tag_layout
from hw.array.dual_side import side_layout, vectors_layout
from hw.config import AcceleratorConfig
from hw.engines.dstc import dstc_chunk, dstc_tokens

__all__ = ["DstcPicker", "dstc_bank_layout"]


def dstc_bank_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return the layout of what is known of a loaded chunk; `ends`: rows leave after it, `rows` of them, with `tag`."""
    return data.StructLayout({"ends": 1, "rows": range(dstc_tokens(config) + 1), "tag": dstc_tag_layout(config)})


class DstcPicker(wiring.Component):
    """Goes from bank to bank: of a chunk each k that both masks of occupied k have, one a cycle, lowest first.

        pick ─▶ column of activations, vector of weights ─▶ gaps ─▶ packed vectors

    A pair is on `o` two cycles after it was picked at the earliest. A bank is taken in the cycle in which the last k of the one
    before is picked. A last chunk without any k gives an empty pair; others take a cycle.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    ready : In(2), banks : In(2 × `dstc_bank_layout`), occupied : In(2 × k of a chunk)
        Chunks that are loaded.
    take : Out(2)
        A bank's chunk is taken.
    release : Out(2)
        A bank's contents are needed no more.
    pick_en : Out(1), pick_bank : Out(1), pick : Out(range(k of a chunk))
    column : In(tokens × signed(8))
        At once.
    vector : In(side_layout(C))
        In the cycle after `pick_en`.
    o : Out(stream of `vectors_layout`)
    busy : Out(1)
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self.size, self.tokens = dstc_chunk(config), dstc_tokens(config)
        self.tag = dstc_tag_layout(config)
        super().__init__({
            "ready": In(2),
            "banks": In(data.ArrayLayout(dstc_bank_layout(config), 2)),
            "occupied": In(data.ArrayLayout(self.size, 2)),
            "take": Out(2),
            "release": Out(2),
            "pick_en": Out(1),
            "pick_bank": Out(1),
            "pick": Out(range(self.size)),
            "column": In(data.ArrayLayout(signed(8), self.tokens)),
            "vector": In(side_layout(config.columns)),
            "o": Out(stream.Signature(vectors_layout((self.tokens, config.columns), self.tag.size))),
            "busy": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        item = data.StructLayout({"k": range(self.size), "bank": 1, "empty": 1, "final": 1,
                                  "about": dstc_bank_layout(self.config)})
        picked, described, gapped = (Signal(item, name=name, reset_less=True) for name in ("picked", "described", "gapped"))
        valid = [Signal(name=f"{name}_valid") for name in ("picked", "described", "gapped")]
        move = [Signal(name=f"move_{stage}") for stage in range(3)]
        for stage in range(3):
            free = self.o.ready if stage == 2 else ~valid[stage + 1] | move[stage + 1]
            m.d.comb += move[stage].eq(valid[stage] & free)
        bank, active, pending = Signal(), Signal(), Signal(self.size)
        following = Signal()                                # the bank after the one that is picked from
        about = Signal(dstc_bank_layout(self.config))
        pick, done = Signal(), Signal()
        rest = Signal(self.size)
        empty = ~pending.any()
        m.d.comb += [
            rest.eq(pending & (pending - 1)),
            pick.eq(active & (pending.any() | about.ends) & (~valid[0] | move[0])),
            done.eq(active & Mux(empty & ~about.ends, 1, pick & ~rest.any())),
            self.release.eq(((active & empty & ~about.ends) << bank) | ((move[0] & picked.final) << picked.bank)),
        ]
        with m.If(pick):
            m.d.sync += pending.eq(rest)
        with m.If(~active | done):
            m.d.sync += active.eq(0)
            with m.If(self.ready.bit_select(following, 1)):
                m.d.comb += self.take.eq(1 << following)
                m.d.sync += [active.eq(1), bank.eq(following), following.eq(~following), about.eq(self.banks[following]),
                             pending.eq(Array(self.occupied)[following])]

        for stage in range(3):
            entering = pick if stage == 0 else move[stage - 1]
            with m.If(entering):
                m.d.sync += valid[stage].eq(1)
            with m.Elif(move[stage]):
                m.d.sync += valid[stage].eq(0)
        with m.If(pick):
            m.d.sync += [picked.bank.eq(bank), picked.empty.eq(empty), picked.final.eq(~rest.any()), picked.about.eq(about)]
            for number in reversed(range(self.size)):
                with m.If(pending[number]):
                    m.d.sync += picked.k.eq(number)
        m.d.comb += [self.pick_en.eq(move[0]), self.pick_bank.eq(picked.bank), self.pick.eq(picked.k)]

        column = Signal(self.column.shape(), reset_less=True)
        with m.If(move[0]):
            m.d.sync += described.eq(picked)
            for token in range(self.tokens):
                here = (token < picked.about.rows) & ~picked.empty
                m.d.sync += column[token].eq(Mux(here, self.column[token], 0))
        m.submodules.compactor = compactor = Compactor(lanes=self.tokens)
        nonzero = Cat(column[token] != 0 for token in range(self.tokens))
        mask = Signal(self.tokens, reset_less=True)
        right = Signal(self.vector.shape(), reset_less=True)
        m.d.comb += [compactor.en.eq(move[1]), compactor.keep.eq(nonzero), compactor.i.eq(column)]
        with m.If(move[1]):
            m.d.sync += [gapped.eq(described), mask.eq(nonzero), right.eq(self.vector)]
            with m.If(described.empty):
                m.d.sync += right.mask.eq(0)
        m.d.comb += [
            self.o.valid.eq(valid[2]), self.o.p.left.mask.eq(mask), self.o.p.left.values.eq(compactor.o),
            self.o.p.right.eq(right), self.o.p.last.eq(gapped.final & gapped.about.ends), self.o.p.rows.eq(gapped.about.rows),
            self.o.p.tag.eq(gapped.about.tag), self.busy.eq(active | Cat(*valid).any()),
        ]
        return m
