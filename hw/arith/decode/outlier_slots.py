"""Outliers of a clustered block: from slots with places to the lanes of one step."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.arith.floating import float_layout
from hw.elements import FP16
from hw.errors import ConfigError
from hw.families import ClusteredFormat

__all__ = ["OutlierSlots"]

_WORD = float_layout(FP16)


class OutlierSlots(wiring.Component):
    """Slots of a clustered block → `outlier_valid` and `outlier` of `ClusteredDecoder`, for `lanes` codes of the block at a time.

    Step s has the codes s · lanes to (s + 1) · lanes − 1. A slot whose place divided by `lanes` is s gives its value to the lane
    that the rest names: a comparator and a one-hot decoder for each slot, and for each lane an AND-OR of all slots. That suits
    blocks of a few hundred values with their two to four slots; the places in a block differ, so no lane has two. Combinational.

    Parameters
    ----------
    fmt : ClusteredFormat
        With outliers: `fmt.tail` at least 1.
    lanes : int
        A power of two, less than the block.

    Members
    -------
    step : In(range(⌈block / lanes⌉))
    position : In(array of 2 · fmt.tail × bits of a place)
    value : In(array of 2 · fmt.tail × `float_layout(FP16)`)
        The fields `outlier_position` and `outlier_value` of the block's packed word.
    outlier_valid : Out(lanes)
    outlier : Out(array of `lanes` × `float_layout(FP16)`)
        Zero where there is none.

    Raises
    ------
    ConfigError
        If `fmt` has no outliers, or `lanes` is not as above.
    """

    def __init__(self, fmt: ClusteredFormat, lanes: int):
        if not fmt.tail:
            raise ConfigError(f"OutlierSlots.fmt must have outliers, not none in blocks of {fmt.block}")
        if not 1 <= lanes < fmt.block or lanes & (lanes - 1):
            raise ConfigError(f"OutlierSlots.lanes must be a power of two below {fmt.block}, not {lanes!r}")
        self._slots, self._lanes = 2 * fmt.tail, lanes
        super().__init__({
            "step": In(range(-(-fmt.block // lanes))),
            "position": In(data.ArrayLayout((fmt.block - 1).bit_length(), self._slots)),
            "value": In(data.ArrayLayout(_WORD, self._slots)),
            "outlier_valid": Out(lanes),
            "outlier": Out(data.ArrayLayout(_WORD, lanes)),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        split = exact_log2(self._lanes)
        given: list[list[Value]] = [[] for _ in range(self._lanes)]
        for slot in range(self._slots):
            place = self.position[slot]
            hits = Signal(self._lanes, name=f"hits_{slot}")
            m.d.comb += hits.eq((place[split:] == self.step) << place[:split])
            for lane in range(self._lanes):
                given[lane].append(Cat(self.value[slot].as_value(), C(1, 1)) & hits[lane].replicate(17))
        for lane, candidates in enumerate(given):
            chosen = candidates[0]
            for candidate in candidates[1:]:
                chosen = chosen | candidate
            m.d.comb += Cat(self.outlier[lane], self.outlier_valid[lane]).eq(chosen)
        return m
