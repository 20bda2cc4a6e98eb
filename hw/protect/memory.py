"""A memory bank whose words are protected by parity or SECDED, with the timing of `hw.memory.bank`."""

from typing import Any

from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import Out

from hw.errors import ConfigError
from hw.memory.bank import MemoryBank, bank_ports
from hw.protect.checker import Checker
from hw.protect.domains import NONE
from hw.protect.scrubber import Scrubber
from hw.protect.words import CodedWords, WordDecoder, WordEncoder

__all__ = ["SCRUB_PERIOD", "ProtectedBank", "bank_name", "bank_of"]

SCRUB_PERIOD = 64
"""Cycles from one row to the next, unless a bank is told otherwise."""


class ProtectedBank(wiring.Component, Checker):
    """A `MemoryBank` that checks what it reads, puts single errors right (SECDED), also in the memory, and says so.

    Reads take a cycle, as in the plain bank: the decoder stands between the memory and `read_data`. With SECDED a row with a
    single error is written back when it is read and the write port is free, and a scrubber reads every row in idle cycles.

    Where a word has several write enables (`word` larger than width / enables), a write waits in a register for one cycle, with
    a parity bit of its own for each enable's bits; reads see it in time all the same. If it fills no word in part it is then
    encoded and written. If it does, it needs the old word: it takes the read port in its first cycle (`merging`), and
    the old bits, put right, are merged in its second.

    Contents are undefined until written, and what is undefined is no word of the code, unless it is zero.

    Parameters
    ----------
    depth, width, enables, transparent
        As in `MemoryBank`.
    mechanism : str
        "parity" or "secded".
    word : int
        Data bits of a word of the code; it divides `width`, and width / enables divides it (or it is a part of that).
    scrub_period : int
        Cycles from one row that is scrubbed to the next, at least 2; with SECDED.

    Members
    -------
    read_addr : In(range(depth)), read_en : In(1)
    read_data : Out(width)
        The row, in the cycle after `read_en`, for that cycle only.
    write_addr : In(range(depth)), write_data : In(width), write_en : In(enables)
        In a cycle with `read_en` the row that is read gives its old contents, or with `transparent` its new ones.
    merging : Out(1)
        The write of this cycle takes the read port: `read_en` is ignored. Combinational on `write_en`.
    detected, corrected : Out(1)
        Pulses, one cycle after the data of a read, merge or scrub. An error that cannot be put right and that a scrub alone
        meets is not reported: it harms nobody before the row is used.

    Raises
    ------
    ConfigError
        If the words do not fit the row, or a transparent bank would have to merge.
    """

    latency = 1

    def __init__(self, *, depth: int, width: int, mechanism: str, word: int, enables: int = 1, transparent: bool = False,
                 scrub_period: int = SCRUB_PERIOD):
        self.code = CodedWords(mechanism=mechanism, width=width, word=word, interleaved=enables == 1)
        granule = width // enables
        if width % word or (word % granule and granule % word):
            raise ConfigError(f"ProtectedBank.word must divide width ({width}) and fit its write enables ({granule} bits each), "
                              f"not {word!r}")
        self.merges = word > granule
        if self.merges and transparent:
            raise ConfigError(f"ProtectedBank.word must be at most {granule} where reads are transparent, not {word!r}")
        self.depth = depth
        self.width = width
        self.enables = enables
        self.transparent = transparent
        self.scrub_period = scrub_period
        super().__init__({
            **bank_ports(depth=depth, width=width, enables=enables),
            "merging": Out(1),
            "detected": Out(1),
            "corrected": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        code = self.code
        writes = self.width // code.word if self.enables > 1 else 1     # parts of the array: a word of the code each, or the row
        m.submodules.array = array = memory.Memory(shape=code.coded_width, depth=self.depth, init=[],
                                                   attrs={"ram_style": "block"})
        m.submodules.encoder = encoder = WordEncoder(code)
        m.submodules.decoder = decoder = WordDecoder(code)
        write = array.write_port(granularity=code.coded_width // writes)
        # A write that has waited for a cycle is one that reads must see.
        transparent = self.transparent or self.merges
        read = array.read_port(transparent_for=(write,) if transparent else ())

        reading = Signal()                                  # the decoder has what `read_en` asked for
        used = Signal(len(code.sizes))                      # words that it has for somebody
        broken = Signal()                                   # a write that waited is wrong
        writing = Signal(writes)                            # what is written on somebody's behalf
        m.d.comb += [
            read.en.eq(self.read_en),
            read.addr.eq(self.read_addr),
            decoder.coded.eq(read.data),
            self.read_data.eq(decoder.data),
            write.data.eq(encoder.coded),
            write.en.eq(writing),
            used.eq(reading.replicate(len(used))),
        ]
        m.d.sync += [
            reading.eq(self.read_en & ~self.merging),
            self.detected.eq((decoder.detected & used).any() | broken),
            self.corrected.eq((decoder.corrected & used).any()),
        ]
        if self.merges:
            self._wait(m, read, write, writing, encoder, decoder, used, broken)
        else:
            parts = writes // self.enables
            m.d.comb += [
                encoder.data.eq(self.write_data),
                write.addr.eq(self.write_addr),
                writing.eq(Cat(enable.replicate(parts) for enable in self.write_en)),
            ]
        if code.mechanism == "secded":
            self._repair(m, read, write, writing, decoder, reading, transparent)
        return m

    def _wait(self, m: Module, read: Any, write: Any, writing: Signal, encoder: WordEncoder, decoder: WordDecoder, used: Signal,
              broken: Signal) -> None:
        """Keep a write for a cycle, and give words that it fills in part what they had."""
        granule = self.width // self.enables
        per_word = self.code.word // granule
        enables = Signal(self.enables)                      # of the write that waits
        addr = Signal.like(self.write_addr)
        check = Signal()                                    # parity of these two
        data = Signal(self.width, reset_less=True)
        parity = Signal(self.enables, reset_less=True)
        m.d.sync += [
            enables.eq(self.write_en),
            addr.eq(self.write_addr),
            check.eq(self.write_en.xor() ^ self.write_addr.xor()),
        ]
        with m.If(self.write_en.any()):
            m.d.sync += [data.eq(self.write_data), parity.eq(_parities(self.write_data, granule))]

        merged = Signal(len(self.code.sizes))               # words that need what the decoder has
        partial = [Signal(name=f"partial_{index}") for index in range(len(merged))]
        for index, part in enumerate(partial):
            which = slice(index * per_word, (index + 1) * per_word)
            m.d.comb += [
                part.eq(self.write_en[which].any() & ~self.write_en[which].all()),
                writing[index].eq(enables[which].any()),
            ]
        m.d.sync += merged.eq(Cat(partial))
        with m.If(self.merging):
            m.d.comb += [read.en.eq(1), read.addr.eq(self.write_addr)]
        m.d.comb += [
            self.merging.eq(Cat(partial).any()),
            write.addr.eq(addr),
            broken.eq((((parity ^ _parities(data, granule)) & enables).any()) | (check ^ enables.xor() ^ addr.xor())),
            encoder.data.eq(Cat(Mux(enable, data[first:first + granule], decoder.data[first:first + granule])
                                for enable, first in zip(enables, range(0, self.width, granule), strict=True))),
        ]
        with m.If(merged.any()):
            m.d.comb += used.eq(merged)

    def _repair(self, m: Module, read: Any, write: Any, writing: Signal, decoder: WordDecoder, reading: Signal,
                transparent: bool) -> None:
        """Write rows back that were wrong, when they are read or scrubbed and nothing else is written."""
        m.submodules.scrubber = scrubber = Scrubber(depth=self.depth, period=self.scrub_period)
        scrubbing = Signal()                                # the decoder has a row that is scrubbed
        addr = Signal.like(self.read_addr, reset_less=True)
        late = Signal()                                     # the row has been written since it was read
        wrong = Signal()
        m.d.sync += [scrubbing.eq(scrubber.read), addr.eq(read.addr)]
        if not transparent:
            m.d.sync += late.eq(writing.any() & (write.addr == read.addr))
        m.d.comb += [
            scrubber.idle.eq(~self.read_en & ~self.merging),
            scrubber.again.eq(wrong & writing.any()),
            wrong.eq(decoder.corrected.any() & ~decoder.detected.any()),
        ]
        with m.If(scrubber.read):
            m.d.comb += [read.en.eq(1), read.addr.eq(scrubber.addr)]
        with m.If(scrubbing & decoder.corrected.any()):
            m.d.sync += self.corrected.eq(1)
        with m.If(wrong & (reading | scrubbing) & ~late & ~writing.any()):
            m.d.comb += [write.en.eq(~C(0, len(writing))), write.addr.eq(addr), write.data.eq(decoder.coded_out)]


def bank_of(mechanism: str, *, word: int, depth: int, width: int, enables: int = 1,
            transparent: bool = False) -> MemoryBank | ProtectedBank:
    """Return a bank that `mechanism` protects, in words of `word` bits: a plain one if it is "none"."""
    if mechanism == NONE:
        return MemoryBank(depth=depth, width=width, enables=enables, transparent=transparent)
    return ProtectedBank(depth=depth, width=width, mechanism=mechanism, word=word, enables=enables, transparent=transparent)


def bank_name(name: str, mechanism: str) -> str:
    """Return the module name of a bank that is called `name` when it is plain."""
    return name if mechanism == NONE else f"{name}_{mechanism}"


def _parities(data: Value, granule: int) -> Value:
    """Return the parity of each `granule` bits."""
    return Cat(data[first:first + granule].xor() for first in range(0, len(data), granule))
