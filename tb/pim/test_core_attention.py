# amaranth: UnusedElaboratable=no
"""Decode attention as a command list on timing-checked DRAM, against the golden machine and the golden attention."""

import dataclasses

import numpy as np

from hw.pim.isa import PimErrorCause, PimOpcode
from sw.golden.pim.attention import attend, attend_three_stage, finish, merge, numerics_of, score_scale
from sw.pim.assembler import assemble, command
from sw.pim.attention_list import append_tokens, attention, setup
from sw.pim.head_plan import HeadPlan
from tb.pim.test_core import SMALL, Bench, halves

CONFIG = dataclasses.replace(SMALL, sm_lanes=2)
PLAN = HeadPlan(config=CONFIG, head=1, head_dim=16, group=2, max_tokens=200)
APPENDED = 3
TOKENS = (21 + APPENDED, 8)
COPIES = ("setm k_beats, 2\nwrx cnt=3\nwrcp grp=3 row=60 col=4 cnt=1\nrdcp grp=3 row=60 col=4 cnt=1 xidx=6\n"
          "mac grp=3 row=60 col=4 cnt=1 xidx=6 aidx=4 clr last\nrdacc aidx=4 cnt=1\neoc")
REFUSED = {
    "sfo aidx=1 value=65": "TOKENS_RANGE", "sfm aidx=1 value=65": "TOKENS_RANGE",
    "mvs xidx=4": "HEAD_RANGE", "kvap": "HEAD_RANGE",
    "setm head_dim, 16\nkvap": "TOKENS_RANGE", "setm head_dim, 16\nsetm max_tokens, 9\nseth k_row, 0, 64\nkvap": "ROW_RANGE",
    "sfo aidx=1 value=1": "HEAD_RANGE", "setm k_beats, 513\nmac": "HEAD_RANGE", "setm operands, 4\nmac": "ILLEGAL_COMMAND",
    "wrcp col=31 cnt=1": "COLUMN_RANGE", "setm head_dim, 16\nseth output, 1, 31\nmrg aidx=1 xidx=1": "OBUF_RANGE",
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
        bench.list([*setup([PLAN], 24, score_scale(16)), *assemble(
            f"wrx cnt=1\nmac row={PLAN.first_row} cnt={count - 1} aidx=2 clr last\nmvs aidx=2 cnt={count - 1} xidx=1\n"
            f"sfm aidx=1 value={count}\nmvx aidx=1 xidx=2 cnt={(count - 1) // 8}\n"
            f"mac mode=bcast row={PLAN.value_row} cnt={count - 1} xidx=16 clr last\nrdacc cnt=1\neoc")], 2)
        expected = attend_three_stage(numerics_of(CONFIG), q, keys[:count], values[:count], score_scale(16))
        np.testing.assert_array_equal(bench.machine.host_out[-2:], expected.reshape(2, 2, 8).transpose(1, 0, 2))
    for found, golden, error, *_ in bench.run(stall=0.0, seed=5):
        assert error is PimErrorCause.NONE
        np.testing.assert_array_equal(found, golden)


def test_parts_are_merged_in_the_die_and_by_the_host():
    rng = np.random.default_rng(6)
    bench = Bench(CONFIG)
    keys, values, q = halves(rng, 16, 16), halves(rng, 16, 16), halves(rng, 2, 16)
    for first, tokens in ((PLAN.first_row, keys), (PLAN.value_row, values)):
        bench.weights(*bench.machine.place(first, 0), tokens)
    part = attention([PLAN], 8)[:-2]                # of the first 8 tokens; without O / l
    rest = (f"wracc aidx=4 cnt=1\nmac col=8 cnt=7 aidx=8 clr last\nmvs aidx=8 cnt=7 xidx=2\nsfo aidx=2 value=8\n"
            f"mvx aidx=2 xidx=2\nmac mode=bcast row={PLAN.value_row} col=8 cnt=7 xidx=16 aidx=4 last\n")
    zeros = np.zeros((2, 2, 8), np.float32)

    def begin():
        bench.x(slices(q))
        return [*setup([PLAN], 16, score_scale(16)), *assemble("seth output, 2, 4"), *part]

    # Head 2 has seen the other tokens.
    words = begin()
    bench.bias(zeros)
    whole = "mrg aidx=1 xidx=2\nsts aidx=6 xidx=1\nmrg aidx=1 xidx=1\nrdacc cnt=1\nrdacc aidx=6\neoc"
    bench.list([*words, *assemble(rest + whole)], 3)
    # Another channel would have seen them: its (m, l) and output go through the host.
    words = begin()
    bench.bias(zeros)
    bench.list([*words, *assemble(rest + "sts aidx=6 xidx=2\nrdacc aidx=4 cnt=2\neoc")], 3)
    moved = np.array(bench.machine.host_out[-3:])
    words = begin()
    bench.bias(moved)
    merged = "wracc aidx=4 cnt=2\nlds aidx=6 xidx=2\nmrg aidx=1 xidx=2\nmrg aidx=1 xidx=1\nrdacc cnt=1\neoc"
    bench.list([*words, *assemble(merged)], 2)
    for text in ("mrg aidx=1 xidx=4", "sts xidx=4", "lds aidx=32", "setm head_dim, 16\nseth output, 2, 31\nmrg xidx=2"):
        bench.list(f"{text}\neoc")
    *outcomes, a, b, c, d = bench.run(stall=0.0, seed=6)
    for found, golden, error, *_ in outcomes:
        assert error is PimErrorCause.NONE
        np.testing.assert_array_equal(found, golden)
    parts = [attend(numerics_of(CONFIG, block=8), q, keys[at:at + 8], values[at:at + 8], score_scale(16)) for at in (0, 8)]
    for found, *_ in (outcomes[0], outcomes[2]):
        np.testing.assert_array_equal(found[:2].transpose(1, 0, 2).reshape(2, 16), finish(merge(*parts)))
    assert [outcome[2].name for outcome in (a, b, c, d)] == ["HEAD_RANGE", "HEAD_RANGE", "OBUF_RANGE", "OBUF_RANGE"]


def test_tokens_are_appended_and_attended_to_as_the_golden_attention_does():
    rng = np.random.default_rng(1)
    bench = Bench(CONFIG)
    keys, values = halves(rng, 24, 16), halves(rng, 24, 16)
    for first, tokens in ((PLAN.first_row, keys), (PLAN.value_row, values)):
        bench.weights(*bench.machine.place(first, 0), tokens[:21])
    words = setup([PLAN], 21, score_scale(16))
    for token in range(21, 21 + APPENDED):
        bench.x(slices(keys[token][None]))
        bench.x(slices(values[token][None]))
        words += append_tokens([PLAN])
    # What is appended is read back at once, by the product with a row of X.
    bench.x(slices(halves(rng, 2, 16)))
    bench.list([*words, *assemble("setm k_beats, 2\nwrx cnt=1 xidx=4\nmac col=20 cnt=3 xidx=4 aidx=20 clr last\n"
                                  "rdacc aidx=20 cnt=3"), command(PimOpcode.EOC)], 4)
    queries = [halves(rng, 2, 16) for _ in TOKENS]
    for tokens, q in zip(TOKENS, queries, strict=True):
        bench.x(slices(q))
        bench.list([*setup([PLAN], 24, score_scale(16)), *attention([PLAN], tokens), command(PimOpcode.EOC)], 2)
    bench.x(halves(rng, 4, 2, 8))
    bench.list(COPIES, 2)
    for text in REFUSED:
        bench.list(f"setm k_beats, 2\n{text}\neoc")
    outcomes = bench.run(stall=0.1, seed=1)
    for found, golden, error, *_ in outcomes[:4]:
        assert error is PimErrorCause.NONE
        np.testing.assert_array_equal(found[:, :, 0], golden[:, :, 0])
    for tokens, q, (found, golden, *_) in zip(TOKENS, queries, outcomes[1:3], strict=True):
        np.testing.assert_array_equal(found, golden)
        expected = finish(attend(numerics_of(CONFIG, block=PLAN.block), q, keys[:tokens], values[:tokens], score_scale(16)))
        np.testing.assert_array_equal(found.transpose(1, 0, 2).reshape(2, 16), expected)
    assert [outcome[2] for outcome in outcomes[4:]] == [PimErrorCause[cause] for cause in REFUSED.values()]
