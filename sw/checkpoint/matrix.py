"""A stored tensor as the matrix that a codec takes, some rows at a time."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from sw.checkpoint.stored import CheckpointError, StoredTensor

__all__ = ["CHUNK", "Matrix", "StoredMatrix", "ranges"]

CHUNK = 1 << 20
"""Values that are worked on at a time; a codec's temporaries are some tens of bytes for each."""

Matrix = npt.NDArray[np.float32]


def ranges(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of as many rows as hold `CHUNK` values, at least one."""
    step = max(1, CHUNK // max(1, columns))
    for start in range(0, rows, step):
        yield start, min(rows, start + step)


class StoredMatrix:
    """Rows × values along the reduction axis of a stored tensor: float32.

    Parameters
    ----------
    tensor : StoredTensor
    axis : int
        Reduction axis: the last, along which rows are read as they are needed; or 0 of a matrix, which is held in memory in its
        own type, because columns do not lie together in the file.
    nonfinite : bool
        Whether NaN and infinities may be among the values.
    """

    def __init__(self, tensor: StoredTensor, axis: int, *, nonfinite: bool = False):
        self._tensor = tensor
        self._nonfinite = nonfinite
        self._by_columns = axis != len(tensor.shape) - 1
        self._stored = tensor.values(0, tensor.rows).T if self._by_columns else None
        self.rows, self.columns = (tensor.columns, tensor.rows) if self._by_columns else (tensor.rows, tensor.columns)

    def read(self, start: int, stop: int) -> Matrix:
        """Return rows.

        Raises
        ------
        CheckpointError
            If a value is not finite, or not in float32; the text names the tensor, row and column as they are stored.
        """
        part = self._tensor.values(start, stop) if self._stored is None else self._stored[start:stop]
        with np.errstate(over="ignore"):
            matrix = np.ascontiguousarray(part, np.float32)
        refused = ~np.isfinite(matrix)
        if self._nonfinite and refused.any():
            refused &= np.isfinite(part)                    # only what float64 holds and float32 does not
        if refused.any():
            row, column = (int(i) for i in np.argwhere(refused)[0])
            where = (column, start + row) if self._by_columns else (start + row, column)
            raise CheckpointError(f"weights must be finite float32, not {part[row, column]}: {self._tensor.name}, "
                                  f"row {where[0]}, column {where[1]}")
        return matrix

    def chunks(self) -> Iterator[tuple[int, Matrix]]:
        """Yield (first row, rows) until all are read."""
        for start, stop in ranges(self.rows, self.columns):
            yield start, self.read(start, stop)

    def sample(self) -> Matrix:
        """Return at most `CHUNK` values of rows spread evenly, at least one row; all, if they are not more."""
        count = max(1, CHUNK // max(1, self.columns))
        return np.concatenate([self.read(row, row + 1) for row in range(0, self.rows, -(-self.rows // count))])
