"""Compute path against the golden order of additions: TREE and BCAST, every format, accumulations over several jobs."""

import numpy as np
import pytest

from hw.pim.compute import ComputePath
from hw.pim.multiplier import operand_named
from sw.golden.pim.reduction import tree_product
from tb.pim.compute_bench import ComputeBench

LANES, ROWS, SLOTS = 4, 2, 8


def path(wtype="float16", xtype="float16", acc="float32", **changes):
    sizes = {"lanes": LANES, "rows": ROWS, "slots": SLOTS, "groups": 4, "beats": 2, "bursts": 32, "slices": 16, "entries": 16,
             "wide": 8, **changes}
    return ComputePath(weights=(operand_named(wtype),), xs=(operand_named(xtype),), acc=acc, **sizes)


def bench(**changes):
    block = path(**changes)
    return ComputeBench(block, weight_bits=16, x_bits=16, rows=block._array["rows"])


def halves(rng, *shape):
    return rng.standard_normal(shape).astype(np.float16)


def floats(words):
    return np.asarray(words, np.uint32).view(np.float32)


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("k_beats", [2, 6, 16, 32])
def test_tree(k_beats, stall):
    rng = np.random.default_rng(k_beats)
    system = bench(slices=32)
    outputs, k = 2, k_beats * LANES
    weights, x = halves(rng, outputs, k), halves(rng, ROWS, k)
    system.x(0, x.view(np.uint16))
    system.mac(weights.view(np.uint16).reshape(-1, LANES), period=k_beats // 2 - 1, entry=2)
    found = floats(system.run(5, stall=stall))
    expected = tree_product(weights.astype(np.float32), x.astype(np.float32), lanes=LANES, slots=SLOTS)
    assert (found[2:4, 0] == expected).all()
    if not stall:
        assert system.mac_cycles == outputs * k_beats >= system.busy_cycles - 1         # a beat in every cycle
