"""Which numbers of a Llama are quantized, and to what."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt

from hw.errors import ConfigError
from hw.families import ClusteredFormat, Format, HuffmanFormat, ScaledFormat
from hw.formats import format_named
from sw.checkpoint.parts import in_parts
from sw.formats import FormatError, dequantize, quantize
from sw.formats.registry import codec_of
from sw.golden.llama import Rounding

__all__ = ["QuantizationPlan", "WeightQuantizer", "fits_rows", "rounded"]

Array = npt.NDArray[np.float32]
_DYNAMIC = ("activations", "queries", "keys", "values", "probabilities")


def fits_rows(fmt: Format) -> bool:
    """Return whether rows can be quantized as they come, without the rest of the tensor: no fitted table, no common code."""
    return in_parts(fmt) and not isinstance(fmt, ClusteredFormat | HuffmanFormat)


def rounded(x: Array, fmt: Format) -> Array:
    """Return x quantized to `fmt` along its last axis and dequantized, every row by itself.

    A format with a scale for the tensor (NVFP4, RaZeR) gets one for each row: rows are divided by it first, in float32.

    x: (..., columns) float32 → the same shape.

    Raises
    ------
    FormatError
        If a value cannot be represented; the text names row and column.
    """
    codec = codec_of(fmt)
    rows = x.reshape(-1, x.shape[-1])
    padding = -rows.shape[1] % max(1, fmt.block)
    matrix = np.pad(rows, ((0, 0), (0, padding))) if padding else np.ascontiguousarray(rows)
    if isinstance(fmt, ScaledFormat) and fmt.outer == "tensor":
        assert fmt.scale_limits is not None
        reach = np.float32(fmt.element.limits[1] * fmt.scale_limits[1])         # amax whose tensor scale is 1
        amax = np.abs(matrix).max(axis=1, keepdims=True)
        if not np.isfinite(amax).all():
            row = int(np.flatnonzero(~np.isfinite(amax))[0])
            raise FormatError(f"values must be finite, not {amax[row, 0]} (row {row})")
        scale = np.where(amax > 0, np.maximum(amax / reach, np.finfo(np.float32).tiny), np.float32(1))
        units = np.clip(matrix / scale, -reach, reach).astype(np.float32, copy=False)
        found = codec.dequantize(fmt, codec.quantize(fmt, units, **{"amax": float(reach)})) * scale
    else:
        found = codec.dequantize(fmt, codec.quantize(fmt, matrix))
    return np.ascontiguousarray(found[:, :x.shape[-1]]).reshape(x.shape)


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantizationPlan:
    """The number format of each class of numbers; None: float32, not rounded.

    Activations are quantized as they come, every token by itself, at the places where the accelerator does it: the inputs of the
    linears of each layer, rotated queries, keys and values as they are cached, probabilities after the softmax. What lies
    between (residuals, norms, SiLU, softmax, accumulation) stays float32.

    Attributes
    ----------
    attention, mlp : Format or None
        Matrices q, k, v, o; and gate, up, down. Along the inputs.
    head : Format or None
        The output matrix, and with it the embedding where they are tied; its input is then quantized as activations are.
    activations : Format or None
        Inputs of linears, along the channels of a token.
    queries, keys, values : Format or None
        Along head_dim, for each token and head.
    probabilities : Format or None
        Along the keys, for each token and head.
    matrices : mapping of (int, str) to Format
        (layer, part) → the format of one matrix, instead of `attention` or `mlp`; parts as in
        `sw.models.llama_weights.LAYER_TENSORS`.

    Raises
    ------
    ConfigError
        If a format for what comes token by token is fitted to a whole tensor, or takes no negative values where there are some.
    """

    attention: Format | None = None
    mlp: Format | None = None
    head: Format | None = None
    activations: Format | None = None
    queries: Format | None = None
    keys: Format | None = None
    values: Format | None = None
    probabilities: Format | None = None
    matrices: Mapping[tuple[int, str], Format] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that what comes token by token can be quantized token by token."""
        for name in _DYNAMIC:
            fmt = getattr(self, name)
            if fmt is None:
                continue
            if not fits_rows(fmt):
                raise ConfigError(f"QuantizationPlan.{name} must be a format that quantizes a token by itself, not {fmt.name!r}, "
                                  "which is fitted to a whole tensor")
            unsigned = isinstance(fmt, ScaledFormat) and fmt.scale_rule != "range" and fmt.element.limits[0] >= 0
            if unsigned and name != "probabilities":
                raise ConfigError(f"QuantizationPlan.{name} must be a format with negative values, not {fmt.name!r}")

    @classmethod
    def named(cls, *, weights: str | None = None, activations: str | None = None, kv: str | None = None,
              queries: str | None = None, probabilities: str | None = None, head: str | None = None) -> Self:
        """Return the plan of formats given by name: one for all matrices of the layers, one for keys and values.

        Raises
        ------
        ConfigError
            If there is no such format, or it cannot be where it is asked for.
        """
        found = {name: None if text is None else format_named(text) for name, text in (
            ("weights", weights), ("activations", activations), ("kv", kv), ("queries", queries),
            ("probabilities", probabilities), ("head", head))}
        return cls(attention=found["weights"], mlp=found["weights"], head=found["head"], activations=found["activations"],
                   queries=found["queries"], keys=found["kv"], values=found["kv"], probabilities=found["probabilities"])

    @property
    def quantizes_weights(self) -> bool:
        """Whether a matrix is quantized."""
        return bool(self.matrices) or any(fmt is not None for fmt in (self.attention, self.mlp, self.head))

    def format_of(self, part: str, layer: int | None = None) -> Format | None:
        """Return the format of a matrix: a part of `sw.models.llama_weights.LAYER_TENSORS` of a layer, or "head"."""
        if layer is not None and (layer, part) in self.matrices:
            return self.matrices[layer, part]
        return self.head if part == "head" else self.attention if part in ("q", "k", "v", "o") else self.mlp

    def rounding(self) -> Rounding:
        """Return what `sw.golden.llama` does with activations."""
        places: dict[str, Format | None] = {
            "inputs": self.activations, "queries": self.queries, "keys": self.keys, "values": self.values,
            "probabilities": self.probabilities, "head": self.activations if self.head is not None else None}
        return Rounding(**{place: _rounding_at(place, fmt) for place, fmt in places.items() if fmt is not None})


def _rounding_at(place: str, fmt: Format) -> Callable[[Array], Array]:
    def function(x: Array) -> Array:
        try:
            return rounded(x, fmt)
        except FormatError as error:
            raise FormatError(f"{place} do not fit {fmt.name}: {error}") from None

    return function


class WeightQuantizer:
    """Quantizes matrices as they are read, and counts what they would take; a `sw.models.llama_weights.Transform`.

    Parameters
    ----------
    plan : QuantizationPlan
    float_bits : float
        What a weight that is not quantized counts.

    Attributes
    ----------
    bits, weights : float
        Stored bits, scales included, and weights of the matrices so far; the head is among them where it is quantized.
    """

    def __init__(self, plan: QuantizationPlan, float_bits: float):
        self.plan, self.float_bits = plan, float_bits
        self.bits = self.weights = 0.0

    def __call__(self, part: str, values: Array, layer: int | None = None) -> Array:
        """Return a matrix as its format has it."""
        fmt = self.plan.format_of(part, layer)
        tensor = None if fmt is None else quantize(values, fmt)
        if part != "head" or tensor is not None:
            self.bits += self.float_bits * values.size if tensor is None else 8 * tensor.nbytes
            self.weights += values.size
        return values if tensor is None else dequantize(tensor)

    @property
    def bits_per_weight(self) -> float:
        """Mean over the matrices so far."""
        return self.bits / self.weights
