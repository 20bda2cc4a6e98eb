"""Blocks for the DMA benches: random legal ones, and what moving them means."""

import random

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig, ceil_div

__all__ = ["Block", "Bytes", "beats_of", "load_block", "random_block", "store_block"]

Block = dict[str, int]
Bytes = npt.NDArray[np.uint8]


def beats_of(block: Block, beat_bytes: int) -> int:
    """Return the bus beats of a block."""
    return block["rows"] * ceil_div(block["row_bytes"], beat_bytes)


def _span(block: Block, beat_bytes: int) -> int:
    """Return the scratchpad bytes from a block's first address to the end of its last written beat."""
    rows, row_bytes = block["rows"], (1 + block["unpack"]) * block["row_bytes"]
    if block["transpose"]:
        rows, row_bytes = row_bytes, rows
    return (rows - 1) * block["stride"] + ceil_div(row_bytes, beat_bytes) * beat_bytes


def random_block(rng: random.Random, config: AcceleratorConfig, dram_bytes: int, *, transpose: bool = False,
                 unpack: bool = False, most_beats: int = 40) -> Block:
    """Return a legal random block; now and then its rows overlap, in DRAM or in the scratchpad."""
    beat = config.beat_bytes
    while True:
        beats = rng.choice((1, 1, 2, 3, rng.randint(1, most_beats)))
        rows = rng.randint(1, max(1, most_beats // beats))
        if transpose:
            rows, beats = rng.randint(1, 3 * beat), rng.randint(1, 3)
        width = ceil_div(rows, beat) if transpose else beats << unpack
        block = {
            "dram_addr": beat * rng.randrange(dram_bytes // beat),
            "dram_stride": beat * rng.choice((0, beats, beats + 1, rng.randint(0, 4 * beats), 4096 // beat - 1)),
            "rows": rows,
            "row_bytes": beats * beat - rng.choice((0, 0, beat // 2, rng.randrange(beat))),
            "addr": 0,
            "stride": beat * rng.choice((width, width, rng.randint(width if transpose else 0, 3 * width))),
            "transpose": int(transpose),
            "unpack": int(unpack),
        }
        room = config.scratchpad_bytes - _span(block, beat)
        if room >= 0 and block["dram_addr"] + (rows - 1) * block["dram_stride"] + beats * beat <= dram_bytes:
            block["addr"] = beat * rng.randint(0, room // beat)
            return block


def load_block(block: Block, dram: Bytes, scratchpad: Bytes, beat_bytes: int) -> None:
    """Do what a load command does."""
    rows, row_bytes, nibbles = block["rows"], block["row_bytes"], 1 + block["unpack"]
    columns = nibbles * row_bytes
    source = np.zeros((ceil_div(rows, beat_bytes) * beat_bytes, ceil_div(columns, beat_bytes) * beat_bytes), np.uint8)
    for row in range(rows):
        first = block["dram_addr"] + row * block["dram_stride"]
        given = dram[first:first + row_bytes]
        if block["unpack"]:
            source[row, 0:columns:2], source[row, 1:columns:2] = given % 16, given // 16
        else:
            source[row, :row_bytes] = given
    written = source[:, :columns].T if block["transpose"] else source[:rows]
    for row, values in enumerate(written):
        first = block["addr"] + row * block["stride"]
        scratchpad[first:first + len(values)] = values


def store_block(block: Block, dram: Bytes, scratchpad: Bytes) -> None:
    """Do what a store command does."""
    for row in range(block["rows"]):
        source = block["addr"] + row * block["stride"]
        target = block["dram_addr"] + row * block["dram_stride"]
        dram[target:target + block["row_bytes"]] = scratchpad[source:source + block["row_bytes"]]
