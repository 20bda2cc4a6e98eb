"""Format conversion in Verilator: every word of up to 16 bits and a million of float32, from each format to each."""

import numpy as np
import pytest

from hw.arith.float_convert import FloatConvert
from hw.elements import ELEMENTS, FP32, FloatFormat
from sw.golden.arith.floating import decode, float_convert
from tb.arith.blocks import check_all
from tb.arith.words import ARITHMETIC, corners

NARROW = [fmt for name in ("float6_e3m2fn", "float4_e2m1fn") if isinstance(fmt := ELEMENTS[name], FloatFormat)]


def every_word(fmt: FloatFormat, seed: int) -> np.ndarray:
    """Return every word, or of float32 corners and a million, half of them in the range of narrower formats."""
    if fmt.bits <= 16:
        return np.arange(1 << fmt.bits, dtype=np.uint64)
    rng = np.random.default_rng(seed)
    wide = rng.integers(0, 1 << 32, 400_000, np.uint64)
    middle = rng.integers(127 - 30, 127 + 20, 400_000, np.uint64) << np.uint64(23) | wide & np.uint64(0x807F_FFFF)
    few_bits = middle[:200_000] & np.uint64(0xFFFF_8000) | rng.integers(0, 3, 200_000, np.uint64)     # ties and next to them
    return np.concatenate([np.array(corners(fmt), np.uint64), wide, middle, few_bits])


@pytest.mark.parametrize("mode", ["subnormals", "flushed", "saturate"])
def test_every_pair_of_formats(mode):
    cases = {}
    options = {"subnormals": mode != "flushed", "saturate": mode == "saturate"}
    for seed, source in enumerate(ARITHMETIC):
        words = every_word(source, seed)
        for target in (*ARITHMETIC, *NARROW):
            expected = float_convert(source, target, words, **options)
            assert not (np.isinf(decode(target, expected)).any() and mode == "saturate")
            block = FloatConvert(source=source, target=target, **options)
            cases[f"{source.name} to {target.name}"] = block, {"i": words}, expected
    check_all(f"float_convert_{mode}", cases)


def test_out_of_narrow_formats():
    cases = {}
    for source in NARROW:
        words = every_word(source, 0)
        cases[source.name] = FloatConvert(source=source, target=FP32), {"i": words}, float_convert(source, FP32, words)
    check_all("float_convert_widen", cases)
