"""The memories that commands work on."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hw.config import AcceleratorConfig

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
        macs, bytes_written and saturations so far.
    """

    config: AcceleratorConfig
    memory: npt.NDArray[np.uint8]
    scratchpad: npt.NDArray[np.uint8]
    accumulator: npt.NDArray[np.int64]
    rows: npt.NDArray[np.float32]
    counters: dict[str, int]
