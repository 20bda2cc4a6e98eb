"""Golden model of `hw.array.mesh` in slot time: no skew, no pipeline, one step for each slot."""

import dataclasses

import numpy as np

from sw.golden.pe import PE_MODELS, SlotControl
from sw.golden.pe.base import Ints

__all__ = ["MeshModel"]


class MeshModel:
    """R×C processing elements.

    Parameters
    ----------
    rows, columns : int
        R and C.
    psum_width : int
        Width of psums in bits.
    pe : str
        Key of `PE_MODELS`.
    """

    def __init__(self, rows: int, columns: int, *, psum_width: int, pe: str = "mac"):
        self.columns = columns
        self.rows = [PE_MODELS[pe]((columns,), psum_width=psum_width) for _ in range(rows)]

    def step(self, control: SlotControl, load_row: int, activation: Ints, weight: Ints) -> Ints:
        """Act on one slot: activation (R,), weight (C,) → psum at the foot (C,), int64; undefined where the PEs' is."""
        psum: Ints = np.zeros(self.columns, np.int64)
        for r, row in enumerate(self.rows):
            own = control if r == load_row else dataclasses.replace(control, load=0)
            psum = row.step(own, activation[r], weight, psum)
        return psum
