# amaranth: UnusedElaboratable=no
"""Hsiao's code: all errors of small words, all single and double errors of some large ones, and what the matrix promises."""

import random
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from hw.errors import ConfigError
from hw.protect.hsiao import HsiaoDecoder, HsiaoEncoder, hsiao_check_bits, hsiao_columns
from sw.golden.protect.hsiao import check_matrix, decode, encode
from tb.arith.combinational import evaluate


@pytest.mark.parametrize(("width", "bits"), [(1, 3), (2, 4), (4, 4), (8, 5), (16, 6), (26, 6), (32, 7), (64, 8), (128, 9)])
def test_as_many_check_bits_as_the_literature_says(width: int, bits: int) -> None:
    assert hsiao_check_bits(width) == len(check_matrix(width)) == bits


@pytest.mark.parametrize("width", [*range(1, 41), 57, 64, 72, 120, 128, 256])
def test_matrix(width: int) -> None:
    """Different odd columns, as light as there are, in rows that are nearly alike; the same as the golden model's."""
    matrix = check_matrix(width)
    assert list(matrix.T[:width] @ (1 << np.arange(len(matrix)))) == list(hsiao_columns(width))
    assert len(set(hsiao_columns(width))) == width
    weights = matrix.sum(0)
    assert np.all(weights % 2 == 1)
    assert np.all(np.diff(weights[:width].astype(int)) >= 0)
    assert np.ptp(matrix.sum(1)) <= (1 if width in (4, 8, 16, 32, 64, 128, 256) else 2)


def test_the_ones_of_hsiao() -> None:
    """(39,32) and (72,64) have the numbers of ones that the paper gives: 103 and 216."""
    assert check_matrix(32).sum() == 103
    assert check_matrix(64).sum() == 216


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 8, 16, 26, 32, 33, 64, 128])
def test_encoder(width: int) -> None:
    dut, rng = HsiaoEncoder(width=width), random.Random(width)
    words = range(1 << width) if width <= 8 else [0, (1 << width) - 1, *(rng.getrandbits(width) for _ in range(100))]

    async def bench(ctx: Any) -> None:
        for word in words:
            ctx.set(dut.data, word)
            assert ctx.get(dut.check) == encode(word, width), f"{word:#x}"

    evaluate(dut, bench)


def check_decoder(width: int, cases: list[tuple[int, tuple[int, ...]]]) -> dict[int, list[tuple[bool, bool]]]:
    """Run the decoder on words with wrong bits, compare with the golden model, return number of wrong bits → flags."""
    dut = HsiaoDecoder(width=width)
    flags: dict[int, list[tuple[bool, bool]]] = {}

    async def bench(ctx: Any) -> None:
        for word, places in cases:
            right = word | encode(word, width) << width
            stored = right ^ sum(1 << place for place in places)
            ctx.set(dut.data, stored & ((1 << width) - 1))
            ctx.set(dut.check, stored >> width)
            out = ctx.get(dut.data_out), ctx.get(dut.check_out), bool(ctx.get(dut.corrected)), bool(ctx.get(dut.detected))
            assert out == decode(stored & ((1 << width) - 1), stored >> width, width), f"{word:#x} with {places}"
            if len(places) < 2:
                assert out[0] | out[1] << width == right
            flags.setdefault(len(places), []).append(out[2:])

    evaluate(dut, bench)
    return flags


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5])
def test_every_single_and_double_error_of_every_small_word(width: int) -> None:
    total = width + hsiao_check_bits(width)
    errors = [(), *((place,) for place in range(total)), *combinations(range(total), 2)]
    flags = check_decoder(width, [(word, error) for word in range(1 << width) for error in errors])
    assert set(flags[0]) == {(False, False)}
    assert set(flags[1]) == {(True, False)}
    assert set(flags[2]) == {(False, True)}


@pytest.mark.parametrize("width", [8, 32, 64])
def test_every_single_and_many_double_errors_of_a_large_word(width: int) -> None:
    rng, total = random.Random(width), width + hsiao_check_bits(width)
    doubles = list(combinations(range(total), 2))
    errors = [(), *((place,) for place in range(total)), *rng.sample(doubles, min(400, len(doubles)))]
    flags = check_decoder(width, [(rng.getrandbits(width), error) for error in errors])
    assert set(flags[0]) == {(False, False)}
    assert set(flags[1]) == {(True, False)}
    assert set(flags[2]) == {(False, True)}


def test_a_shortened_code_detects_some_triple_errors() -> None:
    rng = random.Random(3)
    flags = check_decoder(32, [(rng.getrandbits(32), tuple(rng.sample(range(39), 3))) for _ in range(300)])[3]
    assert set(flags) == {(True, False), (False, True)}


@pytest.mark.parametrize("block", [HsiaoEncoder, HsiaoDecoder])
def test_bad_width(block: Any) -> None:
    with pytest.raises(ConfigError, match=r"^the width of a code word's data must be at least 1, not 0$"):
        block(width=0)
