"""Records of structured series (TASD) → dense lanes."""

from functools import reduce
from operator import or_
from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.decode.packed import packed_layout
from hw.arith.decode.scatter import scatter, slots
from hw.families import SeriesFormat

__all__ = ["SeriesDecoder"]


class SeriesDecoder(wiring.Component):
    """Record of a series → the values of each of its terms, or of their sum. Combinational.

    No value lies in two terms, so that their sum is their OR: no adder, no saturation. (Where a record breaks that rule, the
    sum is still the OR.) Illegal coordinates: see `scatter`.

    Parameters
    ----------
    fmt : SeriesFormat
    merged : bool
        One dense block rather than one a term.

    Members
    -------
    word : In(`packed_layout(fmt.word)`)
    o : Out(array of `fmt.block` signed(8))
        If `merged`.
    terms : Out(array of such arrays, one a term)
        If not.

    Reference
    ---------
    Jeong et al., TASD, MLSys 2025.
    """

    def __init__(self, fmt: SeriesFormat, *, merged: bool = False):
        self._fmt, self._merged = fmt, merged
        dense = data.ArrayLayout(signed(8), fmt.block)
        output = {"o": Out(dense)} if merged else {"terms": Out(data.ArrayLayout(dense, len(fmt.terms)))}
        super().__init__({"word": In(packed_layout(fmt.word))} | output)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        terms = []
        for index, (keep, of) in enumerate(self._fmt.terms):
            count = self._fmt.block // of * keep
            values, inner = slots(self.word[f"values{index}"], count), slots(self.word[f"inner{index}"], count)
            terms.append(Cat(*(lane for low in range(0, count, keep)
                               for lane in scatter(values[low:low + keep], inner[low:low + keep], of))))
        if self._merged:
            m.d.comb += self.o.as_value().eq(reduce(or_, terms))
        else:
            m.d.comb += self.terms.as_value().eq(Cat(*terms))
        return m
