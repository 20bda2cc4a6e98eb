"""Sherry formats: the published byte codebook and block layout, a plain model, every message."""

import dataclasses
import math
import re

import numpy as np
import pytest

from hw.errors import ConfigError
from hw.families import TernaryFormat
from hw.formats import FORMATS
from sw.formats import dequantize, quantize
from sw.formats.codec import FormatError
from sw.formats.registry import codec_of
from sw.formats.ternary import TernaryCodec, decode_quads, quad_lanes
from sw.packing import pack_words, unpack_words

STRIDED, CONTIGUOUS = FORMATS["sherry"], FORMATS["sherry-contiguous-g128"]
BOTH = pytest.mark.parametrize("fmt", [STRIDED, CONTIGUOUS, dataclasses.replace(STRIDED, block=64),
                                       dataclasses.replace(CONTIGUOUS, block=4)], ids=lambda fmt: f"{fmt.lanes}-{fmt.block}")
CODEC = TernaryCodec()

PUBLISHED = bytes.fromhex("A9 89 29 09 A6 86 26 06 9A 92 1A 12 6A 62 4A 42 01 21 81 A1 04 24 84 A4 10 18 90 98 40 48 60 68")
"""Two bits a lane, value + 1, lane 0 lowest; index: sign << 4 | slot."""


def plain_places(fmt: TernaryFormat, quad: int) -> list[int]:
    """Return where the four weights of a quad lie, from the specification's words."""
    if fmt.lanes == "contiguous":
        return [4 * quad + lane for lane in range(4)]
    return [quad // 16 * 64 + quad % 16 + 16 * lane for lane in range(4)]


def plain_block(fmt: TernaryFormat, block: list[float]) -> tuple[list[int], float, list[float]]:
    """Return the codes of a block (sign << 4 | slot), its scale and its values, by search in the published codebook."""
    codes, kept, values = [], [], [0.0] * fmt.block
    lanes_of = [[(byte >> 2 * lane & 3) - 1 for lane in range(4)] for byte in PUBLISHED]
    for quad in range(fmt.block // 4):
        weights = [block[place] for place in plain_places(fmt, quad)]
        zero = min(range(4), key=lambda lane: (abs(weights[lane]), lane))
        kept += [abs(weight) for lane, weight in enumerate(weights) if lane != zero]
        codes.append(lanes_of.index([0 if lane == zero else -1 if weight < 0 else 1 for lane, weight in enumerate(weights)]))
    scale = float(np.float16(math.fsum(kept) / (0.75 * fmt.block)))
    for quad, code in enumerate(codes):
        for lane, place in enumerate(plain_places(fmt, quad)):
            values[place] = lanes_of[code][lane] * scale
    return codes, scale, values


def matrix_of(fmt: TernaryFormat, rows: int, seed: int) -> np.ndarray:
    """Return (rows, 3 blocks) float32 with zeros of both signs, ties, and a block of zeros."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(0, 1, (rows, 3 * fmt.block)).astype(np.float32)
    matrix[0] = rng.integers(-2, 3, matrix.shape[1]) * np.where(rng.random(matrix.shape[1]) < 0.5, 1, -1).astype(np.float32)
    matrix[1, :fmt.block] = 0
    return matrix


def test_codebook_is_the_published_one():
    codes = np.arange(32)
    lanes = decode_quads(codes & 15, codes >> 4)
    assert bytes(((lanes + 1) << 2 * np.arange(4)).sum(axis=1).astype(np.uint8)) == PUBLISHED
    assert {tuple(row) for row in lanes.tolist()} == {
        tuple(row) for row in np.stack(np.meshgrid(*[[-1, 0, 1]] * 4), -1).reshape(-1, 4).tolist() if row.count(0) == 1}


@BOTH
def test_every_code_both_ways(fmt):
    lanes = np.stack([(np.frombuffer(PUBLISHED, np.uint8) >> 2 * lane & 3).astype(int) - 1 for lane in range(4)], axis=-1)
    for first in range(0, 32, 4):
        for code in range(first, first + 4):
            block = np.zeros((1, fmt.block), np.float32)
            for quad in range(fmt.block // 4):
                block[0, plain_places(fmt, quad)] = lanes[(code + quad) % 32]
            encoded = CODEC.quantize(fmt, block)
            found = encoded.fields["signs"] << 4 | encoded.fields["slots"]
            assert found.ravel().tolist() == [(code + quad) % 32 for quad in range(fmt.block // 4)]
            assert (CODEC.dequantize(fmt, encoded) == block).all()


@BOTH
@pytest.mark.parametrize("seed", [1, 2])
def test_agrees_with_the_plain_model(fmt, seed):
    matrix = matrix_of(fmt, 5, seed)
    encoded = CODEC.quantize(fmt, matrix)
    found = CODEC.dequantize(fmt, encoded)
    assert found.dtype == np.float32
    for row in range(len(matrix)):
        for block in range(3):
            part = slice(block * fmt.block, (block + 1) * fmt.block)
            codes, scale, values = plain_block(fmt, matrix[row, part].tolist())
            assert (encoded.fields["signs"][row, block] << 4 | encoded.fields["slots"][row, block]).tolist() == codes
            assert encoded.fields["scale"][row, block].view(np.float16).item() == scale
            assert found[row, part].tolist() == values


def test_block_layout_byte_for_byte():
    """Slots two a byte, low nibble first; signs eight a byte; scale: 42 bytes."""
    matrix = matrix_of(STRIDED, 2, seed=4)
    payload = pack_words(STRIDED, CODEC.quantize(STRIDED, matrix).fields)
    assert payload.shape == (2, 3 * 42)
    codes, scale, _ = plain_block(STRIDED, matrix[1, 512:].tolist())
    expected = bytes(codes[2 * i] & 15 | (codes[2 * i + 1] & 15) << 4 for i in range(32))
    expected += bytes(sum((codes[8 * i + bit] >> 4) << bit for bit in range(8)) for i in range(8))
    expected += np.float16(scale).tobytes()
    assert payload[1, 84:].tobytes() == expected


@BOTH
def test_packed_words_come_back(fmt):
    fields = CODEC.quantize(fmt, matrix_of(fmt, 3, seed=6)).fields
    back = unpack_words(fmt, pack_words(fmt, fields), 3 * fmt.block)
    assert all((back[name] == fields[name]).all() and back[name].dtype == fields[name].dtype for name in fields)


@BOTH
def test_lanes_cover_the_block(fmt):
    places = quad_lanes(fmt)
    assert places.tolist() == [plain_places(fmt, quad) for quad in range(fmt.block // 4)]
    assert sorted(places.ravel()) == list(range(fmt.block))


@pytest.mark.parametrize(("weights", "values"), [
    ([1, 1, 1, 1], [0, 1, 1, 1]),                   # a tie drops the first
    ([-1, 3, -3, 1], [0, 2.333984375, -2.333984375, 2.333984375]),
    ([4, 0, -0.0, 2], [2, 0, 2, 2]),                # a kept zero is positive, whatever its sign
    ([-4, -0.0, 0, -2], [-2, 0, 2, -2]),
    ([0, 0, 0, 0], [0, 0, 0, 0]),
    ([0, 0, 0, 3], [0, 1, 1, 1]),
    ([2**-24, 2**-24, 2**-24, 0], [2**-24, 2**-24, 2**-24, 0]),       # subnormal scale
    ([2**-26, 2**-26, 2**-26, 0], [0, 0, 0, 0]),    # below half of the smallest
    ([65504, -65504, 65504, 65504], [0, -65504, 65504, 65504]),
])
def test_corners(weights, values):
    fmt = dataclasses.replace(CONTIGUOUS, block=4)
    assert CODEC.dequantize(fmt, CODEC.quantize(fmt, np.array([weights], np.float32))).tolist() == [values]


def test_more_rows_than_are_encoded_at_a_time():
    matrix = np.random.default_rng(8).normal(0, 1, (300, 512)).astype(np.float32)
    encoded = codec_of(STRIDED).quantize(STRIDED, matrix)
    for row in (0, 127, 128, 255, 256, 299):
        one = CODEC.quantize(STRIDED, matrix[row:row + 1])
        assert all((one.fields[name][0] == encoded.fields[name][row]).all() for name in one.fields)


def test_error_on_a_normal_distribution():
    """σ = 1: of four, the smallest is left out; the others' mean magnitude is 0.99, and E(w − w')² is 0.28."""
    matrix = np.random.default_rng(9).normal(0, 1, (64, 2048)).astype(np.float32)
    for fmt in (STRIDED, CONTIGUOUS):
        found = CODEC.dequantize(fmt, CODEC.quantize(fmt, matrix))
        assert float(((found - matrix) ** 2).mean()) == pytest.approx(0.283, rel=0.02)


def test_bits_per_weight():
    assert (STRIDED.bits_per_weight, STRIDED.stored_bits_per_weight, STRIDED.word.bytes) == (1.3125, 1.3125, 42)
    assert CONTIGUOUS.bits_per_weight == 1.375


@pytest.mark.parametrize("name", ["sherry", "sherry-contiguous-g128"])
def test_tensors_of_any_shape(name):
    array = np.random.default_rng(12).normal(0, 1, (3, 70, 2)).astype(np.float32)
    tensor = quantize(array, name, axis=1)
    found = dequantize(tensor)
    assert found.shape == array.shape
    rows = np.zeros((6, -(-70 // tensor.format.block) * tensor.format.block), np.float32)
    rows[:, :70] = np.moveaxis(array, 1, -1).reshape(6, 70)
    expected = CODEC.dequantize(tensor.format, CODEC.quantize(tensor.format, rows))[:, :70]
    assert (np.moveaxis(found, 1, -1).reshape(6, 70) == expected).all()
    assert tensor.payload.nbytes == 6 * -(-70 // tensor.format.block) * tensor.format.word.bytes


def test_values_that_are_not_finite():
    matrix = np.ones((3, 512), np.float32)
    matrix[2, 300] = -np.inf
    with pytest.raises(FormatError, match=r"^values must be finite, not -inf \(row 2, column 300\)$"):
        CODEC.quantize(STRIDED, matrix)


def test_a_scale_beyond_float16():
    matrix = np.ones((3, 512), np.float32)
    matrix[1, 256:] = 65520
    with pytest.raises(FormatError, match=r"^the scale of a block must be below 65520 \(float16\), not 65520 "
                                          r"\(row 1, columns 256 to 511\)$"):
        CODEC.quantize(STRIDED, matrix)


@pytest.mark.parametrize(("fmt", "field", "value", "rule"), [
    (STRIDED, "lanes", "diagonal", "'strided' or 'contiguous'"),
    (STRIDED, "block", 32, "a positive multiple of 64 with strided lanes"),
    (STRIDED, "block", 0, "a positive multiple of 64 with strided lanes"),
    (CONTIGUOUS, "block", 6, "a positive multiple of 4 with contiguous lanes"),
])
def test_impossible_formats(fmt, field, value, rule):
    with pytest.raises(ConfigError, match=rf"^TernaryFormat\.{field} must be {rule}, not {re.escape(repr(value))}$"):
        dataclasses.replace(fmt, **{field: value})
