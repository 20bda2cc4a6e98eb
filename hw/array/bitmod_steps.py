"""Counts the steps of the BitMoD engine's tiles: what each is, and what becomes of its group's products."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.array.bitmod_tiles import bitmod_mode_width, bitmod_tile_layout
from hw.config import AcceleratorConfig, ceil_log2
from hw.engines.bitmod import bitmod_modes
from hw.pe.bitmod.precision import LANES

__all__ = ["BitmodSteps", "bitmod_tag_layout"]


def bitmod_tag_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Return the layout of what becomes of a group's products: first accumulator row, valid rows and columns of the tile.

    `accumulate`: the first group of a tile is added as well; `last`: the tile is the last one of its command.
    """
    return data.StructLayout({"addr": ceil_log2(config.accumulator_rows), "rows": range(config.rows + 1),
                              "columns": range(config.columns + 1), "accumulate": 1, "last": 1})


class BitmodSteps(wiring.Component):
    """Holds one tile and says what its present step is; the next tile is taken in the cycle of the last step.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    i : In(stream of `bitmod_tile_layout`)
    step : In(1)
        The present step was taken.
    loaded : Out(1)
        There is one. The following describe it.
    mode : Out, index : Out(2)
        Its tile's mode; where in its group it is, modulo 4.
    depth : Out(range(5))
        How many of its k there are.
    group_last, last : Out(1)
        It is the last of its group, or of its tile.
    tag : Out(`bitmod_tag_layout`)
    macs : Out
        Its multiply-accumulates on valid rows, columns and k.
    beyond : Out(1), acc_end : Out
        The tile's accumulator rows do not all exist; the last of them.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        tile = bitmod_tile_layout(config)
        super().__init__({
            "i": In(stream.Signature(tile)),
            "step": In(1),
            "loaded": Out(1),
            "mode": Out(bitmod_mode_width(config)),
            "index": Out(2),
            "depth": Out(range(LANES + 1)),
            "group_last": Out(1),
            "last": Out(1),
            "tag": Out(bitmod_tag_layout(config)),
            "macs": Out(range(LANES * config.rows * config.columns + 1)),
            "beyond": Out(1),
            "acc_end": Out(tile["acc_end"].shape),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        modes, new = bitmod_modes(self.config), self.i.p
        tile = Signal(bitmod_tile_layout(self.config), reset_less=True)
        left = Signal(tile.k.shape(), reset_less=True)                  # k from this step on
        group = Signal(range(max(info.group for info in modes) // LANES), reset_less=True)      # steps of the group before it
        each = Signal(range(self.config.rows * self.config.columns + 1), reset_less=True)
        group_end = Signal()
        with m.Switch(tile.mode):
            for number, info in enumerate(modes):
                with m.Case(number):
                    m.d.comb += group_end.eq(group == info.group // LANES - 1)
        m.d.comb += [
            self.mode.eq(tile.mode), self.index.eq(group), self.last.eq(left <= LANES),
            self.depth.eq(Mux(self.last, left, LANES)), self.group_last.eq(group_end | self.last),
            self.macs.eq(each * self.depth),
            self.tag.addr.eq(tile.acc), self.tag.rows.eq(tile.rows), self.tag.columns.eq(tile.columns),
            self.tag.accumulate.eq(tile.accumulate), self.tag.last.eq(tile.last),
            self.beyond.eq(tile.beyond), self.acc_end.eq(tile.acc_end), self.i.ready.eq(~self.loaded | (self.step & self.last)),
        ]
        with m.If(self.step):
            m.d.sync += [left.eq(left - LANES), group.eq(Mux(self.group_last, 0, group + 1))]
        with m.If(self.i.ready):
            m.d.sync += self.loaded.eq(self.i.valid)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [tile.eq(new), left.eq(new.k), group.eq(0), each.eq(new.rows * new.columns)]
        return m
