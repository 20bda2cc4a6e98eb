# amaranth: UnusedElaboratable=no
"""Decoder of SDQ: every outlier, mask and code of a group against the codec, random blocks of every pattern, illegal blocks."""

import itertools

import numpy as np
import pytest

from flows.block_sim import unpack_lanes
from hw.arith.decode import DECODERS
from hw.arith.decode.outlier import OutlierDecoder
from hw.elements import ELEMENTS
from hw.families import OutlierFormat
from hw.formats import FORMATS
from sw.formats.codec import Encoded
from sw.formats.outlier import OutlierCodec, outlier_lanes
from sw.packing import field_dtype
from tb.arith.combinational import evaluate
from tb.arith.decode.bank import Bank
from tb.arith.decode.structure import CORNERS, any_fields, scattered, words_of
from tb.formats.structure import formats_of, groups_of, samples

PATTERNS = formats_of(OutlierFormat, "sdq-3:4-1:4int8-2:4fp4-g4")
HALVES = [int(2 * value) for value in ELEMENTS["float4_e2m1fn"].values]
RANDOM = 1000


def legal(fmt: OutlierFormat, rng: np.random.Generator, blocks: int) -> dict[str, np.ndarray]:
    """Return random legal blocks; some of corners only, some without a value."""
    groups = fmt.block // fmt.group
    order = np.argsort(rng.random((blocks, groups, fmt.group)), axis=2)
    places = np.sort(order[..., :fmt.outliers], axis=2)
    inliers = order[..., fmt.outliers:fmt.outliers + fmt.inliers]
    fields = any_fields(fmt, rng, blocks)
    fields["outlier_inner"] = places.reshape(blocks, -1).astype(np.uint8)
    fields["inlier_mask"] = (1 << inliers).sum(axis=2).astype(field_dtype(fmt.group))
    fields["outliers"][::3] = rng.choice(np.array(CORNERS, np.uint8), fields["outliers"][::3].shape)
    fields["outliers"][:2], fields["inliers"][:2] = 0, 0
    fields["inliers"][2:4] = np.array([7, 15], np.uint8)[:, None]       # ±6
    return fields


def lanes_of(fmt: OutlierFormat, fields: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return what the codec makes of blocks: outliers, and inliers in halves, each (blocks, block)."""
    outliers, codes = outlier_lanes(fmt, Encoded(fields={name: array[:, None] for name, array in fields.items()}))
    return outliers, np.array(HALVES)[codes]


def decoded(fmt: OutlierFormat, outputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the same of the output ports."""
    return (unpack_lanes(outputs["outliers"], 8, fmt.block, signed=True),
            unpack_lanes(outputs["inliers"], 5, fmt.block, signed=True))


@pytest.fixture(scope="module")
def bank() -> Bank:
    return Bank({fmt.name: DECODERS[OutlierFormat](fmt) for fmt in PATTERNS}, "decode_outlier")


def run(bank: Bank, fields: dict[str, dict[str, np.ndarray]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the lanes that the decoders make of each pattern's blocks; patterns without have one of zeros."""
    idle = {fmt.name: {field.name: np.zeros((1, field.count), field_dtype(field.width)) for field in fmt.word.fields}
            for fmt in PATTERNS}
    outputs = bank.run({fmt.name: {"word": words_of(fmt, (idle | fields)[fmt.name])} for fmt in PATTERNS})
    return {fmt.name: decoded(fmt, outputs[fmt.name]) for fmt in PATTERNS}


def test_blocks_of_every_pattern(bank):
    rng = np.random.default_rng(1)
    fields = {}
    for fmt in PATTERNS:
        encoded = OutlierCodec().quantize(fmt, samples(8 * fmt.block)).fields
        fields[fmt.name] = {name: np.concatenate([array, encoded[name].reshape(-1, encoded[name].shape[2])])
                            for name, array in legal(fmt, rng, RANDOM).items()}
    for fmt, got in zip(PATTERNS, run(bank, fields).values(), strict=True):
        for lanes, want in zip(got, lanes_of(fmt, fields[fmt.name]), strict=True):
            assert lanes.shape == (RANDOM + 72, fmt.block)
            assert (lanes == want).all(), fmt.name
            assert (lanes != 0).any(axis=0).all()           # every lane has had a value


def test_every_group_of_one_outlier_and_six_inliers(bank):
    fmt = FORMATS["sdq-7:8-1:8int8-6:8fp4-g64"]
    patterns = list(itertools.permutations(range(8), 2))    # place of the outlier, place of what is zero
    assert len(patterns) == 56
    assert len({0xFF & ~(1 << a | 1 << b) for a, b in patterns}) == 28
    rows = list(itertools.product(range(8), patterns, range(16)))
    fields = {field.name: np.zeros((len(rows), field.count), field_dtype(field.width)) for field in fmt.word.fields}
    fields["inlier_mask"][:] = 0x7E                         # of groups that are not looked at
    want = np.zeros((2, len(rows), 64), np.int64)
    for row, (group, (outlier, zero), code) in enumerate(rows):
        values = [(code + step) % 16 for step in (0, 3, 5, 8, 11, 14)]
        inliers = [place for place in range(8) if place not in (outlier, zero)]
        fields["outliers"][row, group] = high = CORNERS[row % len(CORNERS)]
        fields["outlier_inner"][row, group] = outlier
        fields["inliers"][row, 6 * group:6 * group + 6] = values
        fields["inlier_mask"][row, group] = sum(1 << place for place in inliers)
        want[0, row, 8 * group + outlier] = high - 256 * (high >> 7)
        for place, value in zip(inliers, values, strict=True):
            want[1, row, 8 * group + place] = HALVES[value]
    got = run(bank, {fmt.name: fields})[fmt.name]
    assert (np.array(got) == want).all()


def test_illegal_blocks_do_as_the_page_says(bank):
    rng = np.random.default_rng(2)
    fields = {fmt.name: any_fields(fmt, rng, 300) for fmt in PATTERNS}
    for fmt, (outliers, inliers) in zip(PATTERNS, run(bank, fields).values(), strict=True):
        for row in range(300):
            parts = [fields[fmt.name][name][row].tolist() for name in ("outliers", "outlier_inner", "inliers", "inlier_mask")]
            sizes = (fmt.outliers, fmt.outliers, fmt.inliers, 1)
            high, low = [], []
            for values, places, codes, (mask,) in zip(*map(groups_of, parts, sizes), strict=True):
                high += scattered(values, places, fmt.group)
                for place in range(fmt.group):
                    rank = (mask & ((1 << place) - 1)).bit_count()
                    wired = range(max(0, place - (fmt.group - fmt.inliers)), min(place, fmt.inliers - 1) + 1)
                    low.append(HALVES[codes[rank]] if mask >> place & 1 and rank in wired else 0)
            assert (outliers[row] & 0xFF).tolist() == high
            assert inliers[row].tolist() == low


def test_widths_of_lanes():
    decoder = DECODERS[OutlierFormat](FORMATS["sdq-7:8-1:8int8-6:8fp4-g64"])
    assert decoder.inlier_lsb == -1
    assert decoder.inliers.shape().elem_shape.width == 5


def test_in_the_simulator_of_the_language():
    fmt = next(fmt for fmt in PATTERNS if fmt.block == 4)
    fields = legal(fmt, np.random.default_rng(3), 60)
    dut, words, got = OutlierDecoder(fmt), words_of(fmt, fields).reshape(60, -1), []

    async def bench(ctx):
        for row in words.tolist():
            ctx.set(dut.word.as_value(), sum(word << 64 * index for index, word in enumerate(row)))
            got.append([[ctx.get(lane) for lane in lanes] for lanes in (dut.outliers, dut.inliers)])

    evaluate(dut, bench)
    assert got == np.array(lanes_of(fmt, fields)).swapaxes(0, 1).tolist()
