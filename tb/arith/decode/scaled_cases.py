"""Scaled formats and the codes to try on them: everything where that is possible, else corners and random ones."""

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from hw.elements import Element, FloatFormat
from hw.families import ScaledFormat
from hw.formats import FORMATS, format_named
from sw.formats.codec import Encoded
from sw.formats.registry import codec_of
from tb.arith.words import corners

__all__ = ["CASES", "LIMIT", "Codes", "codes_of", "golden"]

LIMIT = 1 << 16
"""Vectors of a format; 8-bit codes with 8-bit scales are just as many."""

EXTRA = ("int4-g32-bf16", "int4-g32-fp32", "nf4-g64-bf16", "nf4-g64-fp32", "int3-asym-g64-bf16", "fp3-g64-fp32",
         "mxint4-b64-ceil")
"""Formats beyond the listed ones: wider scales, and products below the smallest float32."""

CASES: dict[str, ScaledFormat] = {name: fmt for name, fmt in {**FORMATS, **{name: format_named(name) for name in EXTRA}}.items()
                                  if isinstance(fmt, ScaledFormat)}
"""Name → format: all of the family."""

Codes = dict[str, npt.NDArray[Any]]
"""Field of a format's packed word → the code of each vector."""


def _some(element: Element) -> list[int]:
    """Return codes at the edges of an element."""
    if isinstance(element, FloatFormat) and element.mantissa_bits > 2:
        return [code for code in corners(element) if code < 1 << element.bits]
    top = 1 << element.bits
    return sorted({0, 1, 2, top // 2 - 1, top // 2, top // 2 + 1, top - 2, top - 1})


def codes_of(fmt: ScaledFormat, limit: int = LIMIT, seed: int = 1) -> Codes:
    """Return every combination of the fields of a format; beyond `limit`, corners of some fields and as many random ones.

    Scales and zero points are cut to corners before any code is left out, so that every code meets every corner of a scale;
    beyond 6 bits under a zero point, only corners of the codes do, and random ones.
    """
    rng = np.random.default_rng(seed)
    elements = {"codes": fmt.element} | ({"scale": fmt.scale} if fmt.scale is not None else {})
    bits = {name: element.bits for name, element in elements.items()}
    bits |= {"zero_point": fmt.zero_point_bits, "special": fmt.special_bits}
    axes: dict[str, Any] = {name: range(1 << width) for name, width in bits.items() if width}
    axes |= {"special": range(len(fmt.specials))} if fmt.special_bits else {}
    everything = dict(axes)
    for name in sorted(axes, key=lambda name: (name == "codes", -len(axes[name]))):     # codes last, of others the longest first
        if math.prod(len(axis) for axis in axes.values()) > limit:
            top = len(axes[name])
            axes[name] = _some(elements[name]) if name in elements else [0, 1, top // 2, top - 2, top - 1]
    random = {name: rng.integers(0, len(axis), limit if axes != everything else 0) for name, axis in everything.items()}
    grid = np.array(list(itertools.product(*axes.values())), np.int64).T
    return {name: np.concatenate([grid[index], random[name]]) for index, name in enumerate(axes)}


def golden(fmt: ScaledFormat, codes: Codes) -> npt.NDArray[np.float32]:
    """Return the value of each vector of codes by the codec, the outer scale being 1."""
    count = len(codes["codes"])
    width = {field.name: field.width for field in fmt.word.fields}
    shape = {name: (1, count, 1) for name in width}
    fields = {name: codes[name].astype(np.uint8 if width[name] <= 8 else np.uint16 if width[name] <= 16 else np.uint32)
              .reshape(shape[name]) for name in width}
    fmt = dataclasses.replace(fmt, block=min(fmt.block, 1))         # each vector is a block of its own
    side = {"outer_scale": np.ones(1, np.float32)} if fmt.outer != "none" else {}
    with np.errstate(invalid="ignore"):                             # Inf · 0
        return codec_of(fmt).dequantize(fmt, Encoded(fields=fields, side=side)).reshape(-1)
