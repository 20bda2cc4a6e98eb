# amaranth: UnusedElaboratable=no
"""Significand and exponent → float32: widths, exponents and ranges of all kinds against one rounding of float64."""

import numpy as np
import pytest

from hw.arith.float_round import FloatRound
from hw.errors import ConfigError
from tb.arith.decode.bank import Bank

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


@pytest.mark.parametrize(("change", "text"), [
    ({"width": 0}, r"^FloatRound\.width must be at least 1, not 0$"),
    ({"exponent_width": -1}, r"^FloatRound\.exponent_width must be at least 0, not -1$"),
])
def test_bad_widths(change, text):
    with pytest.raises(ConfigError, match=text):
        FloatRound(**{"width": 8, "exponent_width": 2, "lsb": 0, **change})
