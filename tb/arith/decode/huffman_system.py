"""A Huffman decoder with memories on its streams, for simulators that cannot answer a handshake; and how to drive it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hw.arith.decode.huffman import HuffmanDecoder
from hw.families import HuffmanFormat
from sw.formats.canonical import CanonicalCode

__all__ = ["DEPTH", "HuffmanSystem", "Job", "job_of", "table_writes"]

DEPTH = 1 << 13                                             # payloads of a stream; larger memories take long to emit


class HuffmanSystem(wiring.Component):
    """`HuffmanDecoder` whose three input streams come from memories, written through ports of their own.

    Each offers its next payload when its `go` is 1, and then until it is taken.
    """

    SOURCES = ("run", "i", "sign_mantissa")

    def __init__(self, fmt: HuffmanFormat, word_width: int):
        self._decoder = HuffmanDecoder(fmt, word_width=word_width)
        ports = self._decoder.signature.members
        members: dict[str, Any] = {name: ports[name] for name in ("write_length", "write_symbol", "bad_code")}
        for name in self.SOURCES:
            width = len(Value.cast(getattr(self._decoder, name).payload))
            members |= {f"{name}_en": In(1), f"{name}_data": In(width), f"{name}_go": In(1)}
        super().__init__({**members, "ready": In(1), "valid": Out(1), "value": Out(16), "last": Out(1), "run_taken": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.decoder = decoder = self._decoder
        wiring.connect(m, wiring.flipped(self.write_length), decoder.write_length)
        wiring.connect(m, wiring.flipped(self.write_symbol), decoder.write_symbol)
        for name in self.SOURCES:
            target, enable = getattr(decoder, name), getattr(self, f"{name}_en")
            value = getattr(self, f"{name}_data")
            m.submodules[f"{name}_memory"] = storage = memory.Memory(shape=len(value), depth=DEPTH, init=[])
            write, read = storage.write_port(), storage.read_port(domain="comb")
            end, next_one = Signal(range(DEPTH + 1), name=f"{name}_end"), Signal(range(DEPTH + 1), name=f"{name}_next")
            held = Signal(name=f"{name}_held")
            m.d.comb += [
                write.en.eq(enable), write.addr.eq(end), write.data.eq(value), read.addr.eq(next_one),
                Value.cast(target.payload).eq(read.data),
                target.valid.eq((next_one != end) & (held | getattr(self, f"{name}_go"))),
            ]
            m.d.sync += [end.eq(end + enable), next_one.eq(next_one + (target.valid & target.ready)),
                         held.eq(target.valid & ~target.ready)]
        m.d.comb += [
            self.valid.eq(decoder.o.valid), decoder.o.ready.eq(self.ready), self.bad_code.eq(decoder.bad_code),
            self.value.eq(decoder.o.payload.value.as_value()), self.last.eq(decoder.o.payload.last),
            self.run_taken.eq(decoder.run.valid & decoder.run.ready),
        ]
        return m


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a decoder is given for some chunks, and what it must give.

    Attributes
    ----------
    runs : list of (count, gap, last)
    words : list of int
        Stream words.
    sign_mantissa, values, last : ndarray
        For each value.
    """

    runs: list[tuple[int, int, int]]
    words: list[int]
    sign_mantissa: np.ndarray
    values: np.ndarray
    last: np.ndarray


def job_of(stream: np.ndarray, starts: np.ndarray, words: np.ndarray, chunk: int, word_width: int,
           pieces: Sequence[tuple[int, int]]) -> Job:
    """Return the job of decoding `pieces` of a stored matrix.

    Parameters
    ----------
    stream, starts : as `HuffmanCodec` gives them
    words : (rows, columns) uint16
        The bfloat16 words of the matrix.
    pieces : sequence of (first, end)
        Chunks, counted through all rows; those of a piece are decoded from one contiguous part of the stream.
    """
    word_bytes = word_width // 8
    begins = [*starts.ravel().tolist(), stream.size]
    per_row = starts.shape[1]
    padded = np.pad(stream, (0, -stream.size % word_bytes)).view(f"<u{word_bytes}")
    runs: list[tuple[int, int, int]] = []
    stream_words: list[int] = []
    values, last = [], []
    for first, end in pieces:
        stream_words += padded[begins[first] // word_bytes:-(-begins[end] // word_bytes)].tolist()
        for index in range(first, end):
            row, place = divmod(index, per_row)
            part = words[row, place * chunk:(place + 1) * chunk]
            runs.append((part.size, begins[first] % word_bytes if index == first else 0, int(index == end - 1)))
            values.append(part)
            last.append(np.zeros(part.size, np.uint8))
        last[-1][-1] = 1
    flat = np.concatenate(values)
    return Job(runs=runs, words=stream_words, sign_mantissa=flat >> 8 & 0x80 | flat & 0x7F, values=flat,
               last=np.concatenate(last))


def table_writes(code: CanonicalCode) -> tuple[list[tuple[int, int, int]], list[int]]:
    """Return what to write into a decoder: (length, limit, base) for each length, and the symbol memory."""
    lengths = [(n, int(code.limits[n]), int(code.base[n]) % 256) for n in range(1, code.longest + 1)]
    return lengths, code.symbols.tolist()
