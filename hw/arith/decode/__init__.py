"""Decoders of number formats: packed codes → values that arithmetic can take."""

from amaranth.lib import wiring

from hw.arith.decode.clustered import ClusteredDecoder
from hw.arith.decode.columns import ColumnDecoder
from hw.arith.decode.huffman import HuffmanDecoder
from hw.arith.decode.outlier import OutlierDecoder
from hw.arith.decode.scaled import ScaledDecoder
from hw.arith.decode.series import SeriesDecoder
from hw.arith.decode.sparse import SparseDecoder
from hw.arith.decode.ternary import TernaryDecoder
from hw.families import (
    ClusteredFormat,
    ColumnFormat,
    Format,
    HuffmanFormat,
    OutlierFormat,
    ScaledFormat,
    SeriesFormat,
    SparseFormat,
    TernaryFormat,
)

__all__ = ["DECODERS"]

DECODERS: dict[type[Format], type[wiring.Component]] = {
    ScaledFormat: ScaledDecoder,
    ColumnFormat: ColumnDecoder,
    SparseFormat: SparseDecoder,
    SeriesFormat: SeriesDecoder,
    OutlierFormat: OutlierDecoder,
    TernaryFormat: TernaryDecoder,
    ClusteredFormat: ClusteredDecoder,
    HuffmanFormat: HuffmanDecoder,
}
"""Family of formats → its decoder: of blocks, or of a stream where there are none."""
