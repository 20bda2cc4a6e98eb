"""Decoder of Huffman-coded bfloat16: a canonical code of up to 32 bits, one value a cycle."""

from typing import Any

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from hw.arith.floating import float_layout
from hw.elements import BF16
from hw.errors import ConfigError
from hw.families import HuffmanFormat

__all__ = ["HuffmanDecoder"]


class HuffmanDecoder(wiring.Component):
    """Decoder of Huffman-coded bfloat16: stream words and sign_mantissa bytes in, bfloat16 values out.

    It works in runs: `count` values whose codes follow each other, a chunk of the stored format. A run begins where the one
    before has ended, moved up to the next byte, or to the next stream word if that run was `last` of what is contiguous in
    memory; then `gap` more bytes are skipped. So all chunks of a row are runs on one contiguous piece of the stream, and any
    piece can be fetched in whole words.

    The next `longest` bits are compared with the limit of every code length at once; the least length whose limit is above them
    is that of the code, and code + base[length] is the place of its symbol in the symbol memory. Bits are shifted out in the same
    cycle, so the comparison and a shift of `longest` + 2 × word bits lie in one loop: it bounds the clock.

    A run takes `count` + 1 cycles, and one more with a gap, while words, bytes and the receiver keep up; a word per cycle is as
    much as the longest codes need. The first value is offered `latency` cycles after the first word was taken. Values are held
    while `o.ready` or `sign_mantissa.valid` is low; `o.ready` acts on the loop in the same cycle.

    Registers: `longest` · (`longest` + 9) of the table, 2 `longest` + word bits, and some 40.

    Parameters
    ----------
    fmt : HuffmanFormat
        `longest`, 8 to 32; a stream of shorter codes needs fewer comparators.
    word_width : int
        Bits of a stream word: a power of two from 8 on, and at least `longest`.

    Members
    -------
    write_length : In({en: 1, length: range(longest + 1), limit: longest + 1, base: 8})
        While `en` is 1, sets limit and base (modulo 256) of a code length, 1 to `longest`; each must be written before use.
    write_symbol : In({en: 1, index: 8, symbol: 8})
        While `en` is 1, writes a place of the symbol memory.
    run : In(stream of {count: 16, gap: range(word bytes), last: 1})
        A count of 0 decodes nothing, but still moves to the next byte or, if `last`, word.
    i : In(stream of word_width bits)
        Byte k of the memory's word in bits 8k+7 … 8k; the highest bit of the first byte is the first bit.
    sign_mantissa : In(stream of 8 bits)
        sign << 7 | fraction of each value.
    o : Out(stream of {value: `float_layout(BF16)`, last: 1})
        `last` marks the last value of a run that was `last`.
    bad_code : Out(1)
        Bits came that begin no code (the code was not complete, and the stream is damaged): one bit was skipped and a wrong value
        given for it. Stays 1 until `write_length.en`.

    Attributes
    ----------
    latency : int

    Raises
    ------
    ConfigError
        If the word width is not as above.

    References
    ----------
    Zhang et al., DFloat11, NeurIPS 2025: the paper decodes with tables of 256 entries in up to four steps, and many threads on
    chunks of 8 bytes; here the code is canonical and comparators take the place of the tables.
    """

    latency = 3

    def __init__(self, fmt: HuffmanFormat, *, word_width: int = 32):
        if word_width < max(8, fmt.longest) or word_width & (word_width - 1):
            raise ConfigError(f"HuffmanDecoder.word_width must be a power of two and at least {max(8, fmt.longest)}, "
                              f"not {word_width!r}")
        self._longest = longest = fmt.longest
        self._word_width = word_width
        super().__init__({
            "write_length": In(wiring.Signature({
                "en": Out(1), "length": Out(range(longest + 1)), "limit": Out(longest + 1), "base": Out(8)})),
            "write_symbol": In(wiring.Signature({"en": Out(1), "index": Out(8), "symbol": Out(8)})),
            "run": In(stream.Signature(data.StructLayout({"count": 16, "gap": range(word_width // 8), "last": 1}))),
            "i": In(stream.Signature(word_width)),
            "sign_mantissa": In(stream.Signature(8)),
            "o": Out(stream.Signature(data.StructLayout({"value": float_layout(BF16), "last": 1}))),
            "bad_code": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        longest, word_width = self._longest, self._word_width

        # Bits that wait, the first on top, zeros below. Even if two of the longest codes leave before a word comes, a third is
        # there, so that whether a word is taken need not depend on the code of this cycle.
        width = word_width + 2 * longest
        bits = Signal(width)
        level = Signal(range(width + 1))
        amount = Signal(range(max(longest + 1, word_width)))        # bits that leave
        taken = Signal()
        merged = Signal(width)
        reversed_bytes = Cat(self.i.payload.word_select(byte, 8) for byte in reversed(range(word_width // 8)))
        m.d.comb += [
            self.i.ready.eq(level <= width - word_width),
            taken.eq(self.i.valid & self.i.ready),
            merged.eq(bits | (Cat(C(0, width - word_width), Mux(taken, reversed_bytes, 0)) >> level)),
        ]
        m.d.sync += [bits.eq((merged << amount)[:width]), level.eq(level - amount + Mux(taken, word_width, 0))]

        # Length of the first code, its place among the symbols of that length, and what leads from there into the memory.
        window = bits[-longest:]
        limits = [Signal(longest + 1, name=f"limit_{length}", reset_less=True) for length in range(1, longest + 1)]
        bases = [Signal(8, name=f"base_{length}", reset_less=True) for length in range(1, longest + 1)]
        below = Signal(longest)
        first = Signal(longest)
        length_found, place, base = Signal(range(longest + 1)), Signal(8), Signal(8)
        for index, (limit, offset) in enumerate(zip(limits, bases, strict=True)):
            m.d.comb += below[index].eq(window < limit)
            with m.If(self.write_length.en & (self.write_length.length == index + 1)):
                m.d.sync += [limit.eq(self.write_length.limit), offset.eq(self.write_length.base)]
        m.d.comb += first.eq(below & ~(below << 1))
        for signal, values in ((length_found, [C(length) for length in range(1, longest + 1)]), (base, bases),
                               (place, [window[longest - length:][:8] for length in range(1, longest + 1)])):
            selected = [Mux(first[index], value, 0) for index, value in enumerate(values)]
            m.d.comb += signal.eq(_any_of(selected))
        none = ~below[-1]
        length = Mux(none, 1, length_found)

        # What happens to the bits: a code leaves, or the gap does, or what is left of a byte or a word behind a run.
        remaining = Signal(16)
        gap = Signal.like(self.run.payload.gap)
        last = Signal()
        advance = Signal()
        decoded = Signal()
        m.d.comb += self.run.ready.eq(remaining == 0)
        with m.If(remaining == 0):
            m.d.comb += amount.eq(Mux(last, level[:exact_log2(word_width)], level[:3]))
            with m.If(self.run.valid):
                m.d.sync += [remaining.eq(self.run.payload.count), gap.eq(self.run.payload.gap), last.eq(self.run.payload.last)]
        with m.Elif(gap != 0):
            with m.If(level[3:] >= gap):
                m.d.comb += amount.eq(gap << 3)
                m.d.sync += gap.eq(0)
        with m.Elif(advance & (length <= level)):
            m.d.comb += [decoded.eq(1), amount.eq(length)]
            m.d.sync += remaining.eq(remaining - 1)
        with m.If(self.write_length.en):
            m.d.sync += self.bad_code.eq(0)
        with m.Elif(decoded & none):
            m.d.sync += self.bad_code.eq(1)

        # Two registers on the way to the symbol: its place, and what the memory gives.
        m.submodules.symbols = symbols = memory.Memory(shape=8, depth=256, init=[])
        write, read = symbols.write_port(), symbols.read_port()
        place_valid, place_last, index = Signal(), Signal(reset_less=True), Signal(8, reset_less=True)
        symbol_valid, symbol_last = Signal(), Signal(reset_less=True)
        m.d.comb += [
            write.en.eq(self.write_symbol.en), write.addr.eq(self.write_symbol.index), write.data.eq(self.write_symbol.symbol),
            read.en.eq(advance), read.addr.eq(index),
            advance.eq(~symbol_valid | (self.sign_mantissa.valid & self.o.ready)),
            self.o.valid.eq(symbol_valid & self.sign_mantissa.valid),
            self.sign_mantissa.ready.eq(symbol_valid & self.o.ready),
            self.o.payload.value.mantissa.eq(self.sign_mantissa.payload[:7]),
            self.o.payload.value.exponent.eq(read.data),
            self.o.payload.value.sign.eq(self.sign_mantissa.payload[7]),
            self.o.payload.last.eq(symbol_last),
        ]
        with m.If(advance):
            m.d.sync += [
                place_valid.eq(decoded), place_last.eq(last & (remaining == 1)), index.eq(place + base),
                symbol_valid.eq(place_valid), symbol_last.eq(place_last),
            ]
        return m


def _any_of(values: list[Value]) -> Value:
    """Return the bitwise or of `values`, as a tree."""
    while len(values) > 1:
        values = [a | b for a, b in zip(values[::2], values[1::2], strict=False)] + values[len(values) // 2 * 2:]
    return values[0]
