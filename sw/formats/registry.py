"""Family of formats → its codec."""

from typing import Any

from hw.families import Format, ScaledFormat
from sw.formats.codec import Codec
from sw.formats.scaled import ScaledCodec

__all__ = ["CODECS", "codec_of"]

CODECS: dict[type[Format], Codec[Any]] = {
    ScaledFormat: ScaledCodec(),
}


def codec_of(fmt: Format) -> Codec[Any]:
    """Return the codec that serves `fmt`."""
    return CODECS[type(fmt)]
