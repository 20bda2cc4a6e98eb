# amaranth: UnusedElaboratable=no
"""Lanes in segments: the compute path against the golden order of additions, and lists on DRAM against the golden machine."""

import dataclasses

import numpy as np
import pytest

from hw.elements import FP16
from hw.errors import ConfigError
from hw.pim.activation_unit import ActivationUnit
from hw.pim.isa import PimErrorCause
from hw.pim.mac_array import MacArray
from hw.pim.output_buffer import OutputBuffer
from hw.pim.x_buffer import XBuffer
from sw.golden.pim.attention import attend, finish, numerics_of, score_scale
from sw.golden.pim.reduction import bcast_product, tree_product
from tb.pim.compute_bench import ComputeBench
from tb.pim.test_compute import SLOTS, floats, path
from tb.pim.test_core import SMALL, Bench, bench_of, check, halves

WIDTH, ROWS = 4, 1          # lanes of a segment of a compute path alone


def segmented(segments, **changes):
    """Return a channel's configuration with as many streams as segments, each with the lanes of the small one."""
    return dataclasses.replace(SMALL, streams=segments, lanes=8 * segments, segments=segments, sm_lanes=segments, **changes)


def path_bench(segments):
    block = path(lanes=WIDTH * segments, segments=segments, rows=ROWS, slices=32, bursts=128)
    return ComputeBench(block, weight_bits=16, x_bits=16, rows=ROWS)


def interleaved(values, segments):
    """Return (segments, n) weights as beats of all lanes: the next `WIDTH` of each segment."""
    return values.reshape(segments, -1, WIDTH).transpose(1, 0, 2).reshape(-1, segments * WIDTH)


@pytest.mark.parametrize(("segments", "k_beats"), [(2, 1), (2, 6), (4, 10)])
def test_outputs_of_all_segments(segments, k_beats):
    rng = np.random.default_rng(k_beats)
    system, entries, k = path_bench(segments), 4, k_beats * WIDTH
    weights, x = (rng.standard_normal(shape).astype(np.float16) for shape in ((entries, segments, k), (ROWS, k)))
    bias = rng.standard_normal((entries, WIDTH, ROWS)).astype(np.float32)
    system.x(0, x.view(np.uint16))
    for entry, words in enumerate(bias.view(np.uint32)):
        system.written.append((entry, (1 << WIDTH) - 1, sum(int(word) << 32 * i for i, word in enumerate(words.reshape(-1)))))
    beats = np.concatenate([interleaved(of_entry.view(np.uint16), segments) for of_entry in weights])
    system.mac(beats, period=k_beats - 1, clr=0)
    found = floats(system.run(entries))
    expected = tree_product(weights.reshape(-1, k).astype(np.float32), x.astype(np.float32), lanes=WIDTH, slots=SLOTS)
    np.testing.assert_array_equal(found[:, :segments], bias[:, :segments] + expected.reshape(entries, segments, ROWS))
    assert system.drain_cycles + 1 == system.path.latency_tree
    assert system.mac_cycles == entries * k_beats >= system.busy_cycles - 1             # a beat in every cycle


@pytest.mark.parametrize(("segments", "elements", "add"), [(2, 2, 0), (2, 38, 1), (4, 44, 0)])
def test_elements_of_all_segments(segments, elements, add):
    rng = np.random.default_rng(elements)
    system, groups = path_bench(segments), 2
    weights, x = (rng.standard_normal(shape).astype(np.float16) for shape in ((elements, groups * WIDTH), (ROWS, 72)))
    system.x(1, x.view(np.uint16))
    for entry in range(groups):
        system.written.append((entry, (1 << WIDTH) - 1, 0))
    turns = weights.reshape(-1, segments, groups, WIDTH).transpose(0, 2, 1, 3)          # of a turn each segment's entry by entry
    system.mac(turns.reshape(-1, segments * WIDTH).view(np.uint16), bcast=1, period=groups - 1, x=WIDTH + 4, clr=1 - add)
    found = floats(system.run(groups))
    expected = bcast_product(weights.astype(np.float32), x[:, 4:4 + elements].astype(np.float32), slots=SLOTS, segments=segments)
    np.testing.assert_array_equal(found.reshape(-1, ROWS).T, expected)
    assert system.mac_cycles == elements // segments * groups >= system.busy_cycles - 1
    assert system.drain_cycles == system.path.merge_cycles(groups, add=bool(add))


def test_lists_leave_what_the_golden_machine_leaves():
    segments = 2
    bench = bench_of(lists=1, seed=segments, streams=segments, lanes=8 * segments, segments=segments, rows_x=1, sm_lanes=2)
    bench.list("setm k_beats, 1\nmac mode=bcast xidx=1\neoc")
    *outcomes, (_, _, error, index, *_) = bench.run(stall=0.1, seed=segments)
    check(outcomes)
    golden = outcomes[0][1]
    np.testing.assert_array_equal(outcomes[0][0][:, :, :segments], golden[:, :, :segments])
    assert golden[:, :, segments - 1].any()
    assert outcomes[0][5] == 2 * 64                     # beats of the product: as many outputs as segments in each of 8 entries
    assert (error, index) == (PimErrorCause.ILLEGAL_COMMAND, 1)


def test_tokens_are_attended_to_and_copies_are_of_the_first_segment():
    rng, config = np.random.default_rng(12), segmented(2, rows_x=1)
    bench, tokens = Bench(config), 5
    for place in ((0, 5), (0, 6), (1, 5)):
        bench.weights(*place, halves(rng, 32, 32))
    before = bench.machine.read_row(0, 5)[2, 16:].copy()
    keys, values, query = halves(rng, tokens, 16), halves(rng, tokens, 16), halves(rng, 1, 16)
    text = "setm head_dim, 16\nsetm max_tokens, 99\nseth k_row, 1, 5\nseth v_row, 1, 6\nseth output, 1, 0\n"
    for key, value in zip(keys, values, strict=True):
        bench.x(np.concatenate((key, value)).reshape(4, 1, 8))
        text += "wrx cnt=3\nkvap aidx=1\nkvap aidx=1 xidx=2 clr\n"
    # Two tokens in a burst: three bursts, of the last one half is another's.
    bench.bias(np.zeros((2, 1, 8), np.float32))
    bench.x(query.reshape(2, 1, 8))
    scale = score_scale(16)
    text += (f"setm scale, {scale.view(np.uint32)}\nsetm k_beats, 2\nwracc cnt=1\nwrx cnt=1\nmac row=5 cnt=2 aidx=2 clr last\n"
             "mvs aidx=2 cnt=2 xidx=1\nsfo aidx=1 value=5\nmvx aidx=1 xidx=4\nmac mode=bcast row=6 cnt=2 xidx=32 last\n"
             "mrg aidx=1 xidx=1\nrdacc cnt=1\n")
    bench.list(text + "eoc", 2)
    bench.x(halves(rng, 4, 1, 8))
    bench.list("setm k_beats, 4\nwrx cnt=3\nwrcp row=5 grp=1 col=3 cnt=1\nrdcp row=5 grp=1 col=2 cnt=2 xidx=4\n"
               "ewmul row=6 xidx=4\nmac row=5 grp=1 col=2 cnt=3 xidx=4 clr last\n"
               "mac row=5 grp=1 col=2 cnt=3 xidx=6 aidx=2 clr last\naf clr cnt=3 xidx=4\n"
               "mac row=5 cnt=1 xidx=4 aidx=2 clr last\nrdacc cnt=3\neoc", 4)
    attended, copied = bench.run(stall=0.0, seed=2)
    for found, golden, error, *_ in (attended, copied):
        assert error is PimErrorCause.NONE
        np.testing.assert_array_equal(found[:, :, :2], golden[:, :, :2])
    numerics = numerics_of(config, block=tokens)
    np.testing.assert_array_equal(attended[0].reshape(1, 16), finish(attend(numerics, query, keys, values, scale)))
    burst = bench.model.burst(0, 5, 2).view(np.float16)
    np.testing.assert_array_equal(burst[:16], keys[4])
    np.testing.assert_array_equal(burst[16:], before)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: MacArray.check(acc="float32", lanes=8, rows=1, slots=8, groups=1, entries=1, segments=8),
     r"^MacArray.segments must be a power of two of at most 4, not 8$"),
    (lambda: XBuffer.check(lanes=4, rows=1, slices=1, segments=8),
     r"^XBuffer.segments must be a power of two of at most 4, not 8$"),
    (lambda: OutputBuffer.check(lanes=4, rows=1, entries=1, wide=1, segments=5),
     r"^OutputBuffer.segments must be between 1 and 4, the lanes, not 5$"),
    (lambda: ActivationUnit(element=FP16, lanes=4, rows=1, slices=1, entries=1, segments=3),
     r"^ActivationUnit.segments must be a power of two of at most 4, not 3$"),
])
def test_segments_that_cannot_be_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
