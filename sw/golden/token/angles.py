"""Golden model of `hw.token.angles`: rows of cosines and sines by recurrence, and the records that set them."""

import numpy as np
import numpy.typing as npt

from sw.golden.token.rotary import advanced, exact_rotation

__all__ = ["ANGLE_WIDTH", "RESYNC", "Angles", "angle_records"]

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

ANGLE_WIDTH = 24        # bits of a cosine, two of them before the point
RESYNC = 256            # positions from one that is computed exactly to the next


class Angles:
    """What the unit holds: the rotation of a position and of one step, of each of `pairs`, of runs side by side (`lead`)."""

    def __init__(self, pairs: int, lead: tuple[int, ...] = ()):
        self.words = np.zeros((*lead, pairs, 4), np.int64)          # cosine and sine of the position, of a step

    def copy(self, copies: int | None = None) -> "Angles":
        """Return a copy; with `copies`, so many of them side by side, along a new first axis."""
        made = Angles(0)
        made.words = self.words.copy() if copies is None else np.repeat(self.words[None], copies, axis=0)
        return made

    def set(self, records: Bytes) -> None:
        """Set pairs from 0 on by records of four little-endian int32, (…, bytes)."""
        words = np.ascontiguousarray(records).view("<i4").reshape(*records.shape[:-1], -1, 4)
        self.words[..., :words.shape[-2], :] = words

    def advance(self) -> None:
        """Go on by one position."""
        now, step = (self.words[..., 0], self.words[..., 1]), (self.words[..., 2], self.words[..., 3])
        self.words[..., 0], self.words[..., 1] = advanced(now, step, ANGLE_WIDTH)

    def rows(self) -> tuple[Floats, Floats]:
        """Return cosines and sines, (…, pairs) float32 each, exact."""
        values = self.words[..., :2].astype(np.float32) * np.float32(2.0 ** (2 - ANGLE_WIDTH))
        return np.ascontiguousarray(values[..., 0]), np.ascontiguousarray(values[..., 1])


def angle_records(frequencies: npt.NDArray[np.float64], position: int) -> Bytes:
    """Return records for a position, (16 · pairs,) uint8: what the unit has there if it was set at the last multiple of `RESYNC`.

    So a position has the same angles whatever came before it.

    Parameters
    ----------
    frequencies : (pairs,) float64
        Angles of one step.
    position : int
    """
    start = position - position % RESYNC
    now, step = exact_rotation(start * frequencies, ANGLE_WIDTH), exact_rotation(frequencies, ANGLE_WIDTH)
    for _ in range(start, position):
        now = advanced(now, step, ANGLE_WIDTH)
    return np.stack((*now, *step), axis=-1).astype("<i4").view(np.uint8).ravel()
