"""Vectors for decoders of structured sparsity: records, legal and not, as words of a port, and what decoders do with them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.block_sim import BlockSim, unpack_lanes
from hw.families import Format
from sw.packing import field_dtype, pack_words
from tb.arith.combinational import evaluate

__all__ = ["CORNERS", "any_fields", "decoded", "increasing", "scattered", "words_of"]

CORNERS = (0x80, 0x7F, 0x01, 0xFF, 0x00)
"""int8 codes: both ends, 1, −1, 0."""


def increasing(rng: np.random.Generator, groups: int, keep: int, of: int) -> npt.NDArray[np.uint8]:
    """Return random places, strictly increasing: (groups, keep)."""
    return np.sort(np.argsort(rng.random((groups, of)), axis=1)[:, :keep], axis=1).astype(np.uint8)


def any_fields(fmt: Format, rng: np.random.Generator, records: int) -> dict[str, npt.NDArray[Any]]:
    """Return random bits for every field, legal or not: (records, count) each."""
    return {field.name: rng.integers(0, 1 << field.width, (records, field.count)).astype(field_dtype(field.width))
            for field in fmt.word.fields}


def words_of(fmt: Format, fields: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.uint64]:
    """Return records, each field (records, count), as `BlockSim` takes them: (records,) or (records, words)."""
    stored = pack_words(fmt, {name: array[None] for name, array in fields.items()}).reshape(-1, fmt.word.bytes)
    words = np.zeros((len(stored), -(-fmt.word.bits // 64) * 8), np.uint8)
    words[:, :fmt.word.bytes] = stored
    found = words.view(np.uint64)
    return found if found.shape[1] > 1 else found[:, 0]


def decoded(dut: Any, fmt: Format, fields: Mapping[str, npt.NDArray[Any]], width: int, *, name: str,
            small: bool) -> npt.NDArray[Any]:
    """Return the signed lanes, each of `width` bits, that `dut` makes of records, each field (records, count).

    In Verilator, as module `name`; `small` blocks in the simulator of the language.
    """
    if not small:
        return unpack_lanes(BlockSim(dut, name).run({"word": words_of(fmt, fields)})["o"], width, fmt.block, signed=True)
    found = []

    async def bench(ctx: Any) -> None:
        for row in words_of(fmt, fields).reshape(len(next(iter(fields.values()))), -1).tolist():
            ctx.set(dut.word.as_value(), sum(word << 64 * index for index, word in enumerate(row)))
            found.append([ctx.get(lane) for lane in dut.o])

    evaluate(dut, bench)
    return np.array(found)


def scattered(values: Sequence[int], places: Sequence[int], lanes: int) -> list[int]:
    """Return what `scatter` does with any record: slot i of n only to lanes i to lanes − n + i, one over the other ORed."""
    found = [0] * lanes
    for slot, (value, place) in enumerate(zip(values, places, strict=True)):
        if slot <= place <= lanes - len(values) + slot:
            found[place] |= value
    return found


