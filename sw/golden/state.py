"""The memories that commands work on."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig
from sw.golden.token.angles import Angles

__all__ = ["Fields", "State"]

Fields = Mapping[str, int]
"""A descriptor: every field of a command."""


@dataclass(kw_only=True)
class State:
    """The memories that commands work on.

    The arrays may all have one more axis in front: runs side by side, of one program on different data.

    Attributes
    ----------
    config : AcceleratorConfig
    memory : ndarray
        DRAM, uint8.
    scratchpad : ndarray
        uint8, shape (scratchpad_bytes,).
    accumulator : ndarray
        int64 holding values of acc_width bits, shape (accumulator_rows, columns).
    rows : ndarray
        Row scalars of the vector unit, float32, shape (vector_rows,).
    counters : dict of str to int
        macs, bytes_written, saturations and those of the engine so far.
    stream : ndarray
        Bytes that the load unit has given to the engine, and no command has taken.
    angles : Angles
        What the load unit's source of angles holds; without pairs, if the config has none.
    """

    config: AcceleratorConfig
    memory: npt.NDArray[np.uint8]
    scratchpad: npt.NDArray[np.uint8]
    accumulator: npt.NDArray[np.int64]
    rows: npt.NDArray[np.float32]
    counters: dict[str, int]
    stream: npt.NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))
    angles: Angles = field(default_factory=lambda: Angles(0))
