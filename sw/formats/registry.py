"""Family of formats → its codec."""

from typing import Any

from hw.families import ClusteredFormat, Format, OutlierFormat, ScaledFormat, SeriesFormat, SparseFormat
from sw.formats.clustered import ClusteredCodec
from sw.formats.codec import Codec
from sw.formats.outlier import OutlierCodec
from sw.formats.scaled import ScaledCodec
from sw.formats.series import SeriesCodec
from sw.formats.sparse import SparseCodec

__all__ = ["CODECS", "codec_of"]

CODECS: dict[type[Format], Codec[Any]] = {
    ScaledFormat: ScaledCodec(),
    SparseFormat: SparseCodec(),
    SeriesFormat: SeriesCodec(),
    OutlierFormat: OutlierCodec(),
    ClusteredFormat: ClusteredCodec(),
}


def codec_of(fmt: Format) -> Codec[Any]:
    """Return the codec that serves `fmt`."""
    return CODECS[type(fmt)]
