# amaranth: UnusedElaboratable=no
"""Dequantizers of scaled formats against the codec, bit by bit: every code with every special value and every scale."""

import dataclasses

import numpy as np
import pytest

from flows.block_sim import BlockSim, pack_lanes, unpack_lanes
from hw.arith.decode.dequantizer import Dequantizer
from hw.errors import ConfigError
from hw.formats import FORMATS, format_named
from tb.arith.decode.bank import Bank
from tb.arith.decode.scaled_cases import CASES, codes_of, golden

QUIET_NAN = 0x7FC0_0000


def check(words, want):
    """Compare words with float32 values; a NaN must be the quiet one."""
    expected = np.where(np.isnan(want), QUIET_NAN, want.view(np.uint32).astype(np.uint64))
    wrong = np.flatnonzero(words != expected)
    assert not wrong.size, f"vector {wrong[0]}: {int(words[wrong[0]]):#010x}, not {int(expected[wrong[0]]):#010x}"


@pytest.fixture(scope="module")
def results():
    """Name → codes of each vector, words."""
    codes = {name: codes_of(fmt) for name, fmt in CASES.items()}
    bank = Bank({name: Dequantizer(fmt) for name, fmt in CASES.items()}, "dequantizers")
    outputs = bank.run({name: {**codes[name], "enable": 1} for name in CASES})
    return {name: (codes[name], outputs[name]["o"]) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_every_code(results, name):
    codes, words = results[name]
    check(words, golden(CASES[name], codes))


def test_the_cases_reach_every_edge(results):
    """Subnormal results, those that are rounded, overflow, NaN, both zeros."""
    seen = {"subnormal": 0, "inf": 0, "nan": 0, "+0": 0, "-0": 0}
    for _, words in results.values():
        exponent, mantissa = words >> np.uint64(23) & np.uint64(255), words & np.uint64(0x7F_FFFF)
        for name, where in (("subnormal", (exponent == 0) & (mantissa > 0)), ("inf", (exponent == 255) & (mantissa == 0)),
                            ("nan", words == QUIET_NAN), ("+0", words == 0), ("-0", words == 1 << 31)):
            seen[name] += int(where.sum())
    assert min(seen.values()) > 100, seen


@pytest.mark.parametrize("name", ["fp4-g128", "int4-g32-bf16"])
def test_every_16_bit_scale(name):
    fmt = format_named(name)
    code, scale = (axis.ravel() for axis in np.meshgrid(np.arange(16), np.arange(1 << 16)))
    dequantizer = Dequantizer(fmt)
    outputs = BlockSim(dequantizer, "dequantizer").run({"enable": 1, "codes": code, "scale": scale}, latency=dequantizer.latency)
    check(outputs["o"], golden(fmt, {"codes": code, "scale": scale}))


@pytest.mark.parametrize("name", ["bitmod4-g128", "mxfp8-e5m2-b32"])
def test_lanes_and_stalls(name):
    """Four lanes with one scale; in a third of the cycles `enable` is low, and nothing moves."""
    fmt = FORMATS[name]
    rng = np.random.default_rng(4)
    count = 30_000
    lanes = rng.integers(0, 1 << fmt.element.bits, (count, 4))
    shared = {"scale": rng.integers(0, 1 << fmt.scale.bits, count)}
    if fmt.special_bits:
        shared["special"] = rng.integers(0, 1 << fmt.special_bits, count)
    enable = rng.random(count) < 2 / 3
    dequantizer = Dequantizer(fmt, 4)
    outputs = BlockSim(dequantizer, "dequantizer_4").run(
        {"enable": enable, "codes": pack_lanes(lanes, fmt.element.bits), **shared})
    words = unpack_lanes(outputs["o"], 32, 4)
    taken = np.flatnonzero(enable)
    before = np.cumsum(enable) - enable                     # enabled cycles before each
    seen = before >= dequantizer.latency
    source = taken[before[seen] - dequantizer.latency]      # the vector that is at the output
    assert (np.bincount(before[seen]) > 1).sum() > 1000     # it was held
    for lane in range(4):
        want = golden(fmt, {**shared, "codes": lanes[:, lane]})
        check(words[seen, lane], want[source])


def test_special_values_from_a_port():
    fmt = FORMATS["razer"]
    dequantizer = Dequantizer(fmt, programmable=True)
    special = np.tile(np.arange(4), 64)
    values = np.array([7.0, -7.0, 2.5, -16.0])
    outputs = BlockSim(dequantizer, "programmable_dequantizer").run(
        {"enable": 1, "codes": fmt.special_code, "special": special, "scale": np.repeat(np.arange(64), 4),
         "special_values": int(pack_lanes((2 * values).astype(np.int64)[None], 6)[0])}, latency=dequantizer.latency)
    changed = dataclasses.replace(fmt, specials=tuple(values))
    check(outputs["o"], golden(changed, {"codes": np.full(256, fmt.special_code), "special": special,
                                         "scale": np.repeat(np.arange(64), 4)}))


def test_what_is_refused():
    with pytest.raises(ConfigError, match=r"^ScaledDecoder\.lanes must be at least 1, not 0$"):
        Dequantizer(FORMATS["nvfp4"], 0)
    with pytest.raises(ConfigError, match=r"^ElementForm\.specials must not be empty where they are programmable, not \(\)$"):
        Dequantizer(FORMATS["nvfp4"], programmable=True)


def test_latency():
    assert Dequantizer(FORMATS["int8"]).latency == 3
    assert Dequantizer(FORMATS["nvfp4"]).latency == 4
