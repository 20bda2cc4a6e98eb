"""Decoder of sparse patterns: random records of every pattern against the codec, every place of a 2:4 group, illegal records."""

import itertools

import numpy as np
import pytest

from flows.block_sim import unpack_lanes
from hw.arith.decode import DECODERS
from hw.arith.decode.sparse import SparseDecoder
from hw.families import SparseFormat
from hw.formats import FORMATS
from sw.formats.codec import Encoded
from sw.formats.sparse import SparseCodec, lanes
from tb.arith.combinational import evaluate
from tb.arith.decode.bank import Bank
from tb.arith.decode.structure import CORNERS, any_fields, increasing, scattered, words_of
from tb.formats.structure import formats_of, groups_of, samples

PATTERNS = formats_of(SparseFormat, "1:1", "1:16", "3:5", "hss-2:3-3:7", "hss-1:9-1:5")
RANDOM = 2000


def fields_of(fmt: SparseFormat, rng: np.random.Generator, records: int) -> dict[str, np.ndarray]:
    """Return random legal records; some of them of corners only, some without a value."""
    kept = fmt.outer_keep * fmt.inner_keep
    values = rng.integers(0, 256, (records, kept)).astype(np.uint8)
    values[::3] = rng.choice(np.array(CORNERS, np.uint8), values[::3].shape)
    values[:4] = np.array([0, 0x80, 0x7F, 0xFF], np.uint8)[:, None]
    fields = {"values": values,
              "inner": increasing(rng, records * fmt.outer_keep, fmt.inner_keep, fmt.inner_of).reshape(records, kept)}
    if fmt.outer_bits:
        fields["outer"] = increasing(rng, records, fmt.outer_keep, fmt.outer_of)
    return fields


def decoded(fmt: SparseFormat, outputs: dict[str, np.ndarray]) -> np.ndarray:
    """Return lanes (records, block) of the output port."""
    return unpack_lanes(outputs["o"], 8, fmt.block, signed=True)


@pytest.fixture(scope="module")
def bank() -> Bank:
    return Bank({fmt.name: DECODERS[SparseFormat](fmt) for fmt in PATTERNS}, "decode_sparse")


def test_records_of_every_pattern(bank):
    rng = np.random.default_rng(1)
    fields = {}
    for fmt in PATTERNS:
        encoded = SparseCodec().quantize(fmt, samples(8 * fmt.block)).fields
        fields[fmt.name] = {name: np.concatenate([array, encoded[name].reshape(-1, encoded[name].shape[2])])
                            for name, array in fields_of(fmt, rng, RANDOM).items()}
    outputs = bank.run({fmt.name: {"word": words_of(fmt, fields[fmt.name])} for fmt in PATTERNS})
    for fmt in PATTERNS:
        want = lanes(fmt, Encoded(fields={name: array[:, None] for name, array in fields[fmt.name].items()}))
        got = decoded(fmt, outputs[fmt.name])
        assert got.shape == (RANDOM + 72, fmt.block)
        assert (got == want).all(), fmt.name
        assert (got[:RANDOM] != 0).any(axis=0).all()        # every lane has had a value


def test_illegal_records_do_as_the_page_says(bank):
    rng = np.random.default_rng(2)
    fields = {fmt.name: any_fields(fmt, rng, 500) for fmt in PATTERNS}
    outputs = bank.run({fmt.name: {"word": words_of(fmt, fields[fmt.name])} for fmt in PATTERNS})
    for fmt in PATTERNS:
        got = decoded(fmt, outputs[fmt.name]).view(np.uint64) & np.uint64(0xFF)
        values, inner, outer = (fields[fmt.name].get(name) for name in ("values", "inner", "outer"))
        for row, record in enumerate(got.tolist()):
            kept = [sum(value << 8 * place for place, value in enumerate(scattered(*slots, fmt.inner_of))) for slots in zip(
                groups_of(values[row].tolist(), fmt.inner_keep), groups_of(inner[row].tolist(), fmt.inner_keep), strict=True)]
            blocks = kept if outer is None else scattered(kept, outer[row].tolist(), fmt.outer_of)
            assert record == [block >> 8 * place & 0xFF for block in blocks for place in range(fmt.inner_of)], fmt.name


def test_every_place_of_a_group_of_four(bank):
    fmt = FORMATS["2:4"]
    pairs = list(itertools.combinations(range(4), 2))
    samples = [(*pair, *values) for pair in pairs for values in itertools.product((*CORNERS, 0x55, 0xAA), repeat=2)]
    records = {"values": np.zeros((4 * len(samples), 8), np.uint8), "inner": np.tile(np.uint8([0, 1]), (4 * len(samples), 4))}
    want = np.zeros((4 * len(samples), 16), np.int64)
    for row, (group, (first, second, low, high)) in enumerate(itertools.product(range(4), samples)):
        records["inner"][row, 2 * group:2 * group + 2] = first, second
        records["values"][row, 2 * group:2 * group + 2] = low, high
        want[row, 4 * group + first], want[row, 4 * group + second] = np.array([low, high], np.uint8).view(np.int8)
    idle = {other.name: {"word": words_of(other, any_fields(other, np.random.default_rng(0), 1))} for other in PATTERNS}
    got = decoded(fmt, bank.run(idle | {fmt.name: {"word": words_of(fmt, records)}})[fmt.name])
    assert len(got) == 4 * 6 * 49
    assert (got == want).all()


@pytest.mark.parametrize("name", ["2:4", "1:16", "hss-4:5-2:3"])
def test_in_the_simulator_of_the_language(name):
    fmt = next(fmt for fmt in PATTERNS if fmt.name == name)
    fields = fields_of(fmt, np.random.default_rng(3), 20)
    dut, words, got = SparseDecoder(fmt), words_of(fmt, fields).reshape(20, -1), []

    async def bench(ctx):
        for row in words.tolist():
            ctx.set(dut.word.as_value(), sum(word << 64 * index for index, word in enumerate(row)))
            got.append([ctx.get(lane) for lane in dut.o])

    evaluate(dut, bench)
    assert got == lanes(fmt, Encoded(fields={field: array[:, None] for field, array in fields.items()})).tolist()
