"""The definition of a product with scaled weights on a PIM: groups one after the other, each sum times its scale, in float32."""

from typing import Any

import numpy as np
import numpy.typing as npt

from sw.golden.pim.operands import Operand
from sw.golden.pim.reduction import tree_product
from sw.golden.pim.saturating import saturating_add, saturating_tree
from sw.pim.codes import Codes

__all__ = ["scaled_product"]

Floats = npt.NDArray[np.float32]


def scaled_product(way: tuple[Operand, Operand], codes: Codes, sides: npt.NDArray[np.uint8], scales: Floats, x: Codes, *,
                   acc: str, lanes: int, slots: int, tile: int) -> Floats:
    """Return x · weightsᵀ: (n, K) and (N, K) codes → (n, N) float32.

    y = Σ over the groups, in order from +0, of float32(sum of the group) · scale, each operation rounded. The sum of a group is
    TREE's, of tiles one after the other where it is longer.

    Parameters
    ----------
    way : tuple of Operand
        Formats of weights and X.
    sides, scales : ndarray, (N, groups)
        Zero points and special values; scales as float32, in units of an accumulator.
    acc : str
        "float32" or "int32", which is clipped.
    lanes, slots : int
        Of the MAC array.
    tile : int
        Elements of K that are added to an output at once, at most.
    """
    weight, other = way
    size = codes.shape[1] // scales.shape[1]
    total = np.zeros((len(x), len(codes)), np.float32)
    for group in range(scales.shape[1]):
        found: npt.NDArray[Any] = np.zeros(0)
        for first in range(group * size, (group + 1) * size, tile):
            part = slice(first, min(first + tile, (group + 1) * size))
            side = sides[:, group, None]
            one: npt.NDArray[Any]
            if acc == "int32":
                one = saturating_tree(weight.integers(codes[:, part], side), other.integers(x[:, part]), lanes=lanes, slots=slots)
                found = one if not len(found) else saturating_add(found, one)
            else:
                one = tree_product(weight.values(codes[:, part], side), other.values(x[:, part]), lanes=lanes, slots=slots)
                found = one if not len(found) else found + one
        total = total + (found.astype(np.float32) * scales[:, group, None]).T
    return total
