"""Rows for the reductions of the vector unit: slices one after the other, with gaps, on ports without back-pressure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.block_sim import pack_lanes
from hw.config import ceil_div

__all__ = ["Schedule", "random_rows", "schedule"]

Words = npt.NDArray[np.uint32]


@dataclass(kw_only=True)
class Schedule:
    """Ports of a reduction, cycle by cycle.

    Attributes
    ----------
    ports : dict of str to array
        `enable`, `valid`, `first`, `last`, `count`, `values`; noise where nothing is valid.
    last : (rows,) cycles in which the last slice of each row is there
    """

    ports: dict[str, npt.NDArray[Any]]
    last: npt.NDArray[np.int64]


def random_rows(rng: np.random.Generator, count: int, longest: int) -> list[Words]:
    """Return rows of random length: ordinary numbers, now and then a zero of either sign, Inf, NaN or any word."""
    rows = []
    for _ in range(count):
        n = int(rng.integers(1, longest + 1))
        words = (rng.standard_normal(n) * 2.0 ** rng.integers(-8, 9, n)).astype(np.float32).view(np.uint32)
        special = rng.choice(np.array([0, 1 << 31, 0x7F80_0000, 0xFF80_0000, 0x7FC0_0001, 1, 0x807F_FFFF], np.uint32), n)
        words = np.where(rng.random(n) < rng.choice((0.0, 0.0, 0.05, 1.0)), special, words)
        rows.append(np.where(rng.random(n) < rng.choice((0.0, 0.05)), rng.integers(0, 1 << 32, n, np.uint32), words))
    return rows


def schedule(rows: Sequence[Words], lanes: int, *, gap: float, stall: float, idle: int, seed: int) -> Schedule:
    """Return `rows` on ports: a pause before a slice with probability `gap`, `enable` low with `stall`, at last `idle` cycles."""
    rng = np.random.default_rng(seed)
    slices = [(row, number) for row, words in enumerate(rows) for number in range(ceil_div(len(words), lanes))]
    steps = np.cumsum(1 + np.where(rng.random(len(slices)) < gap, rng.geometric(0.3, len(slices)), 0)) - 1
    enable = rng.random(2 * (steps[-1] + 1 + idle) + 100) >= stall
    cycles = np.flatnonzero(enable)[steps]
    length = int(np.flatnonzero(enable)[steps[-1] + idle]) + 1
    enable = enable[:length]
    ports: dict[str, npt.NDArray[Any]] = {
        "enable": enable.astype(np.uint8), "valid": (rng.random(length) < 0.5) & ~enable,
        "first": rng.integers(0, 2, length, np.uint8), "last": rng.integers(0, 2, length, np.uint8),
        "count": rng.integers(0, lanes + 1, length, np.uint16)}
    values = rng.integers(0, 1 << 32, (length, lanes), np.uint32)
    last = []
    for cycle, (row, number) in zip(cycles.tolist(), slices, strict=True):
        words = rows[row][number * lanes:(number + 1) * lanes]
        values[cycle, :len(words)] = words
        ends = (number + 1) * lanes >= len(rows[row])
        for port, value in (("valid", 1), ("first", number == 0), ("last", ends), ("count", len(words))):
            ports[port][cycle] = value
        if ends:
            last.append(cycle)
    ports |= {"values": pack_lanes(values, 32), "valid": ports["valid"].astype(np.uint8)}
    return Schedule(ports=ports, last=np.array(last))
