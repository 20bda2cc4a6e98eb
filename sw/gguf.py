"""GGUF checkpoints: blocks of llama.cpp as number formats of ours, code by code, without rounding again."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.families import Format
from hw.formats import format_named
from sw.checkpoint.stored import CheckpointError, StoredTensor
from sw.formats import QuantizedTensor
from sw.packing import pack_words

__all__ = ["GGUF_FORMATS", "GgufMissing", "GgufTensor", "gguf_file"]

Blocks = npt.NDArray[np.uint8]
Fields = dict[str, npt.NDArray[Any]]


class GgufMissing(CheckpointError):
    """The package that reads GGUF files is not installed; the text says how to install it."""


def _nibbles(packed: Blocks) -> Blocks:
    """Return 2·n codes of n bytes: the low halves of all bytes come first, then the high ones."""
    return np.concatenate([packed & 15, packed >> 4], axis=-1)


def _q8_0(blocks: Blocks) -> Fields:
    return {"codes": blocks[..., 2:], "scale": np.ascontiguousarray(blocks[..., :2]).view("<u2")}


def _q4_0(blocks: Blocks) -> Fields:
    # A stored code is 8 more than its value; two's complement differs from that in the top bit.
    return {"codes": _nibbles(blocks[..., 2:]) ^ 8, "scale": np.ascontiguousarray(blocks[..., :2]).view("<u2")}


def _mxfp4(blocks: Blocks) -> Fields:
    # llama.cpp halves the scale and doubles the levels: the codes are those of OCP.
    return {"codes": _nibbles(blocks[..., 1:]), "scale": blocks[..., :1]}


GGUF_FORMATS: dict[str, tuple[str, int, Callable[[Blocks], Fields]]] = {
    "Q8_0": ("int8-g32", 34, _q8_0),
    "Q4_0": ("int4-g32-full", 18, _q4_0),
    "MXFP4": ("mxfp4-b32", 17, _mxfp4),
}
"""Type in GGUF → our format, bytes of a block, and how its bytes become our fields."""

_PLAIN = {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8"}
"""Types that lie in a file as in safetensors, under the same names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GgufTensor(StoredTensor):
    """A tensor in blocks of llama.cpp: of one of `GGUF_FORMATS`, or of a type that is only decoded."""

    @property
    def is_float(self) -> bool:
        """Whether there are real numbers: always."""
        return True

    @property
    def needs_decoding(self) -> bool:
        """Whether the bytes mean nothing in a safetensors file: yes."""
        return True

    @property
    def format(self) -> Format | None:
        """Our format of the blocks, or None where we have none."""
        return format_named(GGUF_FORMATS[self.dtype][0]) if self.dtype in GGUF_FORMATS else None

    def values(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Return some rows decoded by the gguf package, (rows, columns) float32.

        Raises
        ------
        CheckpointError
            If the package cannot decode the type.
        """
        import gguf

        try:
            return gguf.dequantize(self.raw(start, stop), gguf.GGMLQuantizationType[self.dtype])
        except RuntimeError:
            raise CheckpointError(f"{self.name} must be of a type that the gguf package decodes, not {self.dtype}") from None

    def quantized(self, start: int, stop: int) -> QuantizedTensor:
        """Return some rows as they are, in our format, (rows, columns).

        Raises
        ------
        CheckpointError
            If we have no such format, or a block's scale is NaN or infinite.
        """
        fmt = self.format
        if fmt is None:
            raise CheckpointError(f"{self.name} must be {', '.join(GGUF_FORMATS)} to be taken as it is, not {self.dtype}")
        _, size, fields_of = GGUF_FORMATS[self.dtype]
        fields = fields_of(self.raw(start, stop).reshape(stop - start, -1, size))
        element, special = ("E8M0", 0xFF) if self.dtype == "MXFP4" else ("float16", 0x7C00)
        odd = fields["scale"][(fields["scale"] & special) == special]
        if odd.size:
            raise CheckpointError(f"{self.name} must have finite block scales, not the {element} code {odd[0]:#x}")
        return QuantizedTensor(format=fmt, shape=(stop - start, self.columns), axis=1, payload=pack_words(fmt, fields), side={})


def gguf_file(path: Path) -> list[StoredTensor]:
    """Return the tensors of a GGUF file, in the order of the file; no weight is read.

    Shapes are numpy's: the last axis, the first that GGUF names, is the reduction axis.

    Raises
    ------
    GgufMissing
        If the gguf package is not installed.
    CheckpointError
        If it is not a whole GGUF file, or of the other byte order.
    """
    try:
        import gguf
    except ImportError:
        raise GgufMissing("reading GGUF needs the gguf package: pip install 'heddle[gguf]'") from None
    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, IndexError, KeyError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} must be a whole GGUF file: {error}") from None
    if reader.byte_order == "S":
        raise CheckpointError(f"{path} must be little-endian, not big-endian")
    tensors: list[StoredTensor] = []
    for entry in reader.tensors:
        dtype = entry.tensor_type.name
        tensor = StoredTensor(name=entry.name, shape=tuple(int(n) for n in reversed(entry.shape)), dtype=dtype, file=path,
                              offset=int(entry.data_offset), nbytes=int(entry.n_bytes))
        fields = {field.name: getattr(tensor, field.name) for field in dataclasses.fields(tensor)}
        tensors.append(tensor if dtype in _PLAIN else GgufTensor(**fields))
    return tensors
