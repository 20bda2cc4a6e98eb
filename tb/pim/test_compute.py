# amaranth: UnusedElaboratable=no
"""Compute path against the golden order of additions: TREE and BCAST, every format, accumulations over several jobs."""

import numpy as np
import pytest

from hw.errors import ConfigError
from hw.pim.compute import ComputePath
from hw.pim.multiplier import operand_named
from sw.golden.pim.reduction import bcast_product, tree_product
from tb.pim.compute_bench import ComputeBench, pack

LANES, ROWS, SLOTS = 4, 2, 8


def path(wtype="float16", xtype="float16", acc="float32", **changes):
    sizes = {"lanes": LANES, "rows": ROWS, "slots": SLOTS, "groups": 4, "beats": 2, "bursts": 32, "slices": 16, "entries": 16,
             "wide": 8, **changes}
    return ComputePath(weights=(operand_named(wtype),), xs=(operand_named(xtype),), acc=acc, **sizes)


def bench(rows=ROWS, **changes):
    changes["rows"] = rows
    block = path(**changes)
    return ComputeBench(block, weight_bits=16, x_bits=16, rows=block._array["rows"])


def halves(rng, *shape):
    return rng.standard_normal(shape).astype(np.float16)


def floats(words):
    return np.asarray(words, np.uint32).view(np.float32)


@pytest.mark.parametrize(("k_beats", "stall"), [(2, 0.0), (6, 0.5), (32, 0.0)])
def test_tree(k_beats, stall):
    rng = np.random.default_rng(k_beats)
    system = bench(slices=32)
    outputs, k = 2, k_beats * LANES
    weights, x = halves(rng, outputs, k), halves(rng, ROWS, k)
    system.x(0, x.view(np.uint16))
    system.mac(weights.view(np.uint16).reshape(-1, LANES), period=k_beats - 1, entry=2)
    found = floats(system.run(5, stall=stall))
    expected = tree_product(weights.astype(np.float32), x.astype(np.float32), lanes=LANES, slots=SLOTS)
    assert (found[2:4, 0] == expected).all()
    if not stall:
        assert system.drain_cycles + 1 == system.path.latency_tree
        assert system.mac_cycles == outputs * k_beats >= system.busy_cycles - 1         # a beat in every cycle


@pytest.mark.parametrize(("count", "groups"), [(1, 2), (8, 2), (19, 4)])
def test_bcast(count, groups):
    rng = np.random.default_rng(count)
    system = bench(bursts=128)
    weights, x = halves(rng, count, groups * LANES), halves(rng, ROWS, 48)
    system.x(1, x.view(np.uint16))
    start = 3
    system.mac(weights.view(np.uint16).reshape(-1, LANES), bcast=1, period=groups - 1, x=LANES + start, entry=2)
    found = floats(system.run(2 + groups))
    expected = bcast_product(weights.astype(np.float32), x[:, start:start + count].astype(np.float32), slots=SLOTS)
    assert (found[2:].reshape(-1, ROWS).T == expected).all()
    assert system.mac_cycles == count * groups >= system.busy_cycles - 1
    assert system.drain_cycles == system.path.merge_cycles(groups, add=False)


def test_an_accumulation_goes_on_in_the_next_job_until_the_last():
    rng = np.random.default_rng(3)
    system = bench()
    k, elements = 6 * LANES * 2, 13
    weights, x = halves(rng, 1, k), halves(rng, ROWS, 64)
    values = halves(rng, elements, 2 * LANES)
    system.x(0, x.view(np.uint16))
    beats = weights.view(np.uint16).reshape(-1, LANES)
    system.mac(halves(rng, 4, LANES).view(np.uint16), period=15, entry=3, last=0)       # what `clr` then begins anew
    system.mac(beats[:4], period=3, entry=3, last=0)            # one output of 6 bursts: 2, 3 and 1
    system.mac(beats[4:10], period=15, entry=3, x=4, clr=0, last=0)
    system.mac(beats[10:], period=15, entry=3, x=10, clr=0)
    rows = values.view(np.uint16).reshape(-1, LANES)
    system.mac(rows[:10], bcast=1, entry=0, last=0)
    system.mac(rows[10:12], bcast=1, entry=0, x=5, clr=0, last=0)
    system.mac(rows[12:], bcast=1, entry=0, x=6, clr=0)
    found = floats(system.run(4))
    tree = tree_product(weights.astype(np.float32), x[:, :k].astype(np.float32), lanes=LANES, slots=SLOTS)
    spread = bcast_product(values.astype(np.float32), x[:, :elements].astype(np.float32), slots=SLOTS)
    assert (found[3, 0] == tree[0]).all()
    assert (found[:2].reshape(-1, ROWS).T == spread).all()


def test_an_accumulation_that_goes_on_elsewhere_is_an_error():
    system = bench(rows=1)
    zeros = np.zeros((2, LANES), int)
    system.mac(zeros, entry=3, last=0)
    system.mac(zeros, entry=4, clr=0)
    system.run(1)
    assert system.range_error


def test_without_clr_results_are_added_to_what_is_there():
    rng = np.random.default_rng(4)
    system = bench()
    first, second, third = (halves(rng, 1, 4 * LANES) for _ in range(3))
    x, values = halves(rng, ROWS, 4 * LANES), halves(rng, 3, 2 * LANES)
    bias = rng.standard_normal((2 * LANES, ROWS)).astype(np.float32)
    system.x(0, x.view(np.uint16))
    for entry in range(2):
        words = bias[entry * LANES:(entry + 1) * LANES].view(np.uint32)
        system.written.append((entry, (1 << LANES) - 1, pack(words.reshape(-1), 32)))
    for weights, clr in ((first, 1), (second, 0), (third, 0)):  # the additions to one entry meet in its reading and writing
        system.mac(weights.view(np.uint16).reshape(-1, LANES), period=3, entry=5, clr=clr)
    system.mac(values.view(np.uint16).reshape(-1, LANES), bcast=1, entry=0, clr=0)
    found = floats(system.run(6))
    wide = x.astype(np.float32)
    parts = [tree_product(weights.astype(np.float32), wide, lanes=LANES, slots=SLOTS)[0] for weights in (first, second, third)]
    assert (found[5, 0] == (parts[0] + parts[1]) + parts[2]).all()
    spread = bcast_product(values.astype(np.float32), wide[:, :3], slots=SLOTS)
    assert (found[:2].reshape(-1, ROWS) == spread.T + bias).all()
    assert system.hazard_cycles > 0
    assert system.drain_cycles == system.path.merge_cycles(2, add=True)


def test_beats_beyond_a_buffer_are_dropped_and_reported():
    system = bench(rows=1)
    ones = np.ones((1, 4 * LANES), np.float16).view(np.uint16)
    system.x(14, ones[:, :2 * LANES])
    system.written = [(entry, 1, pack([7], 32)) for entry in range(16)]
    system.mac(ones.reshape(-1, LANES), period=3, x=14, entry=1)                # slices 14 to 17 of 16
    found = system.run(16)
    assert system.range_error
    assert found[[entry for entry in range(16) if entry != 1], 0].tolist() == [[7]] * 15
    fits = bench(rows=1)
    fits.x(14, ones[:, :2 * LANES])
    fits.mac(ones.reshape(-1, LANES)[:2], x=14, entry=15)
    assert (floats(fits.run(16))[15, 0] == 2 * LANES).all()
    assert not fits.range_error


@pytest.mark.parametrize(("job", "shape"), [({"entry": 15, "period": 1}, 4), ({"entry": 7, "bcast": 1, "period": 1}, 2),
                                            ({"bcast": 1, "period": 5}, 6), ({"bcast": 1, "x": 63, "period": 1}, 4),
                                            ({"bcast": 1, "period": 3}, 6)])
def test_every_range_is_checked(job, shape):
    system = bench(rows=1)
    system.mac(np.zeros((shape, LANES), int), **job)
    system.run(1)
    assert system.range_error


@pytest.mark.parametrize(("change", "message"), [
    ({"lanes": 6}, r"^MacArray.lanes must be a power of two of at least 2, not 6$"),
    ({"slots": 4}, r"^MacArray.slots must be more than the 6 cycles of an addition, not 4$"),
    ({"slots": 1}, r"^MacArray.slots must be a power of two of at least 2, not 1$"),
    ({"rows": 0}, r"^MacArray.rows must be at least 1, not 0$"),
    ({"acc": "int64"}, r"^MacArray.acc must be one of float32, int32, not 'int64'$"),
    ({"wide": 17}, r"^OutputBuffer.wide must be between 1 and 16, not 17$"),
    ({"slices": 0}, r"^XBuffer.slices must be at least 1, not 0$"),
    ({"beats": 0}, r"^ComputePath.beats must be at least 1, not 0$"),
])
def test_impossible_sizes_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        path(**change)
