"""Canonical Huffman coding in plain Python, one bit at a time: what codec and decoder are compared with."""

import heapq
from collections.abc import Sequence

__all__ = ["canonical_codes", "decode_bits", "encode_bits", "huffman_cost"]


def canonical_codes(lengths: Sequence[int]) -> dict[int, str]:
    """Return symbol → code as a text of 0 and 1: counted up through lengths and symbols, as RFC 1951 does."""
    codes: dict[int, str] = {}
    code = previous = 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(lengths) if length):
        code <<= length - previous
        codes[symbol] = format(code, f"0{length}b")
        code, previous = code + 1, length
    return codes


def encode_bits(rows: Sequence[Sequence[int]], codes: dict[int, str], chunk: int) -> tuple[bytes, list[list[int]]]:
    """Return stream and starts of rows of symbols."""
    stream, starts = b"", []
    for row in rows:
        starts.append([])
        for first in range(0, len(row), chunk):
            bits = "".join(codes[symbol] for symbol in row[first:first + chunk])
            bits += "0" * (-len(bits) % 8)
            starts[-1].append(len(stream))
            stream += int(bits, 2).to_bytes(len(bits) // 8, "big")
    return stream, starts


def decode_bits(stream: bytes, start: int, count: int, codes: dict[int, str]) -> list[int]:
    """Return `count` symbols from byte `start` on."""
    symbols = {code: symbol for symbol, code in codes.items()}
    bits = "".join(format(byte, "08b") for byte in stream[start:])
    found: list[int] = []
    low = high = 0
    while len(found) < count:
        high += 1
        if (symbol := symbols.get(bits[low:high])) is not None:
            found.append(symbol)
            low = high
    return found


def huffman_cost(counts: Sequence[int]) -> tuple[int, int]:
    """Return the total bits of Huffman's code of any length, and the length of its longest code."""
    heap = [(count, 0) for count in counts if count]
    heapq.heapify(heap)
    total = 0
    while len(heap) > 1:
        (a, a_depth), (b, b_depth) = heapq.heappop(heap), heapq.heappop(heap)
        total += a + b
        heapq.heappush(heap, (a + b, max(a_depth, b_depth) + 1))
    return total, heap[0][1]
