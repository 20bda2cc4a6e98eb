"""How operands lie for the BitMoD engine: a quantized matrix as a stream of weight slots, int8 activations as slots of four k."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hw.config import ceil_div
from hw.elements import ELEMENTS
from hw.families import ScaledFormat
from sw.formats import QuantizedTensor
from sw.layout import LayoutError

__all__ = ["BitmodWeights", "bitmod_activations", "bitmod_weights"]

Bytes = npt.NDArray[np.uint8]

LANES = 4
HEADER_BYTES = 2        # of each column: scale, index of the special value
_PRECISIONS = {**{ELEMENTS[f"int{bits}"]: f"int{bits}" for bits in (8, 6, 5, 4, 3)},
               ELEMENTS["float4_e2m1fn"]: "fp4", ELEMENTS["float3_e2m0"]: "fp3"}


@dataclass(frozen=True, kw_only=True, slots=True)
class BitmodWeights:
    """Weights as the engine reads them.

    Attributes
    ----------
    precision : str
        Key of `hw.engines.bitmod.BITMOD_TERMS`.
    group : int
        G.
    specials : tuple of float
        Special values by index; four, those that are not there 5.
    stream : (n-groups, slots, slot_bytes) uint8
        For each group of K a header, then a slot for each four of K.
    column_scale : (n,) float32
        What one in the accumulator is worth, for each output.
    """

    precision: str
    group: int
    specials: tuple[float, float, float, float]
    stream: Bytes
    column_scale: npt.NDArray[np.float32]

    @property
    def fields(self) -> dict[str, int]:
        """Strides of a command that reads them, in bytes."""
        return {"weight_stride": self.stream.shape[2], "weight_tile_stride": self.stream.shape[1] * self.stream.shape[2]}


def _precision(fmt: object) -> str:
    """Return the precision of a format that the engine can read."""
    name = getattr(fmt, "name", fmt)
    if not isinstance(fmt, ScaledFormat) or fmt.element not in _PRECISIONS or fmt.zero_point_bits:
        raise LayoutError(f"a format for BitMoD must have elements of {', '.join(_PRECISIONS.values())} and no zero point, "
                          f"not {name!r}")
    if fmt.scale is None or fmt.scale.name != "uint8" or fmt.outer != "row":
        raise LayoutError(f"a format for BitMoD must have 8-bit group scales, as bitmod4-g128 or int6-g128-int8, not {name!r}")
    if fmt.block % LANES or fmt.block < 16:
        raise LayoutError(f"a format for BitMoD must have groups of a multiple of {LANES}, at least 16, not {name!r}")
    if fmt.specials and fmt.special_code != 1 << fmt.element.bits - 1:
        raise LayoutError(f"a format for BitMoD must have its special value in the code of −0, not {name!r}")
    if len(fmt.specials) > 4 or not all(_fits(value) for value in fmt.specials):
        raise LayoutError(f"a format for BitMoD must have up to four special values of two terms each, not {name!r}")
    return _PRECISIONS[fmt.element]


def _fits(value: float) -> bool:
    """Return whether a special value is one or two different powers of two from 0.5 to 8."""
    halves = abs(value) * 2
    return halves == int(halves) and 1 <= int(halves).bit_count() <= 2 and halves < 32


def bitmod_weights(tensor: QuantizedTensor, columns: int) -> BitmodWeights:
    """Return a quantized matrix (N, K), blocks along K, as the engine of C columns reads it.

    Columns beyond N have zeros. The slots of the last group go as far as K.

    Parameters
    ----------
    tensor : QuantizedTensor
        In a format of which the engine has the precision, with 8-bit group scales.
    columns : int
        C.

    Raises
    ------
    LayoutError
        If the format is none that the engine can read, the tensor is no matrix, or its blocks lie along N.
    """
    precision = _precision(tensor.format)
    if len(tensor.shape) != 2 or tensor.axis != 1:
        raise LayoutError(f"weights for BitMoD must be of shape (N, K) with blocks along K, not {tensor.shape} along axis "
                          f"{tensor.axis}")
    fmt, (n, k) = tensor.format, tensor.shape
    assert isinstance(fmt, ScaledFormat)
    fields = tensor.encoded.fields
    outputs = ceil_div(n, columns) * columns
    codes, scale = (_padded(fields[name], outputs) for name in ("codes", "scale"))
    special = _padded(fields["special"], outputs) if fmt.special_bits else np.zeros_like(scale)
    nibbles = fmt.element.bits <= 4
    slot_bytes = LANES * columns // (2 if nibbles else 1)

    slots = []
    for group in range(codes.shape[1]):
        header = np.concatenate([scale[:, group], special[:, group]], axis=1).reshape(-1, columns * HEADER_BYTES)
        slots.append(np.pad(header, ((0, 0), (0, slot_bytes - header.shape[1]))))
        for first in range(0, min(fmt.block, k - group * fmt.block), LANES):
            quad = codes[:, group, first:first + LANES].reshape(-1, columns, LANES).swapaxes(1, 2).reshape(-1, LANES * columns)
            slots.append(quad[:, ::2] | quad[:, 1::2] << 4 if nibbles else quad)
    specials = (*fmt.specials, *(5.0,) * (4 - len(fmt.specials)))
    unit = 0.5 if precision in ("fp4", "fp3") else 1.0
    return BitmodWeights(precision=precision, group=fmt.block, specials=(specials[0], specials[1], specials[2], specials[3]),
                         stream=np.ascontiguousarray(np.stack(slots, axis=1)),
                         column_scale=tensor.side["outer_scale"].astype(np.float32) * np.float32(unit))


def _padded(field: npt.NDArray[np.uint8], rows: int) -> Bytes:
    return np.pad(field.astype(np.uint8), ((0, rows - len(field)), (0, 0), (0, 0)))


def bitmod_activations(a: npt.NDArray[np.int8], rows: int) -> Bytes:
    """Return activations as the engine of R rows reads them: four of K in a slot, k by k, zeros beyond M and K.

    a: (m, k) int8 → (m-groups, ⌈k / 4⌉, 4·R) uint8.

    Raises
    ------
    LayoutError
        If `a` is no matrix of int8.
    """
    if a.ndim != 2 or a.dtype != np.int8:
        raise LayoutError(f"activations for BitMoD must be (M, K) int8, not {a.shape} {a.dtype}")
    m, k = a.shape
    padded = np.pad(a, ((0, -m % rows), (0, -k % LANES)))
    slots = padded.reshape(-1, rows, padded.shape[1] // LANES, LANES).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(slots.reshape(len(slots), -1, LANES * rows)).view(np.uint8)
