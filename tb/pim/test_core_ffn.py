# amaranth: UnusedElaboratable=no
"""A feed-forward layer inside the die: gate, up, activation, down, without a number by the host in between; and all functions."""

import itertools

import numpy as np
import pytest

from hw.elements import FP16
from hw.errors import ConfigError
from hw.pim.activation_unit import ActivationUnit
from hw.pim.isa import AF_MODES, PimErrorCause
from sw.golden.pim.moe import Expert, expert_output
from tb.pim.test_core import SMALL, Bench, halves
from tb.pim.test_core_attention import slices

FFN = ("setm k_beats, 2\nwrx cnt=1\nmac row=1 cnt=15 clr last\nmac row=2 cnt=15 aidx=16 clr last\n"
       "af mode=3 cnt=15 xidx=2 clr\nmac row=3 cnt=15 xidx=2 clr last\nrdacc cnt=15\neoc")
# Entries become slices; then each element of those, times one, an entry of its own.
SHOWN = "".join(f"modi 0, xidx, 1\nmodi 0, aidx, 2\nloop 8, 1\nmac mode=bcast row=4 xidx={8 * s} clr last\nrdacc cnt=14\n"
                for s in range(2))
SPECIAL = np.array([0.0, -0.0, 65504, 7e4, -9e4, 1e-7, np.inf, -np.inf, np.nan, 88.0, -30.0, 6e-5, 1e30, -1e-30, 2049, 3.14])


def test_a_gated_layer_is_the_golden_expert():
    rng = np.random.default_rng(1)
    bench, x = Bench(SMALL), halves(rng, 2, 16)
    expert = Expert(*(halves(rng, 16, 16) for _ in range(3)))
    for row, matrix in ((1, expert.gate), (2, expert.up), (3, expert.down)):
        bench.weights(0, row, matrix)
    bench.x(slices(x))
    bench.list(FFN, 16)
    for text in (f"af aidx={SMALL.wide_entries - 1} cnt=1", "af clr xidx=15 cnt=8", "af clr mode=3 aidx=1 cnt=15"):
        bench.list(text + "\neoc")
    (found, golden, error, _, cycles, _), *refused = bench.run(stall=0.1, seed=1)
    assert error is PimErrorCause.NONE
    assert cycles < 600
    np.testing.assert_array_equal(found[:, :, 0], golden[:, :, 0])
    np.testing.assert_array_equal(found[:, :, 0].T, expert_output(expert, x, lanes=8, slots=8))
    assert [outcome[2].name for outcome in refused] == ["OBUF_RANGE", "XBUF_RANGE", "OBUF_RANGE"]


def test_every_function_of_every_kind_of_number():
    rng = np.random.default_rng(4)
    bench = Bench(SMALL)
    bench.weights(0, 4, np.ones((1, 16), np.float32))
    for mode, gather in itertools.product(range(len(AF_MODES)), ("", "clr")):
        entries = (rng.normal(size=(32, 2, 8)) * 8).astype(np.float32)
        entries[:2] = np.stack([SPECIAL.reshape(2, 8), rng.permutation(SPECIAL).reshape(2, 8)], axis=1)
        entries[4:11, :, 0] = rng.permutation(SPECIAL)[:7, None]
        bench.bias(entries)
        cnt = 8 if gather else 1                        # nine entries are a slice, and one element of the next
        bench.list(f"setm k_beats, 2\nwracc cnt=31\naf mode={mode} cnt={cnt} aidx={2 if gather else 0} {gather}\n{SHOWN}eoc", 30)
    for found, golden, error, *_ in bench.run(stall=0.0, seed=2):
        assert error is PimErrorCause.NONE
        np.testing.assert_array_equal(found[::2], golden[::2])
        assert np.isfinite(golden).any()


def test_lanes_one_by_one_with_every_kind_of_number():
    rng = np.random.default_rng(7)
    bench, x = Bench(SMALL), halves(rng, 2, 16)
    with np.errstate(over="ignore"):
        special = SPECIAL.astype(np.float16).astype(np.float32)
    bench.weights(0, 4, np.ones((1, 16), np.float32))
    bench.weights(1, 2, np.stack([special, rng.permutation(special), halves(rng, 16)]))
    for command in ("ewmul", "ewadd"):
        bench.x(slices(np.stack([x[0], rng.permutation(special)])))
        bench.list(f"setm k_beats, 2\nwrx cnt=1\n{command} row=2 grp=1\n{SHOWN}eoc", 30)
        # Three times in a row what the one before has left; slices behind are written meanwhile.
        bench.x(slices(x))
        bench.x(slices(halves(rng, 2, 16)))
        again = f"{command} row=2 grp=1 col=2\n" * 3
        bench.list(f"setm k_beats, 2\nwrx cnt=1\n{again}wrx cnt=1 xidx=4\n{SHOWN}eoc", 30)
    for found, golden, error, *_ in bench.run(stall=0.0, seed=2):
        assert error is PimErrorCause.NONE
        np.testing.assert_array_equal(found[::2], golden[::2])


def test_no_lanes_are_refused():
    with pytest.raises(ConfigError, match=r"^ActivationUnit.lanes must be at least 1, not 0$"):
        ActivationUnit(element=FP16, lanes=0, rows=1, slices=1, entries=1)
