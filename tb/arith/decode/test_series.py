"""Decoder of series: random records of every series against the codec, term by term and merged; illegal records."""

from functools import reduce
from operator import or_

import numpy as np
import pytest

from flows.block_sim import unpack_lanes
from hw.arith.decode import DECODERS
from hw.arith.decode.series import SeriesDecoder
from hw.families import SeriesFormat
from sw.formats.codec import Encoded
from sw.formats.series import SeriesCodec, decompose, term_lanes
from tb.arith.combinational import evaluate
from tb.arith.decode.bank import Bank
from tb.arith.decode.structure import CORNERS, any_fields, increasing, scattered, words_of
from tb.formats.structure import formats_of, groups_of, samples, wide

SERIES = formats_of(SeriesFormat, "tasd-3:5", "tasd-1:2+1:4+2:16", "tasd-4:4")
RANDOM = 1000


def fields_of(fmt: SeriesFormat, rng: np.random.Generator, records: int) -> dict[str, np.ndarray]:
    """Return random records whose places are legal; some of them of corners only, some without a value."""
    fields = {}
    for index, (keep, of) in enumerate(fmt.terms):
        count = fmt.block // of * keep
        values = rng.integers(0, 256, (records, count)).astype(np.uint8)
        values[::3] = rng.choice(np.array(CORNERS, np.uint8), values[::3].shape)
        values[:4] = np.array([0, 0x80, 0x7F, 0xFF], np.uint8)[:, None]
        fields[f"values{index}"] = values
        fields[f"inner{index}"] = increasing(rng, records * fmt.block // of, keep, of).reshape(records, count)
    return fields


def in_blocks(fields: dict[str, np.ndarray]) -> Encoded:
    """Return records as one row each."""
    return Encoded(fields={name: array[:, None] for name, array in fields.items()})


def decoded(fmt: SeriesFormat, outputs: dict[str, np.ndarray], *, merged: bool = False) -> np.ndarray:
    """Return lanes (terms, records, block) of the output port, or (records, block)."""
    if merged:
        return unpack_lanes(outputs["o"], 8, fmt.block, signed=True)
    lanes = unpack_lanes(outputs["terms"], 8, fmt.block * len(fmt.terms), signed=True)
    return lanes.reshape(len(lanes), len(fmt.terms), fmt.block).swapaxes(0, 1)


@pytest.fixture(scope="module")
def bank() -> Bank:
    return Bank({fmt.name: DECODERS[SeriesFormat](fmt) for fmt in SERIES}
                | {f"{fmt.name} merged": SeriesDecoder(fmt, merged=True) for fmt in SERIES}, "decode_series")


def run(bank: Bank, fields: dict[str, dict[str, np.ndarray]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the terms and the merged lanes that the decoders make of each series' records."""
    words = {fmt.name: {"word": words_of(fmt, fields[fmt.name])} for fmt in SERIES}
    outputs = bank.run(words | {f"{name} merged": ports for name, ports in words.items()})
    return {fmt.name: (decoded(fmt, outputs[fmt.name]), decoded(fmt, outputs[f"{fmt.name} merged"], merged=True))
            for fmt in SERIES}


def test_records_of_every_series(bank):
    rng = np.random.default_rng(1)
    fields = {fmt.name: fields_of(fmt, rng, RANDOM) for fmt in SERIES}
    for fmt, (terms, merged) in zip(SERIES, run(bank, fields).values(), strict=True):
        want = term_lanes(fmt, in_blocks(fields[fmt.name]))
        assert terms.shape == (len(fmt.terms), RANDOM, fmt.block)
        assert (terms == want).all(), fmt.name
        assert (terms != 0).any(axis=1).all()               # every lane of every term has had a value
        assert (merged == np.bitwise_or.reduce(want, axis=0)).all()


def test_what_the_codec_writes_adds_up(bank):
    encoded = {fmt.name: SeriesCodec().quantize(fmt, np.concatenate([samples(8 * fmt.block), wide(8, 8 * fmt.block)]))
               for fmt in SERIES}
    fields = {name: {field: array.reshape(-1, array.shape[2]) for field, array in record.fields.items()}
              for name, record in encoded.items()}
    for fmt, (terms, merged) in zip(SERIES, run(bank, fields).values(), strict=True):
        scale = np.repeat(encoded[fmt.name].side["row_scale"], 8)[:, None]
        assert (terms.sum(axis=0) == merged).all()
        values = SeriesCodec().dequantize(fmt, encoded[fmt.name]).reshape(merged.shape)
        assert (merged.astype(np.float32) * scale == values).all()
        again, residual = decompose(merged.astype(np.int8), fmt.terms)
        assert not residual.any()
        assert (np.array(again) == terms).all()             # what a series holds is its own best series


def test_illegal_records_do_as_the_page_says(bank):
    rng = np.random.default_rng(2)
    fields = {fmt.name: any_fields(fmt, rng, 300) for fmt in SERIES}
    for fmt, (terms, merged) in zip(SERIES, run(bank, fields).values(), strict=True):
        for row in range(300):
            want = []
            for index, (keep, of) in enumerate(fmt.terms):
                slots = zip(*(groups_of(fields[fmt.name][f"{part}{index}"][row].tolist(), keep) for part in ("values", "inner")),
                            strict=True)
                want.append([lane for values, places in slots for lane in scattered(values, places, of)])
            assert (terms[:, row] & 0xFF).tolist() == want
            assert (merged[row] & 0xFF).tolist() == [reduce(or_, lanes) for lanes in zip(*want, strict=True)]


@pytest.mark.parametrize("name", ["tasd-1:8", "tasd-2:8+1:8"])
def test_in_the_simulator_of_the_language(name):
    fmt = next(fmt for fmt in SERIES if fmt.name == name)
    fields = fields_of(fmt, np.random.default_rng(3), 20)
    dut, words, got = SeriesDecoder(fmt), words_of(fmt, fields).reshape(20, -1), []

    async def bench(ctx):
        for row in words.tolist():
            ctx.set(dut.word.as_value(), sum(word << 64 * index for index, word in enumerate(row)))
            got.append([[ctx.get(lane) for lane in term] for term in dut.terms])

    evaluate(dut, bench)
    assert got == term_lanes(fmt, in_blocks(fields)).swapaxes(0, 1).tolist()
