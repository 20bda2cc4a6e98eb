"""AttAcc in small on the RTL: attention with all banks at once, a segment each bank group's, heads in pairs, refreshes."""

import dataclasses

import numpy as np
import pytest

from flows.pim.measure import measure_attention
from flows.pim.rtl_device import RtlPimDevice
from flows.pim.sim import PimSim
from hw.pim.presets import PIM_PRESETS
from sw.golden.pim.attention import attend, finish, numerics_of, score_scale
from sw.pim.cache_plan import CachePlan, attention_inputs, attention_outputs, attention_program

# As pim-attacc: units rest two cycles of six, a row of all banks waits for the next, and a row is many tokens.
CONFIG = dataclasses.replace(
    PIM_PRESETS["pim-tiny"], n_pch=1, streams=16, interval=12, clock_mhz=500, pim_per_burst=6, rows_x=1, lanes=64, segments=4,
    k_tile=512, xbuf_entries=128, obuf_entries=256, sm_lanes=4, bundles=1, timing="hbm2", dram_rows=64)
SIM = PimSim(CONFIG, commands=1024)


@pytest.mark.parametrize(("tokens", "heads"), [(512, 4), (1024, 2), (1024, 4), (2048, 2)])
def test_pairs_of_heads_take_what_their_rows_and_refreshes_take(tokens, heads):
    dram = CONFIG.dram
    timing = measure_attention(SIM, tokens=tokens, head_dim=32, heads=heads)
    macs = 2 * tokens // 8                      # of 16 banks, 16 elements each: 8 tokens a burst
    clocks = heads * (macs * 12 + macs / dram.columns * (dram.row_turnaround - 12)) * dram.refi / (dram.refi - dram.rfc)
    assert timing.law == pytest.approx(clocks / 2)
    assert timing.cycles == pytest.approx(timing.law, rel=0.05)
    assert timing.predicted == pytest.approx(timing.total, rel=0.05)


def test_one_head_shows_the_softmax_between_its_products():
    one = measure_attention(SIM, tokens=512, head_dim=32)
    two = measure_attention(SIM, tokens=512, head_dim=32, heads=2)
    assert one.cycles > 1.05 * two.cycles / 2


def test_tokens_that_are_appended_and_fill_no_step_are_attended_to_as_the_golden_attention_does():
    rng = np.random.default_rng(3)
    plan = CachePlan(config=CONFIG, channels=1, layers=1, kv_heads=3, group=1, head_dim=32, max_tokens=20)
    session = RtlPimDevice(CONFIG, 1).open()
    rows = rng.standard_normal((3, 3, 18, 32)).astype(np.float16).astype(np.float32)
    for tokens in range(1, 19):
        q, k, v = rows[:, :, tokens - 1]
        found = attention_outputs(plan, session.run(attention_program(plan, 0, tokens, score_scale(32)), None,
                                                    attention_inputs(plan, q, k, v)).outputs)
        for head in range(3):
            state = attend(numerics_of(CONFIG, block=plan.head(0, head).block), q[head:head + 1], rows[1, head, :tokens],
                           rows[2, head, :tokens], score_scale(32))
            np.testing.assert_array_equal(found[head:head + 1], finish(state))
    session.close()
