# amaranth: UnusedElaboratable=no
"""Decoder of ternary quads: every code in every quad, both mappings of lanes, against the codec."""

import dataclasses

import numpy as np
import pytest

from hw.arith.decode import DECODERS
from hw.arith.decode.ternary import TernaryDecoder
from hw.families import TernaryFormat
from hw.formats import FORMATS
from sw.formats.codec import Encoded
from sw.formats.ternary import TernaryCodec
from tb.arith.decode import structure

STRIDED, CONTIGUOUS = FORMATS["sherry"], FORMATS["sherry-contiguous-g128"]


SMALL = [dataclasses.replace(CONTIGUOUS, block=4), dataclasses.replace(STRIDED, block=64)]


def decoded(fmt: TernaryFormat, fields: dict[str, np.ndarray]) -> np.ndarray:
    """Return what the block makes of packed blocks (1, blocks, ·): (blocks, fmt.block)."""
    return structure.decoded(TernaryDecoder(fmt), fmt, {name: field[0] for name, field in fields.items()}, 2,
                             name=f"ternary_{fmt.lanes}_{fmt.block}", small=fmt in SMALL)


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
