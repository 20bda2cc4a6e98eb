"""Quantizers of every family of formats: weights a second, against the obvious lines of numpy (`benchmarks.obvious`).

Both make codes and scales in the same run; packing them is in neither (`benchmarks.packing`). Times are of the processor, one
core, best of three.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from benchmarks.obvious import obvious
from hw.formats import format_named
from sw.formats.registry import codec_of

__all__ = ["NAMES", "SHAPE", "rows", "speed"]

NAMES = ("int8", "int4", "int4-g32", "int4-g128-int8", "int3-asym-g128", "int4-asym-g128", "float8_e4m3fn", "float8_e5m2",
         "p3-act", "mxfp8-e4m3-b32", "mxfp8-e5m2-b32", "mxfp6-e3m2-b32", "mxfp6-e2m3-b32", "mxfp4-b32", "mxint8-b32",
         "mxint4-b32", "nvfp4", "nvfp4-4over6", "razer", "razer-sv7", "razer-act",
         "bitmod4-g128", "bitmod3-g128", "nf4-g128", "sf4-g128",
         "fp4-g128", "fp3-g128", "fp4-sr-g128", "fp4-sp-g128",
         "2:4", "4:8", "hss-4:8-2:4", "tasd-2:4+2:8", "sdq-7:8-1:8int8-6:8fp4-g64", "bbs-average-g32", "bbs-shift-g32", "sherry",
         "kvquant4-g128", "dfloat11")
SHAPE = (512, 8192)


def speed(work: Callable[[], object], weights: int) -> float:
    """Return millions of weights a second."""
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return weights / max(best, 1e-9) / 1e6


def rows(names: Sequence[str] = NAMES, shape: tuple[int, int] = SHAPE) -> list[dict[str, Any]]:
    """Return a row for each format."""
    # Values of bfloat16, which every format takes.
    matrix = np.random.default_rng(0).standard_normal(shape).astype(ml_dtypes.bfloat16).astype(np.float32)
    table = []
    for name in names:
        fmt = format_named(name)
        codec = codec_of(fmt)
        codec.quantize(fmt, matrix[:1])                         # the tables are made once
        ours = speed(lambda fmt=fmt, codec=codec: codec.quantize(fmt, matrix), matrix.size)
        other = speed(lambda fmt=fmt: obvious(fmt, matrix), matrix.size)
        encoded = codec.quantize(fmt, matrix)
        back = speed(lambda fmt=fmt, codec=codec, e=encoded: codec.dequantize(fmt, e), matrix.size)
        table.append({"format": name, "obvious way": obvious(fmt, matrix[:1])[0], "M weights/s": ours, "obvious": other,
                      "ratio": ours / other, "back, M/s": back})
    return table
