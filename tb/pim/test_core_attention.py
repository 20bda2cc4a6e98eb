# amaranth: UnusedElaboratable=no
"""Decode attention as a command list on timing-checked DRAM, against the golden machine and the golden attention."""

import dataclasses

import numpy as np

from hw.pim.isa import PimErrorCause
from sw.golden.pim.attention import attend, finish, numerics_of, score_scale
from sw.pim.attention_list import HeadPlan, attention, setup
from tb.pim.test_core import SMALL, Bench, halves

CONFIG = dataclasses.replace(SMALL, sm_lanes=1)
PLAN = HeadPlan(config=CONFIG, head=1, head_dim=16, group=2, max_tokens=200)
TOKENS = (21, 8, 1)


def test_attention_by_a_command_list_is_the_golden_one():
    rng = np.random.default_rng(1)
    bench = Bench(CONFIG)
    keys, values = halves(rng, 64, 16), halves(rng, 64, 16)
    for row in range(2):
        for first, tokens in ((PLAN.first_row, keys), (PLAN.value_row, values)):
            bench.weights(*bench.machine.place(first, row), tokens[32 * row:32 * row + 32])
    queries = [halves(rng, 2, 16) for _ in TOKENS]
    for tokens, q in zip(TOKENS, queries, strict=True):
        bench.bias(np.zeros((2, 2, 8), np.float32))
        bench.x(q.reshape(2, 2, 8).transpose(1, 0, 2))
        bench.list([*setup(PLAN, 64, score_scale(16)), *attention(PLAN, tokens)], 2)
    bench.list("setm k_bursts, 1\nmrg aidx=1 xidx=2\neoc")
    bench.list("setm k_bursts, 1\nsfo aidx=1 value=65\neoc")
    bench.list("setm k_bursts, 1\nmvs xidx=4\neoc")
    outcomes = bench.run(stall=0.1, seed=1)
    for tokens, q, (found, golden, error, *_) in zip(TOKENS, queries, outcomes, strict=False):
        assert error is PimErrorCause.NONE
        np.testing.assert_array_equal(found, golden)
        expected = finish(attend(numerics_of(CONFIG, block=PLAN.block), q, keys[:tokens], values[:tokens], score_scale(16)))
        np.testing.assert_array_equal(found.transpose(1, 0, 2).reshape(2, 16), expected)
    assert [outcome[2] for outcome in outcomes[3:]] == [PimErrorCause.UNSUPPORTED, PimErrorCause.TOKENS_RANGE,
                                                        PimErrorCause.HEAD_RANGE]
