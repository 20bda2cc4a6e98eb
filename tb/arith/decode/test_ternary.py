# amaranth: UnusedElaboratable=no
"""Decoder of ternary quads: every code in every quad, both mappings of lanes, against the codec."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from flows.block_sim import BlockSim, unpack_lanes
from hw.arith.decode import DECODERS
from hw.arith.decode.ternary import TernaryDecoder
from hw.families import TernaryFormat
from hw.formats import FORMATS
from sw.formats.codec import Encoded
from sw.formats.ternary import TernaryCodec
from sw.packing import pack_words
from tb.arith.combinational import evaluate

STRIDED, CONTIGUOUS = FORMATS["sherry"], FORMATS["sherry-contiguous-g128"]


SMALL = [dataclasses.replace(CONTIGUOUS, block=4), dataclasses.replace(STRIDED, block=64)]


def decoded(fmt: TernaryFormat, fields: dict[str, np.ndarray]) -> np.ndarray:
    """Return what the block makes of packed blocks (1, blocks, ·): (blocks, fmt.block)."""
    dut = TernaryDecoder(fmt)
    stored = pack_words(fmt, fields).reshape(-1, fmt.word.bytes)
    if fmt in SMALL:
        found = []

        async def bench(ctx: Any) -> None:
            for row in stored:
                ctx.set(dut.word.as_value(), int.from_bytes(row.tobytes(), "little"))
                found.append([ctx.get(lane) for lane in dut.o])

        evaluate(dut, bench)
        return np.array(found)
    words = np.zeros((len(stored), -(-fmt.word.bits // 64) * 8), np.uint8)
    words[:, :fmt.word.bytes] = stored
    found = BlockSim(dut, f"ternary_{fmt.lanes}_{fmt.block}").run({"word": words.view(np.uint64)})["o"]
    return unpack_lanes(found, 2, fmt.block, signed=True)


@pytest.mark.parametrize("fmt", [STRIDED, CONTIGUOUS, *SMALL], ids=lambda fmt: f"{fmt.lanes}-{fmt.block}")
def test_every_code_in_every_quad(fmt):
    rng = np.random.default_rng(fmt.block)
    quads = fmt.block // 4
    codes = np.concatenate([(np.arange(32)[:, None] + rng.integers(0, 32, quads)) % 32 for _ in range(20)])
    one = np.full((1, len(codes), 1), np.float16(1).view(np.uint16))
    fields = {"slots": (codes & 15).astype(np.uint8)[None], "signs": (codes >> 4).astype(np.uint8)[None], "scale": one}
    expected = TernaryCodec().dequantize(fmt, Encoded(fields=fields)).reshape(-1, fmt.block)
    fields["scale"] = rng.integers(0, 1 << 16, one.shape, np.uint16)        # the lanes do not depend on it
    found = decoded(fmt, fields)
    assert (found == expected).all()
    assert set(found.ravel().tolist()) == {-1, 0, 1}


def test_the_registry_knows_it():
    assert DECODERS[TernaryFormat] is TernaryDecoder
