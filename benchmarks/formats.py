"""Quantizers of the scaled formats: weights a second, against the obvious lines of numpy in the same run.

The obvious lines divide the whole array by its block scales (without those of rows and tensors above them) and then cast with
`ml_dtypes`, round and clip, or search the midpoints between the levels (`np.searchsorted`), once for every special value. Both
make codes and scales; packing them is in neither. Times are of the processor, one core, best of three.
"""

import time
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from hw.elements import Codebook, Integer
from hw.families import ScaledFormat
from hw.formats import format_named
from sw.formats.scaled import ScaledCodec

NAMES = ("int8", "int4", "int4-g32", "int4-g128-int8", "int3-asym-g128", "int4-asym-g128", "float8_e4m3fn", "float8_e5m2",
         "p3-act", "mxfp8-e4m3-b32", "mxfp8-e5m2-b32", "mxfp6-e3m2-b32", "mxfp6-e2m3-b32", "mxfp4-b32", "mxint8-b32",
         "mxint4-b32", "nvfp4", "nvfp4-4over6", "razer", "razer-act", "bitmod4-g128", "bitmod3-g128", "nf4-g128", "sf4-g128",
         "fp4-g128", "fp3-g128", "fp4-sr-g128", "fp4-sp-g128")
SHAPE = (512, 8192)

Array = npt.NDArray[Any]


def _speed(work: Callable[[], object]) -> float:
    """Return millions of weights a second."""
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return SHAPE[0] * SHAPE[1] / best / 1e6


def _nearest(x: Array, levels: Array) -> tuple[Array, Array]:
    """Return index and value of the nearest level."""
    index = np.searchsorted((levels[1:] + levels[:-1]) / 2, x)
    return index.astype(np.uint8), levels[index]


def _by_search(fmt: ScaledFormat, w: Array) -> Array:
    """Code blocks (…, block) with every special value, and keep the best for each."""
    own = sorted(set(fmt.element.values))
    best, codes = None, None
    for special in fmt.specials or (None,):
        levels = np.array(own if special is None else sorted([*own, special]), np.float32)
        scale = np.abs(w).max(axis=-1, keepdims=True) / np.abs(levels).max()
        index, values = _nearest(w / scale, levels)
        error = ((values * scale - w) ** 2).sum(axis=-1)
        if best is None:
            best, codes = error, index
        else:
            better = error < best
            codes = np.where(better[..., None], index, codes)
            best = np.minimum(best, error)
    return codes


def _obvious(fmt: ScaledFormat, matrix: Array) -> tuple[str, Array]:
    """Quantize as one would at first; return how."""
    w = matrix.reshape(-1, fmt.block) if fmt.block else matrix
    if fmt.scale_rule == "none":
        return "cast", matrix.astype(getattr(ml_dtypes, fmt.element.name))
    if fmt.scale_rule == "range":
        low, high = w.min(axis=-1, keepdims=True), w.max(axis=-1, keepdims=True)
        scale = (high - low) / fmt.element.limits[1]
        return "rint, clip", np.clip(np.rint(w / scale) + np.rint(-low / scale), 0, fmt.element.limits[1]).astype(np.uint8)
    if fmt.specials or fmt.magnitudes_tried or isinstance(fmt.element, Codebook) or not hasattr(ml_dtypes, fmt.element.name):
        if not isinstance(fmt.element, Integer):
            return "searchsorted", _by_search(fmt, w)
    amax = np.abs(w).max(axis=-1, keepdims=True)
    scale = amax / fmt.element.limits[1]
    if fmt.scale_rule == "floor":
        scale = np.exp2(np.floor(np.log2(amax)) - np.floor(np.log2(fmt.element.limits[1])))
    if isinstance(fmt.element, Integer):
        top = fmt.element.maximum
        return "rint, clip", np.clip(np.rint(w / scale * 2**fmt.element.fraction_bits), -top, top).astype(np.int8)
    return "cast", (w / scale).astype(getattr(ml_dtypes, fmt.element.name))


def rows() -> list[dict[str, Any]]:
    """Return a row for each format."""
    matrix = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    codec, table = ScaledCodec(), []
    for name in NAMES:
        fmt = format_named(name)
        assert isinstance(fmt, ScaledFormat)
        codec.quantize(fmt, matrix[:1])                         # the tables are made once
        ours, other = _speed(lambda fmt=fmt: codec.quantize(fmt, matrix)), _speed(lambda fmt=fmt: _obvious(fmt, matrix))
        encoded = codec.quantize(fmt, matrix)
        table.append({"format": name, "obvious way": _obvious(fmt, matrix[:1])[0], "M weights/s": ours, "obvious": other,
                      "ratio": ours / other, "back, M/s": _speed(lambda fmt=fmt, e=encoded: codec.dequantize(fmt, e))})
    return table
