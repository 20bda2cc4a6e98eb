"""Memories of the vector unit for tests of passes: arrays are placed in them, and what passes make is read back."""

import numpy as np

from hw.config import AcceleratorConfig, ceil_div
from hw.isa import DESCRIPTORS, Unit
from sw.golden.vector.unit import run_vector
from sw.kernels.passes import Accumulator, Floats, Int8, Scalars, Uint4

SMALL = {"c16-l8": AcceleratorConfig(rows=16, columns=16, vector_lanes=8, vector="transformer", scratchpad_bytes=1 << 20,
                                     accumulator_rows=4096),
         "c4-l4": AcceleratorConfig(vector="transformer", scratchpad_bytes=1 << 20, accumulator_rows=4096),
         "c6-l6": AcceleratorConfig(rows=6, columns=6, vector_lanes=6, vector="transformer", scratchpad_bytes=1 << 20,
                                    accumulator_rows=4096)}


class VectorMemory:
    """Scratchpad, accumulator and row scalars, full of what nobody has written: NaN, or integers that would show.

    Passes run as a program runs them: fields that a pass does not need keep what earlier ones left in the descriptor.
    """

    def __init__(self, config):
        self.config = config
        self.scratchpad = np.full(config.scratchpad_bytes, 0x7F, np.uint8)
        self.scratchpad.view(np.float32)[:] = np.nan
        self.accumulator = np.full((config.accumulator_rows, config.columns), 123456789, np.int64)
        self.rows = np.full(config.vector_rows, np.nan, np.float32)
        self._free = {"bytes": 0, "words": 0, "rows": 0}
        self._descriptor = {field.name: (1 << field.width) - 1 for field in DESCRIPTORS[Unit.VECTOR]} | {"n": 1}

    def run(self, passes):
        """Run passes."""
        for one in passes:
            self._descriptor |= one.needed
            run_vector(self.config, self._descriptor, self.scratchpad, self.accumulator, self.rows)

    def _take(self, what, count, unit=1):
        first = -(-self._free[what] // unit) * unit
        self._free[what] = first + count
        return first

    def _stride(self, n, bits):
        return ceil_div(n, self.config.columns) * self.config.output_slot_bytes * bits // 8

    def _places(self, place, m, n, bits):
        group, rest = np.divmod(np.arange(n), self.config.columns)
        columns = (group * self.config.output_slot_bytes + rest) * bits
        return 8 * (place.addr + np.arange(m)[:, None] * place.stride) + columns

    # Places ---------------------------------------------------------------------------------------------------

    def row(self, values=None, m=None):
        """Return the first of new row scalars, for `values` or for m rows."""
        count = m if values is None else len(values)
        first = self._take("rows", count)
        if values is not None:
            self.rows[first:first + count] = values
        return first

    def floats(self, m, n):
        """Return a place for float32 rows."""
        stride = self._stride(n, 32)
        return Floats(self._take("bytes", m * stride, 1024), stride)

    def int8(self, m, n):
        """Return a place for int8 rows."""
        stride = self._stride(n, 8)
        return Int8(self._take("bytes", m * stride, 1024), stride)

    def uint4(self, m, n):
        """Return a place for rows of nibbles."""
        stride = max(1, self._stride(n, 4))
        return Uint4(self._take("bytes", m * stride, 1024), stride)

    def scalars(self, m):
        """Return a place for one float32 for each row."""
        return Scalars(self._take("bytes", 4 * m, 4))

    def put(self, values, place=None):
        """Write rows, (m, n) float32 or int32, (n,): one row for all, and return their place."""
        values = np.asarray(values)
        matrix = np.atleast_2d(values)
        place = self.floats(*matrix.shape) if place is None else place
        self.scratchpad.view(np.float32)[self._places(place, *matrix.shape, 32) // 32] = matrix.view(np.float32)
        return Floats(place.addr, 0) if values.ndim == 1 else place

    def accumulate(self, words):
        """Write (m, n) sums and return their place, with room between the groups of columns."""
        m, n = words.shape
        groups, columns = ceil_div(n, self.config.columns), self.config.columns
        first = self._take("words", groups * (m + 1))
        for j in range(groups):
            part = words[:, j * columns:(j + 1) * columns]
            self.accumulator[first + j * (m + 1):first + j * (m + 1) + m, :part.shape[1]] = part
        return Accumulator(first, m + 1)

    # Results --------------------------------------------------------------------------------------------------

    def get(self, place, m, n=1):
        """Return what lies at a place: (m, n), or (m,) of scalars."""
        if isinstance(place, int):
            return self.rows[place:place + m].copy()
        if isinstance(place, Scalars):
            return self.scratchpad.view(np.float32)[(place.addr + np.arange(m) * place.stride) // 4]
        if isinstance(place, Floats):
            return self.scratchpad.view(np.float32)[self._places(place, m, n, 32) // 32]
        if isinstance(place, Int8):
            return self.scratchpad.view(np.int8)[self._places(place, m, n, 8) // 8]
        places = self._places(place, m, n, 4)
        return self.scratchpad[places // 8] >> (places % 8).astype(np.uint8) & 15
