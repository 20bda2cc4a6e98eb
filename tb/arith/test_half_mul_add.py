"""Multiply-add of float16 words: millions of random triples, cancellations and every corner, against float32 arithmetic."""

import itertools

import numpy as np
import pytest

from flows.block_sim import BlockSim
from hw.arith.half_mul_add import HalfMulAdd
from hw.elements import FP16
from tb.arith.pipeline import run_pipeline
from tb.arith.words import corners

LATENCY = HalfMulAdd.latency


def exact_sum(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Return the words of a · b + c: the product is exact in float32 (22 bits, 2^-48 to 2^32), so only the sum rounds."""
    a, b, c = (words.astype(np.uint16).view(np.float16).astype(np.float32) for words in (a, b, c))
    return (a * b + c).view(np.uint32)


def finite(rng: np.random.Generator, count: int, subnormal: float = 0.1) -> np.ndarray:
    """Return finite float16 words, a part of them subnormal or zero."""
    words = rng.integers(0, 1 << 16, count, dtype=np.uint16)
    words[(words & 0x7C00 == 0x7C00) | (rng.random(count) < subnormal)] &= 0x83FF
    return words


@pytest.fixture(scope="module")
def sim() -> BlockSim:
    return BlockSim(HalfMulAdd(), "half_mul_add")


def check(sim: BlockSim, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    got = sim.run({"enable": 1, "a": a, "b": b, "c": c}, latency=LATENCY)["o"]
    expected = exact_sum(a, b, c)
    wrong = np.flatnonzero(got != expected)
    assert not wrong.size, [hex(int(words[wrong[0]])) for words in (a, b, c, got, expected)]
    return got


def test_the_reference_rounds_once():
    """A few sums done in integers: 2^-48 is the unit of them all."""
    rng = np.random.default_rng(9)
    a, b, c = (finite(rng, 300) for _ in range(3))
    for x, y, z, word in zip(a, b, c, exact_sum(a, b, c), strict=True):
        units = [int(w.view(np.float16).astype(np.float64) * 2.0**24) for w in (x, y, z)]
        exact = units[0] * units[1] + (units[2] << 24)
        size = abs(exact)
        drop = max(0, size.bit_length() - 24)
        kept, rest = size >> drop, size & ((1 << drop) - 1)
        kept += rest > 1 << drop >> 1 or (rest == 1 << drop >> 1 and drop > 0 and kept & 1)
        assert abs(float(word.view(np.float32))) * 2.0**48 == kept << drop
        assert exact == 0 or (word >> 31 == 1) == (exact < 0)


def test_random_triples(sim):
    rng = np.random.default_rng(1)
    check(sim, *(finite(rng, 300_000) for _ in range(3)))


def test_terms_that_cancel(sim):
    rng = np.random.default_rng(2)
    a, b = finite(rng, 400_000, 0.2), finite(rng, 400_000, 0.05)
    with np.errstate(over="ignore"):
        c = (-(a.view(np.float16).astype(np.float32) * b.view(np.float16))).astype(np.float16).view(np.uint16)
    c += rng.integers(-1, 2, c.size).astype(np.uint16)
    c[c & 0x7C00 == 0x7C00] &= 0x83FF
    got = check(sim, a, b, c)
    assert (got & 0x7FFF_FFFF == 0).sum() > 500


def test_terms_of_close_exponents(sim):
    """Middle values: all alignments of up to a few places, where guard, round and sticky bit decide."""
    rng = np.random.default_rng(3)
    exponents = [rng.integers(low, high, 300_000) << 10 for low, high in ((11, 18), (11, 18), (4, 24))]
    check(sim, *((exponent | rng.integers(0, 1024, exponent.size) | rng.integers(0, 2, exponent.size) << 15).astype(np.uint16)
                 for exponent in exponents))


def test_corners(sim):
    words = [word for word in corners(FP16) if word & 0x7C00 != 0x7C00]
    triples = np.array(list(itertools.product(words, repeat=3)), np.uint16)
    check(sim, *triples.T)
    signs = {triple: int(exact_sum(*(np.array([w]) for w in triple))[0]) >> 31 for triple in ((0, 0, 0), (0, 0x8000, 0x8000))}
    assert signs == {(0, 0, 0): 0, (0, 0x8000, 0x8000): 1}


def test_enable_holds_the_pipeline():
    rng = np.random.default_rng(4)
    a, b, c = (finite(rng, 400) for _ in range(3))
    operands = {"a": a.tolist(), "b": b.tolist(), "c": c.tolist()}
    assert run_pipeline(HalfMulAdd(), operands, stall=0.3, seed=4) == exact_sum(a, b, c).tolist()
