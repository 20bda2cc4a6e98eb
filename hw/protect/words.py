"""Rows of code words: what is stored where a memory or a FIFO is protected by parity or SECDED."""

from dataclasses import dataclass
from typing import Any

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.errors import ConfigError
from hw.protect.hsiao import HsiaoDecoder, HsiaoEncoder, hsiao_check_bits
from hw.share import shared

__all__ = ["WORD_MECHANISMS", "CodedWords", "WordDecoder", "WordEncoder", "storage_code"]

WORD_MECHANISMS = ("parity", "secded")


@dataclass(frozen=True, kw_only=True, slots=True)
class CodedWords:
    """A row of `width` bits as words of `word` bits (the last one shorter, if it must be), each with its check bits.

    Parameters
    ----------
    mechanism : str
        "parity": one even parity bit a word, which finds one wrong bit; "secded": `hw.protect.hsiao`.
    width, word : int
        Bits of the row and of a word of data.
    interleaved : bool
        Bit i of every word, then bit i + 1: up to as many adjacent bits as there are words are then in different ones. Else word
        after word, so that words can be written apart.

    Raises
    ------
    ConfigError
        If the mechanism is unknown or a width is not positive.
    """

    mechanism: str
    width: int
    word: int
    interleaved: bool = False

    def __post_init__(self) -> None:
        """Check the parameters."""
        if self.mechanism not in WORD_MECHANISMS:
            raise ConfigError(f"CodedWords.mechanism must be one of {', '.join(WORD_MECHANISMS)}, not {self.mechanism!r}")
        for name in ("width", "word"):
            if getattr(self, name) < 1:
                raise ConfigError(f"CodedWords.{name} must be at least 1, not {getattr(self, name)!r}")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Data bits of each word, the lowest first."""
        whole, rest = divmod(self.width, self.word)
        return (self.word,) * whole + ((rest,) if rest else ())

    def check_bits(self, size: int) -> int:
        """Return the check bits of a word of `size` data bits."""
        return 1 if self.mechanism == "parity" else hsiao_check_bits(size)

    @property
    def coded_width(self) -> int:
        """Bits of a coded row."""
        return sum(size + self.check_bits(size) for size in self.sizes)

    @property
    def suffix(self) -> str:
        """Parameters in a form that fits into a module name."""
        return f"{self.mechanism}_w{self.width}_{'i' if self.interleaved else 'c'}{self.word}"

    def places(self) -> list[list[int]]:
        """Return, for each word, the place in the coded row of each of its bits, data bits first."""
        lengths = [size + self.check_bits(size) for size in self.sizes]
        order = [(index, bit) for index, length in enumerate(lengths) for bit in range(length)]
        if self.interleaved:
            order.sort(key=lambda pair: (pair[1], pair[0]))
        found: list[list[int]] = [[0] * length for length in lengths]
        for place, (index, bit) in enumerate(order):
            found[index][bit] = place
        return found


def storage_code(mechanism: str, width: int) -> CodedWords:
    """Return the code of a small memory with rows of `width` bits: a parity bit for 32 of them, or a SECDED word for 64.

    The words are interleaved: a row is written and read as a whole, so that adjacent wrong bits may be in different words.
    """
    return CodedWords(mechanism=mechanism, width=width, word=32 if mechanism == "parity" else 64, interleaved=True)


def _checked(code: CodedWords) -> tuple[tuple[int, int], ...]:
    """Return first data bit and data bits of each word."""
    return tuple((index * code.word, size) for index, size in enumerate(code.sizes))


class WordEncoder(wiring.Component):
    """Makes a coded row. Combinational.

    Parameters
    ----------
    code : CodedWords

    Members
    -------
    data : In(code.width), coded : Out(code.coded_width)
        Zero becomes zero.
    """

    def __init__(self, code: CodedWords):
        self.code = code
        super().__init__({"data": In(code.width), "coded": Out(code.coded_width)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        bits: list[Any] = [None] * self.code.coded_width
        for index, ((first, size), places) in enumerate(zip(_checked(self.code), self.code.places(), strict=True)):
            data = self.data[first:first + size]
            if self.code.mechanism == "parity":
                word = Cat(data, data.xor())
            else:
                encoder = HsiaoEncoder(width=size)
                m.submodules[f"word_{index}"] = shared(platform, f"hsiao_encoder_{size}", encoder)
                m.d.comb += encoder.data.eq(data)
                word = Cat(data, encoder.check)
            for bit, place in enumerate(places):
                bits[place] = word[bit]
        m.d.comb += self.coded.eq(Cat(bits))
        return m


class WordDecoder(wiring.Component):
    """Checks a coded row and, with SECDED, puts it right. Combinational.

    Parameters
    ----------
    code : CodedWords

    Members
    -------
    coded : In(code.coded_width)
        What was stored.
    data : Out(code.width), coded_out : Out(code.coded_width)
        The row put right, without and with its check bits; words that cannot be put right are as they came.
    corrected, detected : Out(words)
        For each word: a wrong bit was put right; something is wrong that cannot be put right.
    """

    def __init__(self, code: CodedWords):
        self.code = code
        words = len(code.sizes)
        super().__init__({
            "coded": In(code.coded_width), "data": Out(code.width), "coded_out": Out(code.coded_width), "corrected": Out(words),
            "detected": Out(words),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        right: list[Any] = [None] * self.code.coded_width
        for index, ((first, size), places) in enumerate(zip(_checked(self.code), self.code.places(), strict=True)):
            word = Cat(self.coded[place] for place in places)
            if self.code.mechanism == "parity":
                m.d.comb += [self.data[first:first + size].eq(word[:size]), self.detected[index].eq(word.xor())]
                out: Value = word
            else:
                decoder = HsiaoDecoder(width=size)
                m.submodules[f"word_{index}"] = shared(platform, f"hsiao_decoder_{size}", decoder)
                m.d.comb += [
                    decoder.data.eq(word[:size]),
                    decoder.check.eq(word[size:]),
                    self.data[first:first + size].eq(decoder.data_out),
                    self.corrected[index].eq(decoder.corrected),
                    self.detected[index].eq(decoder.detected),
                ]
                out = Cat(decoder.data_out, decoder.check_out)
            for bit, place in enumerate(places):
                right[place] = out[bit]
        m.d.comb += self.coded_out.eq(Cat(right))
        return m
