"""Closed forms of rows, refresh, products and attention."""

import dataclasses
from fractions import Fraction

import pytest

from hw.pim.config import PimConfig
from hw.pim.presets import PIM_PRESETS
from sw.pim.cycles import (
    attention_bursts,
    gemm_cycles,
    refresh_factor,
    row_efficiency,
    stream_tck,
    tck_to_cycles,
    xbuf_reload_cycles,
)

DUPLEX = PIM_PRESETS["pim-duplex"]
MIXTRAL_MATRIX = 4096 * 14336 * 2           # bytes of one of an expert's three


@pytest.mark.parametrize(("name", "efficiency"), [
    ("pim-duplex", 0.753), ("pim-hbm", 0.815), ("pim-aim", 0.566), ("pim-attacc", 0.828),
])
def test_row_efficiency_of_one_bundle(name, efficiency):
    assert round(float(row_efficiency(PIM_PRESETS[name])), 3) == efficiency


def test_rows_in_turn_cost_one_activation():
    share = MIXTRAL_MATRIX // (5 * 32)                  # of one of the 32 pseudo-channels of 5 stacks
    assert round(float(row_efficiency(DUPLEX, share, ping_pong=True)), 3) == 0.998
    assert row_efficiency(DUPLEX, ping_pong=True) == 1
    assert stream_tck(DUPLEX, 8192 * 3, ping_pong=True) == 19 + 3 * 128
    assert stream_tck(DUPLEX, 8192 * 3) == 3 * 170
    assert stream_tck(DUPLEX, 8192 * 3 - 1) == 3 * 170
    assert row_efficiency(DUPLEX, 8192 * 5) == row_efficiency(DUPLEX)


def test_refresh_costs_nine_percent_of_the_bandwidth():
    assert round(float(1 / refresh_factor(DUPLEX)), 2) == 0.91
    assert stream_tck(DUPLEX, 8192, refresh=True) == 170 * Fraction(5070, 4614)
    assert round(float(row_efficiency(DUPLEX) / refresh_factor(DUPLEX)), 3) == 0.685


@pytest.mark.parametrize("n", [1, 7, 8, 9, 16, 17])
@pytest.mark.parametrize(("k", "m"), [(512, 32), (4096, 448), (1024, 64)])
def test_gemm_cycles_of_logic_pim(n, k, m):
    steady = gemm_cycles(DUPLEX, n, k, m)
    assert steady == -(-n // 8) * k * m * 2 // 128
    assert float(gemm_cycles(DUPLEX, n, k, m, ping_pong=False) / steady) == pytest.approx(1 / 0.753, rel=1e-3)
    assert float(gemm_cycles(DUPLEX, n, k, m, ping_pong=False, refresh=True) / steady) == pytest.approx(1 / 0.685, rel=1e-3)


def test_few_outputs_wait_for_the_x_buffer():
    assert xbuf_reload_cycles(DUPLEX, 32) == 0
    assert xbuf_reload_cycles(DUPLEX, 31) == 8              # 256 beats of 256 bits against 8 a row of weights
    assert gemm_cycles(DUPLEX, 8, 1024, 31) == 1024 * 31 // 64 + 2 * 8


def test_clocks_to_cycles():
    assert tck_to_cycles(DUPLEX, 128) == 64
    assert tck_to_cycles(PIM_PRESETS["pim-attacc"], 6) == 3


def test_attention_bursts():
    assert attention_bursts(DUPLEX, 4096, 128) == 4096                # a token a burst
    assert attention_bursts(PIM_PRESETS["pim-attacc"], 4096, 128) == 1024
    assert attention_bursts(PIM_PRESETS["pim-p3"], 4095, 128) == 1024
    amma = PIM_PRESETS["pim-amma"]
    assert amma.n_pch * amma.lanes // 128 == 12                       # tokens a cycle and cube


def test_turns_need_another_bundle_and_long_rows():
    with pytest.raises(ValueError, match=r"^ping_pong must be false where all 16 banks are read at once, not True$"):
        stream_tck(PIM_PRESETS["pim-aim"], 4096, ping_pong=True)
    quick = dataclasses.replace(PimConfig(), interval=2, clock_mhz=2000, timing="gddr6-aim", bundles=1)
    assert stream_tck(quick, 1, ping_pong=True) == 56 + 128
    buffer = PIM_PRESETS["pim-attacc-buffer"]                         # rows of two banks, bursts in turn
    assert stream_tck(buffer, 1, ping_pong=True) == 19 + 64 * 2
    assert stream_tck(buffer, 1) == 63 * 2 + 46
    short = dataclasses.replace(buffer, timing="hbm4-cube", pim_per_burst=1, clock_mhz=1790)
    with pytest.raises(ValueError, match=r"^a row must last 129 clocks to hide the turnaround, not 128$"):
        stream_tck(short, 1, ping_pong=True)
