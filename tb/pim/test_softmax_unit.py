# amaranth: UnusedElaboratable=no
"""The softmax unit alone against the golden one, bit by bit: random blocks, infinities and NaN, busy buffers; its times."""

import dataclasses

import numpy as np
import pytest

from hw.elements import FP16
from hw.errors import ConfigError
from hw.pim.isa import PimOpcode
from hw.pim.presets import PIM_PRESETS
from hw.pim.softmax_unit import SoftmaxUnit
from sw.pim import softmax_times
from tb.pim.softmax_bench import SoftmaxBench

SIZES = {"lanes": 4, "scores": 32, "weight": FP16}
OUTPUT = 4                      # first entry of head 0's output; head 1's is 2 further on
SPECIAL = [np.inf, -np.inf, np.nan, 0.0, -0.0, 3.5, -2.0]


def put_scores(bench, rng, count, kind):
    """Put scores into entries from 8 on; return how many entries."""
    entries = -(-count // bench.together)
    for number in range(entries):
        values = rng.normal(size=(bench.rows, bench.lanes)).astype(np.float32) * [1, 30][number % 2]
        if kind == "special":
            values[:, :bench.together] = rng.choice(SPECIAL[:3 if rng.random() < 0.1 else 7], (bench.rows, bench.together))
        if kind == "nothing":
            values[:, :bench.together] = -np.inf
        if kind == "infinite":
            values[:, :bench.together] = rng.choice([np.inf, -np.inf, 2.0], (bench.rows, bench.together))
        if number == entries - 1 and count % bench.together:        # scores of no token, which must not count
            values[:, count % bench.together:bench.together] = rng.choice([np.nan, np.inf, 99.0])
        bench.put(8 + number, values)
    return entries


def block(bench, rng, head, count, kind="random", scale=0.5, op=PimOpcode.SFO):
    """Add a block of scores of a head; return the commands and what their times depend on."""
    entries = put_scores(bench, rng, count, kind)
    bench.give(PimOpcode.MVS, head=head, entry=8, cnt=entries - 1, scale=scale)
    bench.give(op, head=head, count=count, output=OUTPUT + 2 * head, entries=2)
    slices = -(-count // bench.lanes)
    bench.give(PimOpcode.MVX, head=head, slice=int(rng.integers(0, 8)), cnt=slices - 1)
    return entries, slices


@pytest.mark.parametrize(("rows", "sm_lanes", "together", "busy"), [(2, 1, 1, 0.4), (1, 2, 1, 0.0), (1, 4, 2, 0.3)])
def test_every_word_is_the_golden_one(rows, sm_lanes, together, busy):
    rng = np.random.default_rng(sm_lanes)
    bench = SoftmaxBench(rows=rows, sm_lanes=sm_lanes, together=together, busy=busy, seed=sm_lanes, **SIZES)
    for entry in range(OUTPUT, 8):
        bench.put(entry, rng.normal(size=(rows, 4)))
    bench.clear(0)
    bench.clear(1)
    # At most what fits into entries 8 to 15.
    counts = [1, 2, 3, 8] if together == 1 else [1, together + 1, 8 * together - 1, 5]
    for number, kind in enumerate(["random", "nothing", "random", "infinite", "random", "special", "nothing"]):
        if number == 5:
            bench.clear(0)
        block(bench, rng, 0, counts[number % 4], kind)
        bench.give(PimOpcode.STS, head=0, entry=0)
    bench.clear(0)
    for kind in ("nothing", "random"):     # a head that has seen nothing yet, then something
        for head in (0, 1):
            block(bench, rng, head, counts[3], kind)
            bench.give(PimOpcode.STS, head=head, entry=head)
        if kind == "nothing":
            bench.give(PimOpcode.MRG, head=1, other=1, output=OUTPUT + 2, entries=2)
    for kind in ("random", "special", "nothing", "infinite"):
        block(bench, rng, 3, counts[2], kind, op=PimOpcode.SFM)
    bench.give(PimOpcode.MRG, head=0, other=1, output=OUTPUT, other_output=OUTPUT + 2, entries=2)
    bench.give(PimOpcode.STS, head=0, entry=2)
    bench.give(PimOpcode.MRG, head=0, other=0, output=OUTPUT, entries=2)
    bench.give(PimOpcode.LDS, head=1, entry=2)
    bench.give(PimOpcode.STS, head=1, entry=3)
    bench.run()


def test_what_is_cleared_at_once_leaves_nothing():
    rng = np.random.default_rng(9)
    bench = SoftmaxBench(rows=1, sm_lanes=2, together=1, **SIZES)
    bench.clear(0)
    block(bench, rng, 0, 5)
    bench.clear(0)              # before l has come
    bench.give(PimOpcode.STS, head=0, entry=0)
    block(bench, rng, 0, 5)
    bench.clear(1)              # another one
    for drop in (bench.restart, lambda: bench.clear(2)):
        put_scores(bench, rng, 3, "infinite")
        bench.give(PimOpcode.MVS, head=2, entry=8, cnt=2, scale=1.0)    # which a stopped list has left
        drop()
    block(bench, rng, 2, 5)
    bench.give(PimOpcode.STS, head=0, entry=1)
    bench.run()


@pytest.mark.parametrize("sm_lanes", [1, 2])
def test_times_are_those_that_schedules_use(sm_lanes):
    rng = np.random.default_rng(3)
    config = dataclasses.replace(PIM_PRESETS["pim-tiny"], streams=1, lanes=8, rows_x=1, xbuf_entries=16, sm_lanes=sm_lanes)
    bench = SoftmaxBench(sm_lanes=sm_lanes, together=1, lanes=8, rows=1, scores=32, weight=FP16)
    expected = []
    bench.clear(0)
    bench.clear(1)
    for head in (0, 1):
        for count in (1, 8):
            entries, slices = block(bench, rng, head, count)
            bench.give(PimOpcode.STS, head=head, entry=0)
            times = [softmax_times.mvs_cycles(entries), softmax_times.sfo_cycles(config, count, 2),
                     softmax_times.mvx_cycles(config, slices)]
            state = softmax_times.sfo_state_cycles(config, count) - sum(times[1:])      # that STS still has to wait
            expected += [*times, softmax_times.sts_cycles() + state]
    entries, slices = block(bench, rng, 2, 7, op=PimOpcode.SFM)
    expected += [softmax_times.mvs_cycles(entries), softmax_times.sfm_cycles(config, 7), softmax_times.mvx_cycles(config, slices)]
    bench.give(PimOpcode.MRG, head=0, other=1, output=OUTPUT, other_output=OUTPUT + 2, entries=2)
    bench.give(PimOpcode.MRG, head=0, other=0, output=OUTPUT, entries=2)
    bench.give(PimOpcode.LDS, head=1, entry=0)
    expected += [softmax_times.merge_cycles(config, 2), softmax_times.share_cycles(config, 2), softmax_times.lds_cycles()]
    assert [cycles for _, cycles in bench.run()] == expected


@pytest.mark.parametrize(("changes", "message"), [
    ({"rows": 0}, "SoftmaxUnit.rows must be at least 1, not 0"),
    ({"lanes": 6}, "SoftmaxUnit.lanes must be a power of two of at least 2, not 6"),
    ({"sm_lanes": 16}, "SoftmaxUnit.sm_lanes must be a power of two of at most 8, not 16"),
    ({"together": 4}, "SoftmaxUnit.together must be a power of two of at most 2, not 4"),
])
def test_impossible_sizes_are_refused(changes, message):
    sizes = {"weight": FP16, "lanes": 8, "rows": 2, "slices": 4, "entries": 16, "heads": 2, "scores": 8, "sm_lanes": 2, **changes}
    with pytest.raises(ConfigError, match=f"^{message}$"):
        SoftmaxUnit(**sizes)
