"""P3-LLM's cycle law."""

import pytest

from sw.pim.p3 import linear_cycles, roofline_ratio


@pytest.mark.parametrize(("batch", "cycles"), [(1, 10048), (2, 10112), (4, 20224)])
def test_a_layer_of_4096(batch, cycles):
    assert linear_cycles(4096, 4096, batch) == cycles


def test_each_part_counts():
    assert linear_cycles(1, 1, 1) == 4 + 28 + 32
    assert linear_cycles(128, 2049, 1) == 2 * (32 * 4 + 28 + 32)
    assert linear_cycles(128, 1, 2, input_bits=16) == 32 * 4 + 32 + 64       # writing the inputs outlasts the new row
    assert linear_cycles(4096, 4096, 4, enhanced=False) == 4 * 10048


def test_eight_times_the_roofline_of_hbm_pim():
    assert roofline_ratio() == 8


def test_nothing_is_refused():
    with pytest.raises(ValueError, match=r"^channels must be at least 1, not 0$"):
        linear_cycles(1, 1, 1, channels=0)
    with pytest.raises(ValueError, match=r"^batch must be at least 1, not 0$"):
        linear_cycles(1, 1, 0)
