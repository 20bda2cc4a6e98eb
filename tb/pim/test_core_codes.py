# amaranth: UnusedElaboratable=no
"""A core with weights that have zero points, special values and scales: command lists against the golden machine, bit by bit."""

import dataclasses

import numpy as np
import pytest

from hw.errors import ConfigError
from hw.pim.isa import PimErrorCause
from hw.pim.output_dequantizer import OutputDequantizer
from hw.share import mark_used
from sw.pim.work import DEQUANTIZE_LATENCY
from tb.pim.test_core import SMALL, Bench

P3 = dataclasses.replace(SMALL, wtype="bitmod4", kvtype="p3-kv", xtype="float8_e4m3fn", ptype="float8_s0e4m4", acc="int32",
                         lanes=32, n_acc_slots=2)
TWO = dataclasses.replace(P3, streams=2, segments=2, clock_mhz=1300, pim_per_burst=4)
_NAN = 0x7F
# A product of outputs, one of elements with another format, a dequantized sum of both, results.
LIST = ("setm k_beats, 2\nwrx cnt=3\n{wrs}mac grp=1 row=3 cnt=3 clr last\ndqa cnt=3 clr\nmac grp=2 row=3 cnt=3 xidx=2 last\n"
        "dqa cnt=3\nrdacc cnt=3\ndqa cnt=3 last\nrdacc cnt=3\n{kv}rdacc cnt=3\neoc")
KEYS = "setm operands, 1\n{wrs}mac row=2 aidx=4 cnt=3 clr last\nrdacc aidx=4 cnt=3\n"
VALUES = "setm operands, 2\nwrx cnt=0\n{wrs}mac mode=bcast row=5 cnt=3 xidx=6 clr last\n"


def codes(rng, bits, *shape):
    """Return random codes, none of them the NaN of E4M3."""
    found = rng.integers(0, 1 << bits, shape)
    return np.where(found & 0x7F == _NAN, 0, found).astype(np.uint8)


def sides(config, rng):
    """Return a word of the side table: zero points and numbers of special values."""
    return (rng.integers(0, 16, config.word_bytes) | rng.integers(0, 4, config.word_bytes) << 6).astype(np.uint8)


@pytest.mark.parametrize("config", [P3, TWO], ids=["one segment", "two segments"])
def test_codes_with_zero_points_special_values_and_scales(config):
    rng, segments = np.random.default_rng(3), config.segments
    bench = Bench(config)
    for grp, row in ((1, 3), (2, 3), (0, 2), (0, 5)):
        bench.weights(grp, row, codes(rng, 4, 4, config.burst_weights))
    bench.x(codes(rng, 8, 4, 2, config.width))

    def wrs(first, count):
        bench.side(sides(config, rng))
        return f"wrs xidx={first} cnt={count - 1}\n"

    text = LIST.replace("{wrs}", wrs(0, 4 * segments), 1)
    for _ in range(3):
        bench.side(rng.standard_normal((4, segments)).astype(np.float32))
    kv = KEYS.format(wrs=wrs(4 * segments, 4 * segments))
    bench.x(codes(rng, 8, 1, 2, config.width))
    kv += VALUES.format(wrs=wrs(6, 4 * segments))
    bench.list(text.format(kv=kv), 16)
    ((found, golden, error, *_),) = bench.run(stall=0.3, seed=4)
    assert error is PimErrorCause.NONE
    np.testing.assert_array_equal(found[:-4, :, :segments], golden[:-4, :, :segments])
    np.testing.assert_array_equal(found[-4:], golden[-4:])
    assert np.unique(golden[:, :, 0]).size >= 16


def test_sums_follow_each_other():
    """Runs of entries longer than the way to a sum: an entry a cycle; onto the same sum again at once it waits."""
    config = dataclasses.replace(SMALL, wtype="int8", kvtype="int8", xtype="int8", ptype="float8_e4m3fn", acc="int32", lanes=16,
                                 n_acc_slots=2)
    rng, bench = np.random.default_rng(5), Bench(config)
    entries = rng.integers(-1 << 20, 1 << 20, (32, 2, config.lanes))
    bench.bias(entries)
    text = "wracc cnt=31\n"
    for command, count in (("cnt=31 clr", 32), ("cnt=31", 32), ("cnt=0 xidx=31", 1), ("cnt=0 xidx=31", 1), ("cnt=31 last", 32)):
        text += f"dqa {command}\n"
        bench.side(rng.standard_normal((count, 1)).astype(np.float32))
    bench.list(text + "rdacc cnt=31\neoc", 32)
    ((found, golden, error, *_),) = bench.run(stall=0.0, seed=5)
    assert error is PimErrorCause.NONE
    np.testing.assert_array_equal(found[:, :, 0], golden[:, :, 0])


def test_commands_that_are_refused():
    bench = Bench(dataclasses.replace(P3, rows_x=1))
    refused = {"wrs xidx=30 cnt=2": "SIDE_RANGE", "dqa xidx=31 cnt=1": "OBUF_RANGE", "dqa aidx=31 cnt=1": "OBUF_RANGE"}
    for text in refused:
        bench.list(f"{text}\neoc")
    for cause, (_, _, error, index, *_) in zip(refused.values(), bench.run(stall=0.0, seed=1), strict=True):
        assert (error.name, index) == (cause, 0)
    plain = Bench(SMALL)
    for text in ("wrs", "dqa"):
        plain.list(f"{text}\neoc")
    assert [outcome[2] for outcome in plain.run(stall=0.0, seed=1)] == [PimErrorCause.UNSUPPORTED] * 2


def test_the_model_knows_the_way_to_a_sum():
    unit = OutputDequantizer(acc="int32", lanes=4, rows=1, entries=4, word=64)
    mark_used(unit)
    assert unit.latency == DEQUANTIZE_LATENCY


@pytest.mark.parametrize(("changes", "message"), [
    ({"word": 96, "segments": 2}, "OutputDequantizer.word must be a multiple of 64 bits, an entry's scales, not 96"),
    ({"acc": "int16"}, "OutputDequantizer.acc must be float32 or int32, not 'int16'"),
])
def test_impossible_sizes_are_refused(changes, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        OutputDequantizer(**{"acc": "int32", "lanes": 4, "rows": 1, "entries": 4, "word": 64} | changes)
