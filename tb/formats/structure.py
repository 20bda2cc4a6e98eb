"""Structured sparsity in plain Python, a group at a time, and what tests of its formats share."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.families import Format
from hw.formats import FORMATS, format_named

__all__ = ["best", "formats_of", "groups_of", "int8_row", "largest", "samples", "wide"]


def formats_of(family: type[Format], *more: str) -> list[Format]:
    """Return the listed formats of a family, and others by name."""
    return [*(fmt for fmt in FORMATS.values() if type(fmt) is family), *(format_named(name) for name in more)]


def groups_of(row: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Return consecutive groups of `size`."""
    return (row[low:low + size] for low in range(0, len(row), size))


def largest(group: Sequence[float], keep: int) -> list[int]:
    """Return the places of the `keep` largest magnitudes, in order of place; of equals, the first."""
    return sorted(sorted(range(len(group)), key=lambda place: (-abs(group[place]), place))[:keep])


def best(group: Sequence[float], keep: int) -> float:
    """Return the largest sum of squares that `keep` values of a group can have: every choice is tried."""
    return max(sum(group[place] ** 2 for place in chosen) for chosen in combinations(range(len(group)), keep))


def int8_row(row: npt.NDArray[np.float32]) -> tuple[list[int], np.float32]:
    """Return a row as int8 and its scale, by the definition: amax / 127 in float32, to nearest, ties to even."""
    peak = np.float32(max(abs(value) for value in row))
    scale = np.maximum(peak / np.float32(127), np.float32(2.0**-149)) if peak else np.float32(1)
    return [max(-127, min(127, round(float(np.float32(value / scale))))) for value in row], scale


def samples(columns: int, *, seed: int = 0) -> npt.NDArray[np.float32]:
    """Return rows that a codec meets, and some that it hopes not to: (9, columns)."""
    rng = np.random.default_rng(seed)
    wild = rng.standard_normal(columns) * 10.0 ** rng.integers(-6, 4, columns)
    return np.array([
        rng.standard_normal(columns), rng.standard_normal(columns), rng.standard_t(2, columns), wild,
        rng.integers(-2, 3, columns),                                           # mostly ties
        np.where(rng.random(columns) < 0.1, rng.standard_normal(columns), 0),   # groups of zeros
        np.zeros(columns), -np.ones(columns),
        rng.standard_normal(columns) * 1e-3 * (np.arange(columns) == columns - 1),  # one value alone
    ], np.float32)


def wide(rows: int, columns: int, *, density: float = 1.0, seed: int = 0) -> npt.NDArray[np.float32]:
    """Return Gaussian values of which only the share `density` of largest magnitude is kept."""
    values = np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)
    if density < 1:
        values[np.abs(values) < np.quantile(np.abs(values), 1 - density)] = 0
    return values
