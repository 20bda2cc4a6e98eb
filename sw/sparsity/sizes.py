"""Bits of a fiber in the representations that sparse cores use."""

import numpy as np
import numpy.typing as npt

__all__ = ["bitmask_bits", "coordinate_bits", "offset_bits", "run_length_bits", "run_length_fillers"]


def bitmask_bits(size: int, nonzero: int, value_bits: int) -> int:
    """Return the bits of a bitmask (B): one a place, and the values that are not zero."""
    _check(size, nonzero)
    return size + nonzero * value_bits


def coordinate_bits(size: int, nonzero: int, value_bits: int) -> int:
    """Return the bits of coordinates with payloads (CP): ⌈log₂ size⌉ a value."""
    _check(size, nonzero)
    return nonzero * ((size - 1).bit_length() + value_bits)


def run_length_fillers(mask: npt.NDArray[np.bool_], run_bits: int) -> int:
    """Return how many zeros must be stored as values, because a run of zeros before a value exceeds 2^run_bits − 1.

    mask: (places,) bool. A filler takes its own place and the 2^run_bits − 1 zeros before it. Zeros behind the last value are
    not stored.
    """
    if run_bits < 1:
        raise ValueError(f"run_bits must be at least 1, not {run_bits}")
    places = np.flatnonzero(mask)
    gaps = np.diff(places, prepend=-1) - 1
    return int((gaps >> run_bits).sum())


def run_length_bits(mask: npt.NDArray[np.bool_], run_bits: int, value_bits: int) -> int:
    """Return the bits of run lengths (RLE): each value, fillers included, with the zeros before it."""
    stored = int(np.count_nonzero(mask)) + run_length_fillers(mask, run_bits)
    return stored * (run_bits + value_bits)


def offset_bits(size: int, most: int) -> int:
    """Return the bits of offsets (UOP): where each of `size` fibers begins and the last ends, in up to `most` values."""
    if size < 0 or most < 0:
        raise ValueError(f"size and most must not be negative, not {size} and {most}")
    return (size + 1) * most.bit_length()


def _check(size: int, nonzero: int) -> None:
    if not 0 <= nonzero <= size:
        raise ValueError(f"nonzero must be between 0 and the fiber's {size} places, not {nonzero}")
