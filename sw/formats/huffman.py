"""bfloat16 without loss: Huffman-coded exponents, sign and fraction as they are."""

import numpy as np
import numpy.typing as npt

from hw.families import HuffmanFormat
from sw.formats.canonical import CanonicalCode, code_lengths
from sw.formats.codec import Encoded, FormatError, Matrix

__all__ = ["HuffmanCodec", "exponent_counts"]

_SLAB = 1 << 17                                             # values that one step encodes, so that its arrays stay in the cache
_LANES = 1 << 14                                            # chunks that are decoded side by side
_PEEK = 12                                                  # bits of the table that decodes short codes
_LARGEST_STREAM = (1 << 32) - 1                             # bytes; `starts` are 32-bit

Symbols = npt.NDArray[np.uint8]


class HuffmanCodec:
    """The codec of Huffman-coded bfloat16 (DFloat11).

    Exponents of the whole tensor share one canonical code (`sw.formats.canonical`), the best whose codes have at most `longest`
    bits; `lengths` (256,) uint8 says all of it. A chunk is up to `chunk` consecutive values of a row; its last may be shorter.
    Codes of a chunk follow each other from the highest bit of a byte down, and each chunk begins with a new byte, its last byte
    filled with zeros: `stream` is the bytes of all chunks, one after the other, and `starts` (rows, chunks of a row) uint32 where
    each begins. Sign and fraction of a value, sign << 7 | fraction, are its packed word.

    Differences from DFloat11: codes longer than 32 bits are avoided by package-merge, where the paper flattens counts of rare
    symbols until none is left; every exponent may occur (the paper's tables need 240 to 255 for themselves); chunks have as many
    values rather than as many bytes, so that a decoder needs one offset for each and no second pass.
    """

    in_parts = True

    def quantize(self, fmt: HuffmanFormat, matrix: Matrix, *, counts: npt.NDArray[np.int64] | None = None) -> Encoded:
        """Return `matrix` in `fmt`: (rows, columns) float32, all of it bfloat16 values, NaN and infinities included.

        counts: (256,) int64, `exponent_counts` of the tensor whose rows these are, so that they share its code; None: those of
        `matrix`.

        Raises
        ------
        FormatError
            If a value is not exact in bfloat16, the coded exponents may take 4 GiB, or `counts` lack some of `matrix`.
        """
        words = matrix.view(np.uint32)
        inexact = (words & 0xFFFF) != 0
        if inexact.any():
            row, column = (int(i) for i in np.argwhere(inexact)[0])
            raise FormatError(f"values must be exact in bfloat16, not {matrix[row, column]} (row {row}, column {column}): "
                              "round them first, as array.astype(ml_dtypes.bfloat16) does")
        high = (words >> 16).astype(np.uint16)
        exponents = (high >> 7).astype(np.uint8)
        sign_mantissa = (high >> 8 & 0x80 | high & 0x7F).astype(np.uint8)
        own = _histogram(exponents)
        counts = own if counts is None else counts
        if np.any(own > counts):
            raise FormatError(f"counts must be of a tensor with these rows, not without their exponent {(own > counts).argmax()}")
        code = CanonicalCode.from_lengths(code_lengths(counts.tolist(), fmt.longest), fmt.longest)
        chunks = matrix.shape[0] * -(-matrix.shape[1] // fmt.chunk)     # each may end with a byte that is not full
        if (size := int((counts * code.lengths).sum()) // 8 + chunks) > _LARGEST_STREAM:
            raise FormatError(f"coded exponents must take less than 4 GiB, not up to {size} bytes: split the tensor")
        stream, starts = _encode(exponents, code, fmt.chunk)
        return Encoded(fields={"sign_mantissa": sign_mantissa[:, :, None]},
                       side={"lengths": code.lengths, "stream": stream, "starts": starts})

    def dequantize(self, fmt: HuffmanFormat, encoded: Encoded) -> Matrix:
        """Return (rows, columns) float32, bit by bit what was encoded.

        Raises
        ------
        FormatError
            If lengths, stream and starts are not of a tensor of this size.
        """
        code = CanonicalCode.from_lengths(encoded.side["lengths"], fmt.longest)
        sign_mantissa = encoded.fields["sign_mantissa"][:, :, 0]
        rows, columns = sign_mantissa.shape
        exponents = _decode(encoded.side["stream"], encoded.side["starts"], rows, columns, code, fmt.chunk)
        high = exponents.astype(np.uint16) << 7
        high |= sign_mantissa & 0x7F
        high |= (sign_mantissa & np.uint16(0x80)) << 8
        return (high.astype(np.uint32) << 16).view(np.float32)


def exponent_counts(matrix: Matrix) -> npt.NDArray[np.int64]:
    """Return how often each biased exponent occurs in (rows, columns) float32: (256,) int64."""
    return _histogram((matrix.view(np.uint32) >> 23).astype(np.uint8))


def _histogram(symbols: Symbols) -> npt.NDArray[np.int64]:
    """Return how often each of the 256 symbols occurs; pairs are counted, which is faster by far."""
    flat = symbols.ravel()
    counts = np.zeros(1 << 16, np.int64)
    pairs = flat[:flat.size // 2 * 2].view(np.uint16)
    for first in range(0, pairs.size, _SLAB):
        counts += np.bincount(pairs[first:first + _SLAB], minlength=1 << 16)
    square = counts.reshape(256, 256)
    single = square.sum(axis=0) + square.sum(axis=1)
    if flat.size % 2:
        single[flat[-1]] += 1
    return single


def _encode(symbols: Symbols, code: CanonicalCode, chunk: int) -> tuple[Symbols, npt.NDArray[np.uint32]]:
    """Return stream and starts of `symbols` (rows, columns)."""
    rows, columns = symbols.shape
    chunk = min(chunk, columns)
    chunks = -(-columns // chunk)
    padding = chunks * chunk - columns
    if padding:
        symbols = np.pad(symbols, ((0, 0), (0, padding)))
    else:
        symbols = np.ascontiguousarray(symbols)
    symbols = symbols.reshape(rows * chunks, chunk)
    used = np.full(rows * chunks, chunk)                    # values of each chunk
    used[chunks - 1::chunks] -= padding
    pieces, sizes = [], []
    step = max(1, _SLAB // chunk)
    for first in range(0, len(symbols), step):
        slab = symbols[first:first + step]
        lengths, codes = code.lengths[slab], code.codes[slab].astype(np.uint64)
        if padding:
            unused = np.arange(chunk) >= used[first:first + step, None]
            lengths[unused] = 0
            codes[unused] = 0
        ends = np.cumsum(lengths, axis=1, dtype=np.int64)
        size = (ends[:, -1] + 7) // 8
        piece_end = np.cumsum(size)
        position = ends
        position += ((piece_end - size) * 8)[:, None]
        position -= lengths
        pieces.append(_place(codes.ravel(), lengths.ravel(), position.ravel(), int(piece_end[-1])))
        sizes.append(size)
    size = np.concatenate(sizes)
    return np.concatenate(pieces), (np.cumsum(size) - size).astype(np.uint32).reshape(rows, chunks)


def _place(codes: npt.NDArray[np.uint64], lengths: Symbols, position: npt.NDArray[np.int64], size: int) -> Symbols:
    """Return `size` bytes with `codes` at bit `position`, which increases, the highest bit of a byte being its first."""
    word = position >> 5
    codes <<= (64 - lengths - (position & 31)).astype(np.uint64)
    first = np.concatenate(([0], np.flatnonzero(word[1:] != word[:-1]) + 1))
    pairs = np.bitwise_or.reduceat(codes, first)            # of all codes that begin in a word: that word and the next one
    words = np.zeros(size // 4 + 2, np.uint32)
    words[word[first]] = pairs >> np.uint64(32)
    words[word[first] + 1] |= (pairs & np.uint64(0xFFFF_FFFF)).astype(np.uint32)
    return words.astype(">u4").view(np.uint8)[:size]


def _decode(stream: Symbols, starts: npt.NDArray[np.uint32], rows: int, columns: int, code: CanonicalCode, chunk: int) -> Symbols:
    """Return the symbols of `stream`, (rows, columns)."""
    chunk = min(chunk, columns)
    chunks = -(-columns // chunk)
    if starts.shape != (rows, chunks) or starts.dtype != np.uint32:
        raise FormatError(f"starts must be {(rows, chunks)} uint32, not {starts.shape} {starts.dtype}")
    if stream.ndim != 1 or stream.dtype != np.uint8:
        raise FormatError(f"the stream must be bytes, not {stream.dtype} of shape {stream.shape}")
    begin = starts.ravel().astype(np.int64)
    end = np.append(begin[1:], stream.size)
    if begin[0] != 0 or np.any(begin > end):
        raise FormatError(f"starts must increase from 0 and stay within the stream of {stream.size} bytes")
    words = np.pad(stream, (0, -stream.size % 4 + 8)).view(">u4").astype(np.uint64)
    pairs = words[:-1] << np.uint64(32) | words[1:]
    table = _short_codes(code)
    symbols = np.empty((rows, chunks, chunk), np.uint8)
    tail = columns - (chunks - 1) * chunk
    for part, count in ((slice(0, chunks - 1), chunk), (slice(chunks - 1, chunks), tail)):
        lanes = np.arange(rows * chunks).reshape(rows, chunks)[:, part].ravel()
        for first in range(0, lanes.size, _LANES):
            some = lanes[first:first + _LANES]
            symbols.reshape(-1, chunk)[some, :count] = _decode_lanes(pairs, begin[some], end[some], count, code, table).T
    return symbols.reshape(rows, -1)[:, :columns]


def _short_codes(code: CanonicalCode) -> npt.NDArray[np.uint16]:
    """Return what the next `_PEEK` bits say: length << 8 | symbol, 0 where the code is longer or there is none."""
    table = np.zeros(1 << _PEEK, np.uint16)
    for symbol in code.symbols.tolist():
        length = int(code.lengths[symbol])
        if length <= _PEEK:
            low = int(code.codes[symbol]) << (_PEEK - length)
            table[low:low + (1 << (_PEEK - length))] = length << 8 | symbol
    return table


def _decode_lanes(pairs: npt.NDArray[np.uint64], begin: npt.NDArray[np.int64], end: npt.NDArray[np.int64], count: int,
                  code: CanonicalCode, table: npt.NDArray[np.uint16]) -> Symbols:
    """Return `count` symbols of each lane, (count, lanes): one step decodes a symbol of every lane.

    pairs: the stream as 32-bit words, each with the next one below it. begin, end: bytes of each lane.
    """
    symbols = np.empty((count, begin.size), np.uint8)
    position = (begin * 8).astype(np.uint64)
    for step in range(count):
        window = pairs.take((position >> np.uint64(5)).view(np.int64), mode="clip")
        window <<= position & np.uint64(31)
        entry = table.take((window >> np.uint64(64 - _PEEK)).view(np.int64))
        length = entry >> np.uint16(8)
        symbols[step] = entry                               # the low byte
        if not length.all():
            lanes = np.flatnonzero(length == 0)
            wanted = window[lanes] >> np.uint64(64 - code.longest)
            found = np.searchsorted(code.limits, wanted, side="right")
            if found.max() > code.longest:
                lane = int(lanes[found.argmax()])
                raise FormatError(f"the stream must be of codes, not have other bits (chunk at byte {begin[lane]}, value {step})")
            place = code.base[found] + (wanted >> (code.longest - found).astype(np.uint64)).astype(np.int64)
            symbols[step, lanes] = code.symbols[place]
            length[lanes] = found
        position += length
    wrong = (position + np.uint64(7)) >> np.uint64(3) != end.astype(np.uint64)
    if wrong.any():
        raise FormatError(f"a chunk must end where the next one starts, not elsewhere (chunk at byte {begin[wrong.argmax()]})")
    return symbols
