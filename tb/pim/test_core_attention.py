# amaranth: UnusedElaboratable=no
"""Decode attention as a command list on timing-checked DRAM, against the golden machine and the golden attention."""

import dataclasses

import numpy as np

from hw.pim.isa import PimErrorCause, PimOpcode
from sw.golden.pim.attention import attend, attend_three_stage, finish, numerics_of, score_scale
from sw.pim.assembler import assemble, command
from sw.pim.attention_list import HeadPlan, append_token, attention, setup
from tb.pim.test_core import SMALL, Bench, halves

CONFIG = dataclasses.replace(SMALL, sm_lanes=1)
PLAN = HeadPlan(config=CONFIG, head=1, head_dim=16, group=2, max_tokens=200)
APPENDED = 3
TOKENS = (21 + APPENDED, 8)
COPIES = ("setm k_bursts, 1\nwrx cnt=3\nwrcp grp=3 row=60 col=4 cnt=1\nrdcp grp=3 row=60 col=4 cnt=1 xidx=6\n"
          "mac grp=3 row=60 col=4 cnt=1 xidx=6 aidx=4 clr last\nrdacc aidx=4 cnt=1\neoc")
REFUSED = {
    "mrg aidx=1 xidx=2": "UNSUPPORTED", "sfo aidx=1 value=65": "TOKENS_RANGE", "sfm aidx=1 value=65": "TOKENS_RANGE",
    "mvs xidx=4": "HEAD_RANGE", "kvap": "HEAD_RANGE",
    "setm head_dim, 16\nkvap": "TOKENS_RANGE", "setm head_dim, 16\nsetm max_tokens, 9\nseth k_row, 0, 64\nkvap": "ROW_RANGE",
    "sfo aidx=1 value=1": "HEAD_RANGE", "setm k_bursts, 257\nmac": "HEAD_RANGE", "setm operands, 4\nmac": "ILLEGAL_COMMAND",
    "wrcp col=31 cnt=1": "COLUMN_RANGE", "setm head_dim, 16\nseth output, 1, 15\nmrg aidx=1 xidx=1": "OBUF_RANGE",
}


def slices(rows):
    """Return (n, 16) rows as slices of (X, lanes); rows that are missing are zero."""
    padded = np.zeros((2, 16), np.float32)
    padded[:len(rows)] = rows
    return padded.reshape(2, 2, 8).transpose(1, 0, 2)


def test_the_three_stage_softmax_is_the_golden_one():
    rng = np.random.default_rng(5)
    bench = Bench(CONFIG)
    keys, values = halves(rng, 24, 16), halves(rng, 24, 16)
    for first, tokens in ((PLAN.first_row, keys), (PLAN.value_row, values)):
        bench.weights(*bench.machine.place(first, 0), tokens)
    for count in (24, 9):
        q = halves(rng, 2, 16)
        bench.x(slices(q))
        bench.list([*setup(PLAN, 24, score_scale(16)), *assemble(
            f"wrx cnt=1\nmac row={PLAN.first_row} cnt={count - 1} aidx=2 clr last\nmvs aidx=2 cnt={count - 1} xidx=1\n"
            f"sfm aidx=1 value={count}\nmvx aidx=1 xidx=2 cnt={(count - 1) // 8}\n"
            f"mac mode=bcast row={PLAN.value_row} cnt={count - 1} xidx=16 clr last\nrdacc cnt=1\neoc")], 2)
        expected = attend_three_stage(numerics_of(CONFIG), q, keys[:count], values[:count], score_scale(16))
        np.testing.assert_array_equal(bench.machine.host_out[-2:], expected.reshape(2, 2, 8).transpose(1, 0, 2))
    for found, golden, error, *_ in bench.run(stall=0.0, seed=5):
        assert error is PimErrorCause.NONE
        np.testing.assert_array_equal(found, golden)


def test_tokens_are_appended_and_attended_to_as_the_golden_attention_does():
    rng = np.random.default_rng(1)
    bench = Bench(CONFIG)
    keys, values = halves(rng, 24, 16), halves(rng, 24, 16)
    for first, tokens in ((PLAN.first_row, keys), (PLAN.value_row, values)):
        bench.weights(*bench.machine.place(first, 0), tokens[:21])
    words = setup(PLAN, 21, score_scale(16))
    for token in range(21, 21 + APPENDED):
        bench.x(slices(keys[token][None]))
        bench.x(slices(values[token][None]))
        words += append_token(PLAN)
    # What is appended is read back at once, by the product with a row of X.
    bench.x(slices(halves(rng, 2, 16)))
    bench.list([*words, *assemble("setm k_bursts, 1\nwrx cnt=1 xidx=4\nmac col=20 cnt=3 xidx=4 aidx=20 clr last\n"
                                  "rdacc aidx=20 cnt=3"), command(PimOpcode.EOC)], 4)
    queries = [halves(rng, 2, 16) for _ in TOKENS]
    for tokens, q in zip(TOKENS, queries, strict=True):
        bench.bias(np.zeros((2, 2, 8), np.float32))
        bench.x(slices(q))
        bench.list([*setup(PLAN, 24, score_scale(16)), *attention(PLAN, tokens)], 2)
    bench.x(halves(rng, 4, 2, 8))
    bench.list(COPIES, 2)
    for text in REFUSED:
        bench.list(f"setm k_bursts, 1\n{text}\neoc")
    outcomes = bench.run(stall=0.1, seed=1)
    for found, golden, error, *_ in outcomes[:4]:
        assert error is PimErrorCause.NONE
        np.testing.assert_array_equal(found[:, :, 0], golden[:, :, 0])
    for tokens, q, (found, golden, *_) in zip(TOKENS, queries, outcomes[1:3], strict=True):
        np.testing.assert_array_equal(found, golden)
        expected = finish(attend(numerics_of(CONFIG, block=PLAN.block), q, keys[:tokens], values[:tokens], score_scale(16)))
        np.testing.assert_array_equal(found.transpose(1, 0, 2).reshape(2, 16), expected)
    assert [outcome[2] for outcome in outcomes[4:]] == [PimErrorCause[cause] for cause in REFUSED.values()]
