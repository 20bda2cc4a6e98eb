"""Bits of fibers: by hand, and run lengths against an encoder that writes them out."""

import numpy as np
import pytest

from sw.sparsity.sizes import bitmask_bits, coordinate_bits, offset_bits, run_length_bits, run_length_fillers


def runs(mask, run_bits):
    """Return (zeros before, is a value) of what a run-length encoder writes."""
    written, zeros = [], 0
    for filled in mask:
        if filled:
            written.append((zeros, True))
            zeros = 0
        elif zeros == (1 << run_bits) - 1 and any(mask):
            written.append((zeros, False))
            zeros = 0
        else:
            zeros += 1
    while written and not written[-1][1]:                   # zeros behind the last value are not stored
        written.pop()
    return written


@pytest.mark.parametrize("run_bits", [1, 2, 4])
@pytest.mark.parametrize("density", [0, 0.02, 0.2, 1])
def test_run_lengths(run_bits, density):
    mask = np.random.default_rng(1).random(500) < density
    written = runs(mask.tolist(), run_bits)
    assert run_length_fillers(mask, run_bits) == sum(not value for _, value in written)
    assert run_length_bits(mask, run_bits, 8) == len(written) * (run_bits + 8)


def test_the_others_by_hand():
    assert bitmask_bits(32, 5, 8) == 32 + 40
    assert coordinate_bits(8, 2, 8) == 2 * (3 + 8)
    assert coordinate_bits(5, 2, 8) == 2 * (3 + 8)
    assert coordinate_bits(4, 2, 16) == 36                      # 2:4 of float16: 9 bits a value
    assert coordinate_bits(1, 1, 8) == 8
    assert offset_bits(16, 15) == 17 * 4                        # Eyeriss v2: 16 activations in fields of 4 bits
    assert offset_bits(0, 0) == 0


@pytest.mark.parametrize(("call", "text"), [
    (lambda: bitmask_bits(4, 5, 8), r"nonzero must be between 0 and the fiber's 4 places, not 5"),
    (lambda: coordinate_bits(4, -1, 8), r"nonzero must be between 0 and the fiber's 4 places, not -1"),
    (lambda: run_length_bits(np.ones(3, bool), 0, 8), r"run_bits must be at least 1, not 0"),
    (lambda: offset_bits(-1, 4), r"size and most must not be negative, not -1 and 4"),
])
def test_what_is_impossible(call, text):
    with pytest.raises(ValueError, match=f"^{text}$"):
        call()
