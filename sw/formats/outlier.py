"""SDQ: of every group the largest values in int8, the next in FP4, the rest zero."""

from typing import Any

import numpy as np
import numpy.typing as npt

from hw.elements import ELEMENTS
from hw.families import OutlierFormat
from sw.formats.codec import Encoded, FormatError, Matrix, check_finite
from sw.formats.groups import compress, coordinates, expand, ranks
from sw.formats.scaled_rounding import levels, rounding

__all__ = ["OutlierCodec", "outlier_lanes"]

_Floats = npt.NDArray[np.float32]
_INT8 = ELEMENTS["int8"]
_LEAST = np.float16(2.0**-24)


def _scaled(values: _Floats, largest: float, what: str) -> tuple[_Floats, npt.NDArray[np.float16]]:
    """Return (rows, blocks, count) values in units of their block's scale, and the scales (rows, blocks, 1) float16.

    The scale of zeros is 1; of others it is at least the least float16.
    """
    peak = np.abs(values).max(axis=-1, keepdims=True)
    wanted = peak / np.float32(largest)
    with np.errstate(over="ignore"):
        scale = wanted.astype(np.float16)
    over = np.isinf(scale)
    if over.any():
        row, block, _ = (int(i) for i in np.argwhere(over)[0])
        raise FormatError(f"the scale of {what} must be at most 65504 to be a float16, not {wanted[row, block, 0]:.6g} "
                          f"(row {row}, block {block})")
    scale[scale == 0] = _LEAST
    scale[peak == 0] = 1
    return values / scale.astype(np.float32), scale


def outlier_lanes(fmt: OutlierFormat, encoded: Encoded) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.uint8]]:
    """Return the outliers as integers and the inliers as codes, both (rows, columns), zero elsewhere.

    Raises
    ------
    FormatError
        If coordinates are out of their range or not strictly increasing, a mask has not as many bits set as a group has inliers,
        or a value is both outlier and inlier.
    """
    fields = encoded.fields
    rows, blocks = fields["outliers"].shape[:2]
    shape = (rows, blocks, fmt.block // fmt.group)
    places = coordinates("outlier_inner", fields["outlier_inner"].reshape(*shape, fmt.outliers), fmt.group)
    outliers = expand(fields["outliers"].view(np.int8).reshape(places.shape), places, fmt.group)
    taken = expand(np.ones(places.shape, np.bool_), places, fmt.group)
    inlier = (fields["inlier_mask"][..., None] >> np.arange(fmt.group, dtype=np.uint8) & 1).astype(np.bool_)
    bad = (np.count_nonzero(inlier, axis=-1) != fmt.inliers) | (inlier & taken).any(axis=-1)
    if bad.any():
        row, block, group = (int(i) for i in np.argwhere(bad)[0])
        raise FormatError(f"inlier_mask must have {fmt.inliers} bits set, none an outlier's, "
                          f"not {int(fields['inlier_mask'][row, block, group]):#x} (row {row}, block {block})")
    inliers = np.zeros(inlier.shape, np.uint8)
    inliers[inlier] = fields["inliers"].ravel()
    return outliers.reshape(rows, -1), inliers.reshape(rows, -1)


class OutlierCodec:
    """Codec of `OutlierFormat`: magnitudes decide who is outlier, inlier or nothing; of equals, the first ranks higher."""

    in_parts = True

    def quantize(self, fmt: OutlierFormat, matrix: Matrix) -> Encoded:
        """Return `matrix` in `fmt`; see `Codec.quantize`."""
        check_finite(matrix)
        values = matrix.reshape(len(matrix), -1, fmt.block // fmt.group, fmt.group)
        rank = ranks(np.abs(values))
        is_outlier = rank < fmt.outliers
        is_inlier = (rank < fmt.outliers + fmt.inliers) & ~is_outlier
        outliers, places = compress(values, is_outlier, fmt.outliers)
        inliers, _ = compress(values, is_inlier, fmt.inliers)

        def in_blocks(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return array.reshape(*values.shape[:2], -1)

        outliers, outlier_scale = _scaled(in_blocks(outliers), _INT8.limits[1], "outliers")
        inliers, inlier_scale = _scaled(in_blocks(inliers), fmt.element.limits[1], "inliers")
        weights = np.array([1 << place for place in range(fmt.group)], np.min_scalar_type((1 << fmt.group) - 1))
        return Encoded(fields={
            "outliers": rounding(_INT8)(outliers), "outlier_inner": in_blocks(places),
            "inliers": rounding(fmt.element)(inliers), "inlier_mask": in_blocks(is_inlier @ weights),
            "outlier_scale": outlier_scale.view(np.uint16), "inlier_scale": inlier_scale.view(np.uint16)})

    def dequantize(self, fmt: OutlierFormat, encoded: Encoded) -> Matrix:
        """Return (rows, columns) float32; see `Codec.dequantize`."""
        outliers, inliers = outlier_lanes(fmt, encoded)
        scales = [np.repeat(encoded.fields[name][..., 0].view(np.float16).astype(np.float32), fmt.block, axis=1)
                  for name in ("outlier_scale", "inlier_scale")]
        # No value is both, so that the sum is exact.
        return outliers * scales[0] + levels(fmt.element)[inliers] * scales[1]
