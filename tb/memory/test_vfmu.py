# amaranth: UnusedElaboratable=no
"""Variable fetch: every slice of streams that take turns; no bubble in any mode; only refused reads cost cycles."""

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from hw.config import AcceleratorConfig
from hw.memory.vfmu import VariableFetch
from tb.sim import simulate

CONFIG = AcceleratorConfig(rows=8, columns=2, vector_lanes=2, bus_width=512, scratchpad_bytes=16384, accumulator_rows=64)
LINE, STREAMS, GROUPS, PIECE = 64, 16, 2, 32
MODES = [(h1, h0) for h1 in range(4, 9) for h0 in range(2, 5)]


@dataclass
class Slice:
    """A request: the stream's first slice or not, stream, first byte, valid bytes, bytes from one piece to the next."""

    fresh: bool
    stream: int
    addr: int
    count: int
    spacing: int

    def expected(self, memory: np.ndarray) -> list[list[int]]:
        """Return the pieces, of each what its spacing covers."""
        valid = np.zeros(2 * PIECE * GROUPS, np.uint8)
        valid[:self.count] = memory[self.addr:self.addr + self.count]
        return [valid[group * self.spacing:(group + 1) * self.spacing].tolist() for group in range(GROUPS)]


def walk(lengths: list[int], tokens: int, base: int, stride: int, k: int) -> list[Slice]:
    """Return the slices of a tile walk: for every step the next slice of each token's row, of `k` bytes."""
    slices, place = [], 0
    for step, spacing in enumerate(lengths):
        count = min(GROUPS * spacing, k - place)
        slices += [Slice(step == 0, token, base + token * stride + place, count, spacing) for token in range(tokens)]
        place += count
    assert place == k
    return slices


class Bench:
    """Asks for slices one after the other, serves lines, and collects what comes out."""

    def __init__(self, slices: list[Slice], *, stall: float = 0.0, pause: float = 0.0, seed: int = 0):
        self.dut = VariableFetch(CONFIG, streams=STREAMS, groups=GROUPS, group_bytes=PIECE)
        self.memory = np.random.default_rng(seed).integers(0, 256, CONFIG.scratchpad_bytes, dtype=np.uint8)
        self.slices, self.stall, self.pause, self.rng = slices, stall, pause, random.Random(seed)
        self.issued: list[int] = []
        self.reads = self.refused = 0
        self.found: list[list[list[int]]] = []

    async def drive(self, ctx: Any) -> None:
        dut, cycle, coming = self.dut, 0, [None, None]
        left = list(self.slices)
        line: int | None = None
        while left or any(coming):
            ctx.set(dut.read.data, self._line(line))
            ready = self.rng.random() >= self.stall
            ctx.set(dut.read.ready, ready)
            asked = bool(left) and self.rng.random() >= self.pause
            ctx.set(dut.valid, asked)
            if asked:
                for name in ("fresh", "stream", "addr", "count", "spacing"):
                    ctx.set(getattr(dut, name), getattr(left[0], name))
            issued = ctx.get(dut.ready)
            granted = ctx.get(dut.read.valid) and ready
            self.reads += granted
            self.refused += ctx.get(dut.read.valid) and not ready
            line = ctx.get(dut.read.addr) if granted else None
            done = coming.pop(0)
            if done is not None:
                self.found.append([[ctx.get(dut.o[group][lane]) for lane in range(done.spacing)] for group in range(GROUPS)])
            coming.append(left.pop(0) if issued else None)
            if issued:
                self.issued.append(cycle)
            await ctx.tick()
            cycle += 1

    def _line(self, index: int | None) -> int:
        if index is None:
            return self.rng.getrandbits(8 * LINE)
        return int.from_bytes(self.memory[index * LINE:(index + 1) * LINE].tobytes(), "little")

    def run(self) -> None:
        simulate(self.dut, self.drive)
        assert self.found == [asked.expected(self.memory) for asked in self.slices]


def test_no_bubble_in_any_mode_and_every_line_once() -> None:
    """All modes one after the other, each right behind the one before: a slice a cycle; lines read = ⌈bytes of a row / 64⌉."""
    slices, lines = [], 0
    for h1, h0 in MODES:
        k = 5 * GROUPS * h1 * h0 - 7
        slices += walk([h1 * h0] * 5, 3, 128, 384, k)
        lines += 3 * -(-k // LINE)
    bench = Bench(slices)
    bench.run()
    assert bench.issued == list(range(len(slices)))
    assert bench.reads == lines


def test_no_bubble_where_the_length_changes_within_a_row() -> None:
    """Any mode after any mode in one stream, also with one stream alone, whose kept line is the one just read."""
    order = random.Random(1).sample(MODES * 2, 2 * len(MODES))
    lengths = [h1 * h0 for h1, h0 in order]
    k = GROUPS * sum(lengths)
    for tokens in (1, 2):
        bench = Bench(walk(lengths, tokens, 64, 2048, k))
        bench.run()
        assert bench.issued == list(range(tokens * len(lengths)))
        assert bench.reads == tokens * -(-k // LINE)


def test_only_a_first_slice_across_lines_takes_two_cycles() -> None:
    """Rows that begin in the middle of a line: one cycle more for each first slice that crosses, none for others."""
    bench = Bench(walk([28] * 4, 4, 40, 346, 224))
    bench.run()
    crossing = sum((40 + 346 * token) % LINE + 56 > LINE for token in range(4))
    assert crossing == 3
    assert bench.issued[-1] == len(bench.slices) - 1 + crossing


@pytest.mark.parametrize(("stall", "pause"), [(0.4, 0.0), (0.0, 0.4), (0.3, 0.3)])
def test_refused_reads_and_pauses_add_only_themselves(stall: float, pause: float) -> None:
    """Slices are right whatever waits; refused reads alone add one cycle each."""
    slices = walk([20] * 6, 5, 3, 251, 238) + walk([9] * 7, 1, 5000, 0, 126)
    bench = Bench(slices, stall=stall, pause=pause, seed=3)
    bench.run()
    assert (bench.refused > 2) == (stall > 0)
    if not pause:
        crossing = sum(s.fresh and s.addr % LINE + s.count > LINE for s in slices)
        assert bench.issued[-1] == len(slices) - 1 + crossing + bench.refused
