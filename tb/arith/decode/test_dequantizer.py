# amaranth: UnusedElaboratable=no
"""Dequantizers of scaled formats against the codec, bit by bit: every code with every special value and every scale."""

import numpy as np
import pytest

from hw.arith.decode.dequantizer import Dequantizer
from tb.arith.decode.bank import Bank
from tb.arith.decode.scaled_cases import CASES, codes_of, golden

QUIET_NAN = 0x7FC0_0000


def check(words, want):
    """Compare words with float32 values; a NaN must be the quiet one."""
    expected = np.where(np.isnan(want), QUIET_NAN, want.view(np.uint32).astype(np.uint64))
    wrong = np.flatnonzero(words != expected)
    assert not wrong.size, f"vector {wrong[0]}: {int(words[wrong[0]]):#010x}, not {int(expected[wrong[0]]):#010x}"


@pytest.fixture(scope="module")
def results():
    """Name → codes of each vector, words."""
    codes = {name: codes_of(fmt) for name, fmt in CASES.items()}
    bank = Bank({name: Dequantizer(fmt) for name, fmt in CASES.items()}, "dequantizers")
    outputs = bank.run({name: {**codes[name], "enable": 1} for name in CASES})
    return {name: (codes[name], outputs[name]["o"]) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_every_code(results, name):
    codes, words = results[name]
    check(words, golden(CASES[name], codes))


def test_the_cases_reach_every_edge(results):
    """Subnormal results, those that are rounded, overflow, NaN, both zeros."""
    seen = {"subnormal": 0, "inf": 0, "nan": 0, "+0": 0, "-0": 0}
    for _, words in results.values():
        exponent, mantissa = words >> np.uint64(23) & np.uint64(255), words & np.uint64(0x7F_FFFF)
        for name, where in (("subnormal", (exponent == 0) & (mantissa > 0)), ("inf", (exponent == 255) & (mantissa == 0)),
                            ("nan", words == QUIET_NAN), ("+0", words == 0), ("-0", words == 1 << 31)):
            seen[name] += int(where.sum())
    assert min(seen.values()) > 100, seen
