# amaranth: UnusedElaboratable=no
"""Clustered decoder: every code with random and corner scales, outliers, blocks of the codec; bit by bit what it dequantizes."""

import dataclasses

import numpy as np
import pytest

from flows.block_sim import BlockSim, pack_lanes, unpack_lanes
from hw.arith.decode.clustered import ClusteredDecoder
from hw.errors import ConfigError
from hw.formats import FORMATS
from sw.formats.clustered import ClusteredCodec
from sw.formats.codec import Encoded
from tb.arith.pipeline import run_pipeline

LATENCY = ClusteredDecoder.latency
SCALES = np.array([0x7BFF, 0x0001, 0x0000, 0x03FF, 0x0400, 0x3C00, 0x3C01, 0x3BFF, 0x2E66, 0x5BFF], np.uint16)
MIDDLES = np.concatenate((SCALES, SCALES | 0x8000))


class Decoder:
    """A compiled `ClusteredDecoder`."""

    def __init__(self, bits: int, lanes: int):
        self.fmt, self.lanes = FORMATS[f"kvquant{bits}-g128"], lanes
        self.sim = BlockSim(ClusteredDecoder(self.fmt, lanes), f"clustered_decoder_{bits}_{lanes}")

    def decode(self, table: np.ndarray, codes: np.ndarray, half_range: np.ndarray, middle: np.ndarray,
               outlier: np.ndarray | None = None, apart: np.ndarray | None = None) -> np.ndarray:
        """Return the float32 words of (vectors, lanes) codes with (vectors,) half_range and middle, the table written first."""
        outlier = np.zeros(codes.shape, np.uint16) if outlier is None else outlier
        apart = np.zeros(codes.shape, np.uint8) if apart is None else apart
        count = len(table)

        def late(column: np.ndarray) -> np.ndarray:
            return np.concatenate((np.zeros((count, *column.shape[1:]), column.dtype), column))

        out = self.sim.run({
            "enable": 1, "write__en": np.arange(count + len(codes)) < count,
            "write__index": np.arange(count + len(codes)) % count,
            "write__level": np.resize(table.view(np.uint16), count + len(codes)),
            "code": pack_lanes(late(codes), self.fmt.code_bits), "half_range": late(half_range), "middle": late(middle),
            "outlier_valid": pack_lanes(late(apart), 1), "outlier": pack_lanes(late(outlier), 16)}, latency=LATENCY)["o"]
        return unpack_lanes(out, 32, self.lanes)[count:]


@pytest.fixture(scope="module", params=[(4, 2), (3, 1)], ids=str)
def decoder(request) -> Decoder:
    return Decoder(*request.param)


def golden(decoder: Decoder, table: np.ndarray, codes: np.ndarray, half_range: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """Return what the codec makes of (vectors, lanes) codes, each vector a block of its own."""
    fmt = dataclasses.replace(decoder.fmt, block=decoder.lanes)
    assert fmt.tail == 0
    fields = {"codes": codes, "half_range": half_range[:, None], "middle": middle[:, None]}
    encoded = Encoded(fields={name: field[None] for name, field in fields.items()}, side={"table": table})
    return ClusteredCodec().dequantize(fmt, encoded).view(np.uint32).reshape(-1, decoder.lanes)


def table_of(rng: np.random.Generator, size: int, kind: str) -> np.ndarray:
    """Return levels: as fitted ones are, or any finite float16 words, subnormal and negative zero among them."""
    if kind == "fitted":
        return np.sort(rng.uniform(-1, 1, size)).astype(np.float16)
    words = rng.integers(0, 1 << 16, size, dtype=np.uint16)
    words[(words & 0x7C00 == 0x7C00) | (np.arange(size) % 4 == 1)] &= 0x83FF
    words[2] = 0x8000
    return words.view(np.float16)


@pytest.mark.parametrize("kind", ["fitted", "any"])
def test_every_code_with_every_corner_scale(decoder, kind):
    rng = np.random.default_rng(5)
    codes = 1 << decoder.fmt.code_bits
    grid = np.array(np.meshgrid(np.arange(codes), SCALES, MIDDLES)).reshape(3, -1)
    code = (grid[0, :, None].astype(np.uint8) + np.arange(decoder.lanes, dtype=np.uint8)) % codes
    half_range, middle = grid[1].astype(np.uint16), grid[2].astype(np.uint16)
    for _ in range(8):
        table = table_of(rng, codes, kind)
        got = decoder.decode(table, code, half_range, middle)
        assert got.tolist() == golden(decoder, table, code, half_range, middle).tolist()


@pytest.mark.parametrize("kind", ["fitted", "any"])
def test_random_scales(decoder, kind):
    rng = np.random.default_rng(6)
    count = 100_000
    table = table_of(rng, 1 << decoder.fmt.code_bits, kind)
    code = rng.integers(0, len(table), (count, decoder.lanes), dtype=np.uint8)
    half_range = rng.integers(0, 0x7C00, count, dtype=np.uint16)
    middle = rng.integers(0, 0x7C00, count, dtype=np.uint16) | rng.integers(0, 2, count, dtype=np.uint16) << 15
    # A quarter cancels: the middle is near to minus the scaled level.
    with np.errstate(over="ignore"):
        near = -(table[code[:, 0]].astype(np.float32) * half_range.view(np.float16)).astype(np.float16)
    chosen = (np.arange(count) % 4 == 0) & np.isfinite(near)
    middle[chosen] = near.view(np.uint16)[chosen]
    got = decoder.decode(table, code, half_range, middle)
    expected = golden(decoder, table, code, half_range, middle)
    assert got.tolist() == expected.tolist()
    assert len(np.unique(expected)) > count // 4


def test_every_outlier(decoder):
    words = np.arange(1 << 16, dtype=np.uint16)
    words = words[words & 0x7C00 != 0x7C00]
    rng = np.random.default_rng(7)
    table = table_of(rng, 1 << decoder.fmt.code_bits, "any")
    words = np.stack([np.roll(words, lane) for lane in range(decoder.lanes)], axis=1)
    code = rng.integers(0, len(table), words.shape, dtype=np.uint8)
    apart = rng.integers(0, 4, code.shape, dtype=np.uint8) > 0
    half_range, middle = np.full(len(words), 0x4200, np.uint16), np.full(len(words), 0xC000, np.uint16)
    got = decoder.decode(table, code, half_range, middle, words, apart.astype(np.uint8))
    plain = golden(decoder, table, code, half_range, middle)
    expected = np.where(apart, words.view(np.float16).astype(np.float32).view(np.uint32), plain)
    assert got.tolist() == expected.tolist()


def test_blocks_of_the_codec_with_their_outliers(decoder):
    fmt, lanes = decoder.fmt, decoder.lanes
    values = np.random.default_rng(8).standard_t(5, (40, 512)).astype(np.float32)
    codec = ClusteredCodec()
    encoded = codec.quantize(fmt, values)
    expected = codec.dequantize(fmt, encoded)
    fields = encoded.fields
    blocks = fields["codes"].reshape(-1, fmt.block)
    apart, outlier = np.zeros(blocks.shape, np.uint8), np.zeros(blocks.shape, np.uint16)
    positions = fields["outlier_position"].reshape(len(blocks), -1).astype(np.int64)
    np.put_along_axis(apart, positions, 1, axis=1)
    np.put_along_axis(outlier, positions, fields["outlier_value"].reshape(len(blocks), -1), axis=1)
    steps = fmt.block // lanes
    got = decoder.decode(encoded.side["table"], blocks.reshape(-1, lanes), fields["half_range"].ravel().repeat(steps),
                         fields["middle"].ravel().repeat(steps), outlier.reshape(-1, lanes), apart.reshape(-1, lanes))
    assert got.ravel().tolist() == expected.view(np.uint32).ravel().tolist()
    assert apart.sum() == 2 * len(blocks)


def test_enable_holds_the_pipeline():
    rng = np.random.default_rng(9)
    words = [rng.integers(0, 0x7C00, 200).tolist() for _ in range(3)]
    got = run_pipeline(ClusteredDecoder(FORMATS["kvquant2-g128"]), {
        "outlier": words[0], "outlier_valid": [1] * 200, "half_range": words[1], "middle": words[2]}, stall=0.4, seed=9)
    assert got == np.array(words[0], np.uint16).view(np.float16).astype(np.float32).view(np.uint32).tolist()


def test_no_lanes():
    with pytest.raises(ConfigError, match=r"^ClusteredDecoder\.lanes must be at least 1, not 0$"):
        ClusteredDecoder(FORMATS["kvquant4-g128"], 0)
