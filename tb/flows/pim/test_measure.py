"""Cycles of products and attention on the RTL of a small channel, against the closed forms."""

import dataclasses

import pytest

from flows.pim.measure import measure_attention, measure_gemm
from hw.errors import ConfigError
from sw.pim.cycles import refresh_factor
from tb.flows.pim.test_sim import CONFIG, SIM


def test_a_product_without_refresh_takes_exactly_its_law():
    timing = measure_gemm(SIM, k=256, outputs=64, refresh=False)
    assert timing.cycles == timing.law == 256 * 64 / 16
    assert timing.run.counters["active"] == timing.law


def test_one_bundle_waits_for_rows_and_refreshes_cost_their_share():
    alone = measure_gemm(SIM, k=256, outputs=64, ping_pong=False, refresh=False)
    turnaround = CONFIG.dram.row_turnaround - CONFIG.interval
    assert alone.cycles == alone.law - turnaround * CONFIG.pim_per_burst / CONFIG.interval         # none behind the last row
    assert alone.cycles > 1.3 * measure_gemm(SIM, k=256, outputs=64, refresh=False).cycles
    refreshed = measure_gemm(SIM, k=1024, outputs=64)
    assert 1 <= refreshed.cycles / (refreshed.law / refresh_factor(CONFIG)) < 1.13


@pytest.mark.parametrize(("tokens", "heads"), [(1, 1), (33, 1), (64, 2), (512, 2), (300, 3)])
def test_attention_is_predicted_by_rows_refreshes_and_units(tokens, heads):
    timing = measure_attention(SIM, tokens=tokens, head_dim=32, heads=heads)
    assert timing.run.counters["active"] == 2 * heads * tokens * CONFIG.beats
    assert timing.cycles > timing.law / refresh_factor(CONFIG)
    assert timing.predicted == pytest.approx(timing.total, rel=0.05)


@pytest.mark.parametrize("options", [
    {"k": 256, "refresh": False}, {"k": 256, "refresh": False, "ping_pong": False}, {"k": 1024}, {"k": 1024, "ping_pong": False}])
def test_products_are_predicted(options):
    timing = measure_gemm(SIM, outputs=64, **options)
    assert timing.predicted == pytest.approx(timing.total, rel=0.05)


@pytest.mark.parametrize(("options", "text"), [
    ({"k": 100, "outputs": 64}, "k and outputs must be whole tiles, bursts and rows, and fit the output buffer, not 100 and 64"),
    ({"k": 64, "outputs": 256}, "k and outputs must be whole tiles, bursts and rows, and fit the output buffer, not 64 and 256"),
    ({"k": 2048, "outputs": 64, "refresh": False}, "a list without refreshes must have at most 128 commands, not 158"),
])
def test_sizes_that_do_not_fit_are_refused(options, text):
    with pytest.raises(ConfigError, match=f"^{text}$"):
        measure_gemm(SIM, **options)


def test_a_wrong_result_is_found_out():
    sim = type(SIM)(dataclasses.replace(CONFIG))
    sim.__dict__["library"] = SIM.library
    sim.entries = lambda words: SIM.entries(words) + 1
    with pytest.raises(RuntimeError, match=r"^the channel must leave what the golden machine leaves, and it does not$"):
        measure_gemm(sim, k=64, outputs=64)
