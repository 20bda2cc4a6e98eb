"""Family of formats → its codec."""

from typing import Any

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
from hw.plugins import plugins
from sw.formats.clustered import ClusteredCodec
from sw.formats.codec import Codec, FormatError
from sw.formats.columns import ColumnCodec
from sw.formats.huffman import HuffmanCodec
from sw.formats.outlier import OutlierCodec
from sw.formats.scaled import ScaledCodec
from sw.formats.series import SeriesCodec
from sw.formats.sparse import SparseCodec
from sw.formats.ternary import TernaryCodec

__all__ = ["CODECS", "codec_of"]

CODECS: dict[type[Format], Codec[Any]] = {
    ScaledFormat: ScaledCodec(),
    ColumnFormat: ColumnCodec(),
    SparseFormat: SparseCodec(),
    SeriesFormat: SeriesCodec(),
    OutlierFormat: OutlierCodec(),
    TernaryFormat: TernaryCodec(),
    ClusteredFormat: ClusteredCodec(),
    HuffmanFormat: HuffmanCodec(),
}


def codec_of(fmt: Format) -> Codec[Any]:
    """Return the codec that serves `fmt`; that of a family of another package is found by its entry point (`hw.plugins`).

    Raises
    ------
    FormatError
        If there is none.
    """
    if type(fmt) not in CODECS:
        for family, codec in plugins("codecs").values():
            CODECS.setdefault(family, codec)
    if type(fmt) not in CODECS:
        raise FormatError(f"a format must be of a family with a codec, not a {type(fmt).__name__} ({fmt.name})")
    return CODECS[type(fmt)]
