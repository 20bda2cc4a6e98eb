"""Golden model of `hw.pe.mac`: one multiply-accumulate PE, or an array of them that obey one control word."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["MacModel", "SlotControl"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotControl:
    """Control of one slot; the fields mean what `hw.pe.base.pe_control_layout` says, arrays give each PE its own."""

    select: int = 0
    load: npt.ArrayLike = 0
    accumulate: int = 0
    first: int = 0
    last: int = 0
    shift: int = 0


class MacModel:
    """PEs of any shape in slot time.

    Parameters
    ----------
    shape : tuple of int
        Shape of the PEs; () is a single one.
    psum_width : int
        Sums wrap to this many bits, two's complement.

    Attributes
    ----------
    stationary : ndarray
        (2, *shape) int64: the two stationary weights.
    acc, drain : ndarray
        (*shape) int64.
    """

    def __init__(self, shape: tuple[int, ...] = (), *, psum_width: int):
        self.psum_width = psum_width
        self.stationary: Ints = np.zeros((2, *shape), np.int64)
        self.acc: Ints = np.zeros(shape, np.int64)
        self.drain: Ints = np.zeros(shape, np.int64)

    def _wrap(self, value: Ints) -> Ints:
        half = np.int64(1 << (self.psum_width - 1))
        return (value + half) % (2 * half) - half

    def step(self, control: SlotControl, activation: Ints, weight: Ints, psum: Ints) -> Ints:
        """Act on one slot: operands broadcast to the shape of the PEs; return psum_out, int64 (undefined where the PE's is)."""
        drained = self.drain
        used = weight if control.accumulate else self.stationary[control.select]
        product: Ints = np.asarray(activation, np.int64) * used
        if control.accumulate:
            self.acc = self._wrap(product if control.first else self.acc + product)
        if control.last:
            self.drain = self.acc
        elif control.shift:
            self.drain = np.broadcast_to(np.asarray(psum, np.int64), self.drain.shape).copy()
        idle = 1 - control.select
        self.stationary[idle] = np.where(control.load, weight, self.stationary[idle])
        return drained if control.shift else self._wrap(product + psum)
