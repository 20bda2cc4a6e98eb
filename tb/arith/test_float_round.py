# amaranth: UnusedElaboratable=no
"""Significand and exponent → float32: widths, exponents and ranges of all kinds against one rounding of float64."""

import numpy as np
import pytest

from hw.arith.float_round import FloatRound
from hw.elements import ELEMENTS
from hw.errors import ConfigError
from sw.golden.arith.floating import encode
from tb.arith.blocks import check_all, mode_name
from tb.arith.decode.bank import Bank
from tb.arith.words import ARITHMETIC

# Width, bits of the exponent, lsb. All magnitudes and exponents of the first ones; what float64 holds exactly of the others.
SHAPES = ((1, 0, 0), (1, 0, -149), (1, 0, -150), (1, 0, 127), (1, 0, 128), (4, 0, -151), (4, 9, -160), (8, 3, -4), (1, 9, -300),
          (12, 4, 110), (24, 3, -150), (25, 8, -150), (26, 4, -152), (40, 8, -170), (48, 5, 90), (53, 9, -250), (30, 0, -8),
          (27, 6, -200), (49, 0, -174), (50, 2, -190))


def vectors_of(width, exponent_width, seed):
    """Return magnitudes and exponents: every pair, or random ones of every length, with runs of ones and zeros, and ties."""
    rng = np.random.default_rng(seed)
    if width + exponent_width <= 16:
        magnitude, exponent = (axis.ravel() for axis in np.meshgrid(np.arange(1 << width), np.arange(1 << exponent_width)))
        return magnitude.astype(np.uint64), exponent
    count = 20_000
    magnitude = rng.integers(0, 1 << width, count, np.uint64) >> rng.integers(0, width, count).astype(np.uint64)
    low = rng.integers(0, width, count).astype(np.uint64)
    kept = magnitude >> low << low
    magnitude = np.where(rng.integers(0, 2, count), magnitude, kept + rng.integers(-1, 2, count).astype(np.uint64))
    magnitude &= np.uint64((1 << width) - 1)
    return magnitude, rng.integers(0, 1 << exponent_width, count)


@pytest.fixture(scope="module")
def results():
    blocks = {shape: FloatRound(width=shape[0], exponent_width=shape[1], lsb=shape[2]) for shape in SHAPES}
    vectors = {}
    for seed, (width, exponent_width, lsb) in enumerate(SHAPES):
        magnitude, exponent = vectors_of(width, exponent_width, seed)
        rng = np.random.default_rng(seed)
        vectors[width, exponent_width, lsb] = {
            "magnitude": magnitude, "enable": 1, "negative": rng.integers(0, 2, len(magnitude)),
            "nan": rng.random(len(magnitude)) < 0.05, "inf": rng.random(len(magnitude)) < 0.05,
            **({"exponent": exponent} if exponent_width else {})}
    outputs = Bank(blocks, "float_round").run(vectors)
    return {shape: (vectors[shape], outputs[shape]["o"]) for shape in SHAPES}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rounded_once(results, shape):
    given, words = results[shape]
    exact = np.ldexp(given["magnitude"].astype(np.float64), given.get("exponent", 0) + shape[2])
    exact = np.where(given["inf"], np.inf, exact) * np.where(given["negative"], -1.0, 1.0)
    with np.errstate(over="ignore"):
        want = np.where(given["nan"], np.nan, exact).astype(np.float32).view(np.uint32)
    np.testing.assert_array_equal(words, want)


def test_the_shapes_reach_every_edge(results):
    words = np.concatenate([words for given, words in results.values()])
    exact = np.concatenate([np.ldexp(given["magnitude"].astype(np.float64), given.get("exponent", 0) + shape[2])
                            for shape, (given, _) in results.items()])
    finite = np.concatenate([~given["nan"] & ~given["inf"] for given, _ in results.values()])
    magnitude = (words & np.uint64(0x7FFF_FFFF)).astype(np.uint32).view(np.float32).astype(np.float64)
    subnormal = finite & (magnitude < 2.0**-126) & (exact > 0)
    assert (subnormal & (magnitude == exact)).sum() > 1000
    assert (subnormal & (magnitude > exact)).sum() > 1000
    assert (subnormal & (magnitude < exact)).sum() > 1000
    assert (finite & np.isinf(magnitude)).sum() > 1000
    assert (finite & ~subnormal & (magnitude != exact)).sum() > 1000


@pytest.mark.parametrize("saturate", [False, True])
def test_other_formats(saturate):
    """Magnitudes of 20 bits over the whole range of the exponent, with and without a bound of leading zeros."""
    cases = {}
    for seed, fmt in enumerate((*ARITHMETIC, ELEMENTS["float6_e3m2fn"], ELEMENTS["float4_e2m1fn"])):
        rng = np.random.default_rng(seed)
        lsb = 1 - fmt.bias - fmt.mantissa_bits - 24
        exponent_width = (fmt.exponent_max + fmt.mantissa_bits + 12).bit_length()
        for zeros in (None, 3, 1, 0):
            magnitude, exponent = vectors_of(20, exponent_width, seed)
            if zeros is not None:                                       # a leading one among the first of them, or nothing
                magnitude |= np.uint64(1 << 19) >> rng.integers(0, zeros + 1, magnitude.size, np.uint64)
                magnitude[rng.random(magnitude.size) < 0.01] = 0
            for subnormals in (False, True):
                options = {"fmt": fmt, "subnormals": subnormals, "saturate": saturate}
                block = FloatRound(width=20, exponent_width=exponent_width, lsb=lsb, zeros=zeros, **options)
                assert block.latency == (2 if zeros is None else 1)
                flags = {name: rng.random(magnitude.size) < 0.02 for name in ("nan", "inf")}
                negative = rng.integers(0, 2, magnitude.size)
                exact = np.ldexp(magnitude.astype(np.float64), exponent + lsb)
                exact = np.where(flags["nan"], np.nan, np.where(flags["inf"], np.inf, exact)) * np.where(negative, -1.0, 1.0)
                cases[f"{mode_name(fmt, subnormals)} {zeros}"] = (
                    block, {"magnitude": magnitude, "exponent": exponent, "negative": negative, **flags},
                    encode(fmt, exact, subnormals=subnormals, saturate=saturate))
    check_all(f"float_round_formats_{saturate:d}", cases)


@pytest.mark.parametrize("subnormals", [False, True])
def test_a_sticky_bit_stands_for_all_below(subnormals):
    """float16 of 40 bits, and of their upper 13 with a bit that says whether the others are 0."""
    fmt = ARITHMETIC[1]
    rng = np.random.default_rng(4)
    long = rng.integers(1 << 38, 1 << 40, 50_000, np.uint64)
    keep = rng.integers(20, 39, long.size, np.uint64)
    long = np.where(rng.integers(0, 2, long.size), long >> keep << keep, long)
    exponent = rng.integers(0, 64, long.size)
    sticky = long >> np.uint64(26) | (long & np.uint64((1 << 26) - 1) != 0)
    exact = np.ldexp(long.astype(np.float64), exponent - 78)
    block = FloatRound(fmt=fmt, width=14, exponent_width=6, lsb=-52, subnormals=subnormals)
    check_all(f"float_round_sticky_{subnormals:d}", {"sticky": (
        block, {"magnitude": sticky, "exponent": exponent, "negative": 0, "nan": 0, "inf": 0},
        encode(fmt, exact, subnormals=subnormals))})


@pytest.mark.parametrize(("change", "text"), [
    ({"width": 0}, r"^FloatRound\.width must be at least 1, not 0$"),
    ({"exponent_width": -1}, r"^FloatRound\.exponent_width must be at least 0, not -1$"),
    ({"zeros": 8}, r"^FloatRound\.zeros must be between 0 and width - 1 = 7, not 8$"),
    ({"fmt": ELEMENTS["float8_e8m0fnu"]},
     r"^FloatRound\.fmt must have a sign, a zero, 1 to 24 mantissa bits and 2 to 8 exponent bits, not 'float8_e8m0fnu'$"),
])
def test_bad_widths(change, text):
    with pytest.raises(ConfigError, match=text):
        FloatRound(**{"width": 8, "exponent_width": 2, "lsb": 0, **change})
