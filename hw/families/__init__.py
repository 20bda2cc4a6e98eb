"""Families of number formats as data: elements in blocks, with scales, special values, patterns and codes.

A family is a class; its fields are what the literature varies. `hw.formats` has the entries. The numpy codec (`sw.formats`), the
packer (`sw.packing`) and the hardware decoder (`hw.arith.decode`) of a family serve every entry of it.
"""

from hw.families.base import Format
from hw.families.clustered import ClusteredFormat
from hw.families.columns import ColumnFormat
from hw.families.huffman import HuffmanFormat
from hw.families.outlier import OutlierFormat
from hw.families.scaled import ScaledFormat
from hw.families.series import SeriesFormat
from hw.families.sparse import SparseFormat
from hw.families.ternary import TernaryFormat

__all__ = [
    "ClusteredFormat", "ColumnFormat", "Format", "HuffmanFormat", "OutlierFormat", "ScaledFormat", "SeriesFormat", "SparseFormat",
    "TernaryFormat",
]
