"""What every golden model of a processing element is: PEs of any shape in slot time, and the product of a whole tile."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

__all__ = ["Ints", "PEModel", "SlotControl", "largest"]

Ints = npt.NDArray[np.int64]


def largest(values: npt.NDArray[Any]) -> int:
    """Return the largest magnitude in `values`, which are whole numbers of any type, at least one."""
    return max(int(values.max()), -int(values.min()))


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotControl:
    """Control of one slot; the fields mean what `hw.pe.base.pe_control_layout` says, arrays give each PE its own."""

    select: int = 0
    load: npt.ArrayLike = 0
    accumulate: int = 0
    first: int = 0
    last: int = 0
    shift: int = 0


class PEModel(ABC):
    """PEs of any shape that obey one control word.

    A subclass implements `multiply`, which is enough where products are added exactly; else it overrides `step` as well.

    Parameters
    ----------
    shape : tuple of int
        Shape of the PEs; () is a single one.
    psum_width : int
        Sums wrap to this many bits, two's complement.

    Attributes
    ----------
    exact : bool
        `product` is the matrix product in integers, whatever the size, so that several tiles may be multiplied at once.
    stationary : ndarray
        (2, *shape) int64: the two stationary weights.
    acc, drain : ndarray
        (*shape) int64.
    """

    exact: ClassVar[bool] = False

    def __init__(self, shape: tuple[int, ...] = (), *, psum_width: int):
        self.psum_width = psum_width
        self.stationary: Ints = np.zeros((2, *shape), np.int64)
        self.acc: Ints = np.zeros(shape, np.int64)
        self.drain: Ints = np.zeros(shape, np.int64)

    @abstractmethod
    def multiply(self, activation: Ints, weight: Ints) -> Ints:
        """Return what a PE adds for these operands, element by element, int64."""

    def step(self, control: SlotControl, activation: Ints, weight: Ints, psum: Ints) -> Ints:
        """Act on one slot: operands broadcast to the shape of the PEs; return psum_out, int64 (undefined where the PE's is)."""
        drained = self.drain
        used = weight if control.accumulate else self.stationary[control.select]
        product = self.multiply(np.asarray(activation, np.int64), np.asarray(used, np.int64))
        if control.accumulate:
            self.acc = self._wrap(product if control.first else self.acc + product)
        if control.last:
            self.drain = self.acc
        elif control.shift:
            self.drain = np.broadcast_to(np.asarray(psum, np.int64), self.drain.shape).copy()
        idle = 1 - control.select
        self.stationary[idle] = np.where(control.load, weight, self.stationary[idle])
        return drained if control.shift else self._wrap(product + psum)

    def product(self, activations: npt.NDArray[Any], weights: npt.NDArray[Any]) -> Ints:
        """Return the psums of one tile, (…, m, k) and (…, k, n) whole numbers of any type → (…, m, n) int64: k products in order.

        Both dataflows add in this order, so it holds for k rows of the array and for k steps of a PE. Here it is the steps
        themselves, m×n PEs at a time.
        """
        pes = type(self)((*activations.shape[:-1], weights.shape[-1]), psum_width=self.psum_width)
        left, right, psum = activations.astype(np.int64), weights.astype(np.int64), np.zeros(1, np.int64)
        for k in range(right.shape[-2]):
            pes.step(SlotControl(accumulate=1, first=int(k == 0)), left[..., k:k + 1], right[..., k:k + 1, :], psum)
        return pes.acc

    def _wrap(self, value: Ints) -> Ints:
        half = np.int64(1 << (self.psum_width - 1))
        return (value + half) % (2 * half) - half
