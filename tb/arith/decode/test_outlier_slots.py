# amaranth: UnusedElaboratable=no
"""Slots of outliers: every place of small blocks, and the packed words of the codec from end to end with the decoder."""

import itertools
from typing import Any

import numpy as np
import pytest
from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from flows.block_sim import BlockSim, unpack_lanes
from hw.arith.decode.clustered import ClusteredDecoder
from hw.arith.decode.outlier_slots import OutlierSlots
from hw.arith.decode.packed import packed_layout
from hw.errors import ConfigError
from hw.families import ClusteredFormat
from hw.formats import format_named
from sw.formats import dequantize, quantize
from tb.arith.combinational import evaluate


def clustered(block: int, fraction: float = 0.01) -> ClusteredFormat:
    return ClusteredFormat(family="x", block=block, code_bits=2, outlier_fraction=fraction, doc="", source="")


@pytest.mark.parametrize(("block", "fraction", "lanes"), [(8, 0.01, 1), (8, 0.01, 4), (11, 0.01, 2), (7, 0.5, 4), (3, 0.01, 2)])
def test_every_place(block, fraction, lanes):
    fmt = clustered(block, fraction)
    dut = OutlierSlots(fmt, lanes)
    slots = 2 * fmt.tail

    async def bench(ctx):
        for places in itertools.combinations(range(block), slots):
            ctx.set(dut.position, list(places))
            ctx.set(Value.cast(dut.value), sum(0x8001 + slot << 16 * slot for slot in range(slots)))
            for step in range(-(-block // lanes)):
                ctx.set(dut.step, step)
                here = {place - step * lanes: 0x8001 + slot for slot, place in enumerate(places) if place // lanes == step}
                assert ctx.get(dut.outlier_valid) == sum(1 << lane for lane in here)
                assert ctx.get(Value.cast(dut.outlier)) == sum(word << 16 * lane for lane, word in here.items())

    evaluate(dut, bench)


class PackedDecoder(wiring.Component):
    """A whole block's packed word, and `ClusteredDecoder` on `lanes` of its codes at a time."""

    def __init__(self, fmt: ClusteredFormat, lanes: int):
        self._fmt, self._lanes = fmt, lanes
        self._slots, self._decoder = OutlierSlots(fmt, lanes), ClusteredDecoder(fmt, lanes)
        members = {name: self._decoder.signature.members[name] for name in ("write", "o")}
        super().__init__({**members, "word": In(packed_layout(fmt.word)), "step": In(range(fmt.block // lanes))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.slots, m.submodules.decoder = slots, decoder = self._slots, self._decoder
        wiring.connect(m, wiring.flipped(self.write), decoder.write)
        m.d.comb += [
            slots.step.eq(self.step), slots.position.eq(self.word.outlier_position),
            Value.cast(slots.value).eq(Value.cast(self.word.outlier_value)),
            Value.cast(decoder.code).eq(Value.cast(self.word.codes).word_select(self.step, self._lanes * self._fmt.code_bits)),
            Value.cast(decoder.half_range).eq(self.word.half_range), Value.cast(decoder.middle).eq(self.word.middle),
            decoder.outlier_valid.eq(slots.outlier_valid), decoder.outlier.eq(slots.outlier),
            decoder.enable.eq(1), self.o.eq(decoder.o),
        ]
        return m


def test_packed_words_of_the_codec():
    fmt, lanes = format_named("kvquant3-g64"), 2
    values = np.random.default_rng(1).standard_t(3, (30, 256)).astype(np.float32)
    values[3] = 0
    values[4, :64] = -7.25
    tensor = quantize(values, fmt)
    table = tensor.side["table"].view(np.uint16)
    blocks = tensor.payload.reshape(-1, fmt.word.bytes)
    words = np.pad(blocks, ((0, 0), (0, -fmt.word.bytes % 8))).view("<u8").astype(np.uint64)
    steps = fmt.block // lanes
    vectors = len(table) + len(words) * steps
    word_column = np.concatenate((np.zeros((len(table), words.shape[1]), np.uint64), words.repeat(steps, axis=0)))
    out = BlockSim(PackedDecoder(fmt, lanes), "packed_clustered_decoder").run({
        "write__en": np.arange(vectors) < len(table), "write__index": np.arange(vectors) % len(table),
        "write__level": np.resize(table, vectors), "word": word_column,
        "step": (np.arange(vectors) - len(table)) % steps}, latency=ClusteredDecoder.latency)["o"]
    got = unpack_lanes(out, 32, lanes)[len(table):]
    assert got.ravel().tolist() == dequantize(tensor).view(np.uint32).ravel().tolist()


def test_bad_parameters():
    with pytest.raises(ConfigError, match=r"^OutlierSlots\.fmt must have outliers, not none in blocks of 16$"):
        OutlierSlots(clustered(16, 0.0), 4)
    for lanes in (0, 3, 16):
        with pytest.raises(ConfigError, match=rf"^OutlierSlots\.lanes must be a power of two below 16, not {lanes}$"):
            OutlierSlots(clustered(16), lanes)
