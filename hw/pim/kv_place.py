"""Where the next token of a head goes: rows of its K and V, and how many tokens are there."""

from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hw.pim.config import PimConfig
from hw.pim.isa import HEAD_SETTINGS

__all__ = ["KvPlace"]

_WIDTH = 32                 # of what SETH sets
_OUTPUT_WIDTH = 10          # an entry that is none stays one that is none


class KvPlace(wiring.Component):
    """Keeps of every head what SETH has set, and counts its tokens.

    Tokens are dealt out to the segments; those of a segment lie one after the other in its bursts, rows of all sets of banks in
    turn, then the next row. A token is a power of two of slices, at most a row.

    Parameters
    ----------
    config : PimConfig

    Members
    -------
    setting : In({valid: 1, head: 8, setting: 4, value: 32})
    head : In(8), value : In(1)
        Whose next token: its K, or with `value` its V.
    slices : In(10)
        Of a token.
    max_tokens : In(32)
    append : In(1)
        With `value`: there is one token more.
    set, row, column, beat, segment : Out
    full : Out(1), beyond : Out(1), odd : Out(1)
        There are `max_tokens`; the row is none of the memory; `slices` are no power of two, less than
        a stream's burst, part of which is not written, or more than a row.
    output : Out(10)
        First entry of the head's output.
    other : In(8), other_output : Out(10)
        Of another head.
    """

    def __init__(self, config: PimConfig):
        self._config = config
        super().__init__({
            "setting": In(wiring.Signature({"valid": Out(1), "head": Out(8), "setting": Out(4), "value": Out(32)})),
            "head": In(8), "value": In(1), "slices": In(10), "max_tokens": In(32), "append": In(1),
            "set": Out(4), "row": Out(16), "column": Out(8), "beat": Out(8), "segment": Out(6),
            "full": Out(1), "beyond": Out(1), "odd": Out(1), "output": Out(_OUTPUT_WIDTH),
            "other": In(8), "other_output": Out(_OUTPUT_WIDTH),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self._config
        width = ceil_log2(config.heads)
        kept = {name: Array(Signal(bits, name=f"{name}_{head}") for head in range(1 << width)) for name, bits in zip(
            HEAD_SETTINGS, (_WIDTH, _WIDTH, _WIDTH, _OUTPUT_WIDTH), strict=True)}
        head = self.head[:width]
        tokens = kept["tokens"][head]
        for number, name in enumerate(HEAD_SETTINGS):
            with m.If(self.setting.valid & (self.setting.setting == number)):
                value, most = self.setting.value, (1 << _OUTPUT_WIDTH) - 1
                value = Mux(value > most, most, value) if name == "output" else value
                m.d.sync += kept[name][self.setting.head[:width]].eq(value)
        with m.If(self.append & self.value):
            m.d.sync += kept["tokens"][head].eq(tokens + 1)
        row_slices, few = config.columns * config.beats, self.slices == 0
        if config.stream_slices > 1:
            few = self.slices < config.stream_slices
        sets_log2, segments_log2 = min(4, ceil_log2(config.row_sets)), ceil_log2(config.segments)
        position, number, total = (Signal(_WIDTH + 12, name=name) for name in ("position", "number", "total"))
        m.d.comb += [
            position.eq((tokens >> segments_log2) * self.slices), self.segment.eq(tokens[:segments_log2]),
            number.eq(position >> ceil_log2(row_slices)), self.set.eq(number[:sets_log2]),
            total.eq((number >> sets_log2) + Mux(self.value, kept["v_row"][head], kept["k_row"][head])), self.row.eq(total),
            self.column.eq(position[:ceil_log2(row_slices)] >> ceil_log2(config.beats)),
            self.beat.eq(position[:ceil_log2(config.beats)]), self.output.eq(kept["output"][head]),
            self.other_output.eq(kept["output"][self.other[:width]]),
            self.full.eq(tokens >= self.max_tokens), self.beyond.eq(total >= config.dram_rows),
            self.odd.eq(few | ((self.slices & (self.slices - 1)) != 0) | (self.slices > row_slices)),
        ]
        return m
