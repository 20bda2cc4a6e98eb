# amaranth: UnusedElaboratable=no
"""Decoder of bit columns: every redundant count, constant and pattern of a weight, against the codec."""

import dataclasses

import numpy as np
import pytest

from hw.arith.decode import DECODERS
from hw.arith.decode.columns import ColumnDecoder
from hw.families import ColumnFormat
from hw.formats import FORMATS
from sw.formats.columns import decode_groups, encode_groups
from tb.arith.decode import structure

AVERAGE, SHIFT = FORMATS["bbs-average-g32"], FORMATS["bbs-shift-g32"]
VERILATED = [AVERAGE, SHIFT, dataclasses.replace(SHIFT, pruned=1, constant_bits=5, block=5)]
SMALL = [dataclasses.replace(AVERAGE, pruned=6, block=8), dataclasses.replace(SHIFT, pruned=3, block=1),
         dataclasses.replace(SHIFT, pruned=6, constant_bits=1, block=3)]


def name_of(fmt: ColumnFormat) -> str:
    """Return a name with all that the decoder depends on."""
    return f"{fmt.method}_{fmt.pruned}_{fmt.constant_bits}_{fmt.block}"


def decoded(fmt: ColumnFormat, fields: dict[str, np.ndarray]) -> np.ndarray:
    """Return what the block makes of packed groups (1, groups, ·): (groups, block)."""
    dut = ColumnDecoder(fmt)
    width = dut.o.as_value().shape().width // fmt.block
    return structure.decoded(dut, fmt, {name: field[0] for name, field in fields.items()}, width,
                             name=f"columns_{name_of(fmt)}", small=fmt in SMALL)


def every_word(fmt: ColumnFormat, seed: int) -> dict[str, np.ndarray]:
    """Return the fields of groups with every legal pair of redundant count and constant, for each: every pattern of every weight.

    Weight i of a group has pattern (start + step·i) mod patterns: with all starts, each weight has each pattern, beside
    neighbours that change from group to group.
    """
    rng = np.random.default_rng(seed)
    patterns = 1 << (8 - fmt.pruned)
    stored, redundant, constants = [], [], []
    for count in range(min(3, fmt.pruned) + 1):
        limit = 1 << (fmt.pruned - count if fmt.method == "average" else fmt.constant_bits)
        for constant in range(limit):
            steps = rng.integers(0, patterns, fmt.block)
            stored.append((np.arange(patterns)[:, None] + steps) % patterns)
            redundant += [count] * patterns
            constants += [constant] * patterns
    weights = np.concatenate(stored)
    columns = [np.bitwise_or.reduce((weights >> bit & 1) << np.arange(fmt.block), axis=1)
               for bit in reversed(range(8 - fmt.pruned))]
    dtype = np.uint8 if fmt.block <= 8 else np.uint16 if fmt.block <= 16 else np.uint32
    return {"columns": np.stack(columns, axis=-1).astype(dtype)[None], "redundant": np.array(redundant, np.uint8)[None, :, None],
            "constant": np.array(constants, np.uint8)[None, :, None]}


@pytest.mark.parametrize("fmt", [*VERILATED, *SMALL], ids=name_of)
def test_every_word(fmt):
    fields = every_word(fmt, seed=fmt.pruned)
    expected = decode_groups(fmt, fields)[0]
    assert (decoded(fmt, fields) == expected).all()
    width = max(int(limit).bit_length() for limit in (expected.max(), ~expected.min())) + 1
    assert ColumnDecoder(fmt).o.as_value().shape().width == width * fmt.block       # no bit too few, none too many


@pytest.mark.parametrize("fmt", [AVERAGE, SHIFT], ids=lambda fmt: fmt.name)
def test_quantized_groups(fmt):
    rng = np.random.default_rng(11)
    weights = np.clip(np.rint(rng.normal(0, rng.choice([4, 12, 30, 60], (1, 5000, 1)), (1, 5000, 32))), -127, 127)
    fields = encode_groups(fmt, weights.astype(np.int8))
    assert set(fields["redundant"].ravel()) == set(range(min(3, fmt.pruned) + 1))
    assert (decoded(fmt, fields) == decode_groups(fmt, fields)[0]).all()


def test_the_registry_knows_it():
    assert DECODERS[ColumnFormat] is ColumnDecoder
