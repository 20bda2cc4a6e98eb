"""Blocks for the DMA benches: random legal ones, and what moving them means."""

import random
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig

__all__ = ["Bytes", "descriptor", "load_block", "random_block", "span", "store_block"]

Bytes = npt.NDArray[np.uint8]


def span(block: dict[str, int], beat_bytes: int) -> int:
    """Return how many scratchpad bytes a block covers, from its first address to its last written beat."""
    beats = -(-block["row_bytes"] // beat_bytes)
    if block.get("transpose"):
        return (block["row_bytes"] - 1) * block["stride"] + -(-block["rows"] // beat_bytes) * beat_bytes
    return (block["rows"] - 1) * block["stride"] + beats * beat_bytes


def random_block(rng: random.Random, config: AcceleratorConfig, dram_bytes: int, *, transpose: bool = False,
                 most_beats: int = 40) -> dict[str, int]:
    """Return a legal random block; rows overlap in the scratchpad now and then."""
    beat = config.beat_bytes
    while True:
        beats = rng.choice((1, 1, 2, 3, rng.randint(1, most_beats)))
        rows = rng.randint(1, max(1, most_beats // beats))
        if transpose:
            rows, beats = rng.randint(1, 3 * beat), rng.randint(1, 3)
        row_bytes = beats * beat - rng.choice((0, 0, rng.randrange(beat)))
        dram_stride = beat * rng.choice((0, beats, beats + 1, rng.randint(0, 4 * beats), 4096 // beat - 1))
        dram_addr = beat * rng.randrange(dram_bytes // beat)
        if transpose:
            stride = beat * rng.choice((-(-rows // beat), rng.randint(-(-rows // beat), 8)))
        else:
            stride = beat * rng.choice((beats, beats, rng.randint(0, 3 * beats)))
        block = {"dram_addr": dram_addr, "dram_stride": dram_stride, "rows": rows, "row_bytes": row_bytes, "stride": stride,
                 "transpose": int(transpose), "addr": 0}
        room = config.scratchpad_bytes - span(block, beat)
        if room >= 0 and dram_addr + (rows - 1) * dram_stride + beats * beat <= dram_bytes:
            block["addr"] = beat * rng.randint(0, room // beat)
            return block


def descriptor(block: dict[str, int], **changes: Any) -> dict[str, int]:
    """Return `block` with some fields changed."""
    return {**block, **changes}


def load_block(block: dict[str, int], dram: Bytes, scratchpad: Bytes, beat_bytes: int) -> None:
    """Do what a load command does."""
    beats = -(-block["row_bytes"] // beat_bytes)
    source = np.zeros((-(-block["rows"] // beat_bytes) * beat_bytes, beats * beat_bytes), np.uint8)
    for row in range(block["rows"]):
        first = block["dram_addr"] + row * block["dram_stride"]
        source[row, :block["row_bytes"]] = dram[first:first + block["row_bytes"]]
        if not block["transpose"]:
            first = block["addr"] + row * block["stride"]
            scratchpad[first:first + beats * beat_bytes] = source[row]
    if block["transpose"]:
        for column in range(block["row_bytes"]):
            first = block["addr"] + column * block["stride"]
            scratchpad[first:first + len(source)] = source[:, column]


def store_block(block: dict[str, int], dram: Bytes, scratchpad: Bytes) -> None:
    """Do what a store command does."""
    for row in range(block["rows"]):
        source = block["addr"] + row * block["stride"]
        target = block["dram_addr"] + row * block["dram_stride"]
        dram[target:target + block["row_bytes"]] = scratchpad[source:source + block["row_bytes"]]
