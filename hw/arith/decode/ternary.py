"""Decoder of structured ternary weights (Sherry): five bits to four lanes."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.decode.packed import packed_layout
from hw.arith.decode.scatter import slots
from hw.families import TernaryFormat

__all__ = ["TernaryDecoder"]


class TernaryDecoder(wiring.Component):
    """Quads of a packed block to −1, 0 and +1, all of them at once.

    A lane is 0 at the quad's position of the zero, else ±1: the signs of the three others, in order, are the sign bit, and that
    xor the two low bits of the slot. Where the lanes of a quad lie in the block is wiring. Combinational.

    Parameters
    ----------
    fmt : TernaryFormat
        `fmt.block` / 4 quads.

    Members
    -------
    word : In(`packed_layout(fmt.word)`)
        The scale passes by.
    o : Out(ArrayLayout(signed(2), fmt.block))
        In order of the weights.

    Reference: Sherry, arXiv 2601.07892; codes and strided lanes as in STQ1_0 blocks of llama.cpp.
    """

    def __init__(self, fmt: TernaryFormat):
        self._fmt = fmt
        super().__init__({"word": In(packed_layout(fmt.word)), "o": Out(data.ArrayLayout(signed(2), fmt.block))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        quads = self._fmt.block // 4
        codes = zip(slots(self.word.slots, quads), slots(self.word.signs, quads), strict=True)
        for quad, (slot, sign) in enumerate(codes):
            zero = slot[2:]
            negative = Signal(3, name=f"negative_{quad}")
            m.d.comb += negative.eq(Cat(sign, slot[0] ^ sign, slot[1] ^ sign))
            for lane in range(4):
                # Lanes before the zero have the sign of their own number, lanes behind it that of the number before.
                before, behind = negative[min(lane, 2)], negative[max(lane - 1, 0)]
                sign_bit = Mux(zero > lane, before, behind)
                m.d.comb += self.o[self._place(quad, lane)].eq(Cat(zero != lane, sign_bit & (zero != lane)).as_signed())
        return m

    def _place(self, quad: int, lane: int) -> int:
        """Return the weight of the block that lane `lane` of a quad is."""
        if self._fmt.lanes == "strided":
            return quad // 16 * 64 + quad % 16 + 16 * lane
        return 4 * quad + lane
