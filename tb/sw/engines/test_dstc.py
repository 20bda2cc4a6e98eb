"""The dual-side sparse engine in software: records byte by byte, golden products, packing, refusals, the runtime's clock."""

import re
from typing import Any

import numpy as np
import pytest

from hw.engines.dstc import (
    HIDDEN,
    DstcRecord,
    dstc_chunk,
    dstc_command_cycles,
    dstc_load_cycles,
    dstc_patches,
    dstc_record,
    dstc_records,
    dstc_run_cycles,
    dstc_tokens,
)
from hw.errors import ConfigError
from hw.formats import format_named
from hw.presets import preset_named
from sw.engines import engine_runtime, pack_weights, weight_layout
from sw.engines.dstc import DstcClock, DstcTiming, dstc_layout, pack_masked
from sw.formats import dequantize, quantize
from sw.golden.array.dstc import nonzero_counts, result_rows, run_matrix
from sw.golden.state import State
from sw.kernels.spec import GemmSpec
from sw.mapper import choose_plan
from sw.sparsity.patterns import PatternError
from tb.array.dstc import config_of, place, state_of

CONFIG = config_of("2:4", "8:32", "64:64", "hss-4:6-2:4", scratchpad_bytes=1 << 15)


@pytest.mark.parametrize("mode", range(5))
def test_golden_products_are_those_of_the_matrices(mode: int) -> None:
    """Every mode: at once, and row by row, A·B of what was packed; K and N ragged; counts are the pairs without zeros."""
    rng = np.random.default_rng(mode)
    scratchpad = np.zeros(CONFIG.scratchpad_bytes, np.uint8)
    m, n, k = 11, 13, 70
    command, product, _ = place(CONFIG, mode, m, n, k, rng, scratchpad, densities=(0.6, 0.7), acc_addr=1)
    state = state_of(CONFIG, scratchpad)
    run_matrix(state, command)
    found = np.concatenate([state.accumulator[1:1 + m], state.accumulator[1 + m:1 + 2 * m]], axis=1)
    assert (found[:, :n] == product).all()
    assert not found[:, n:].any()
    rows = np.zeros_like(state.accumulator)
    for row, accumulate, sums in result_rows(state, command):
        rows[row] = rows[row] * accumulate + sums
    assert (rows == state.accumulator).all()
    pairs = [pair for tile in nonzero_counts(state, command) for pair in tile]
    assert len(pairs) == 2 * 2 * k
    assert sum(a * w for a, w in pairs) == state.counters["macs"] > 0
    run_matrix(state, command | {"accumulate": 1})
    assert (state.accumulator[1:1 + m, :8] == 2 * found[:, :8]).all()


def test_runs_side_by_side() -> None:
    """A scratchpad with one more axis in front: the same as each by itself."""
    rng = np.random.default_rng(8)
    for mode in range(3):
        pads = [np.zeros(CONFIG.scratchpad_bytes, np.uint8) for _ in range(2)]
        commands = [place(CONFIG, mode, 4, 11, 40, rng, pad, densities=(0.5, 0.2))[0] for pad in pads]
        both = State(config=CONFIG, memory=np.zeros((2, 0), np.uint8), scratchpad=np.stack(pads),
                     accumulator=np.zeros((2, CONFIG.accumulator_rows, CONFIG.columns), np.int64),
                     rows=np.zeros((2, 16), np.float32), counters={"macs": 0, "saturations": 0})
        run_matrix(both, commands[0])
        for index, pad in enumerate(pads):
            alone = state_of(CONFIG, pad)
            run_matrix(alone, commands[0])
            assert (both.accumulator[index] == alone.accumulator).all()


def test_sums_saturate_run_by_run() -> None:
    """A narrow accumulator clips after each `os_depth` of K."""
    config = config_of(acc_width=16)
    scratchpad = np.zeros(config.scratchpad_bytes, np.uint8)
    scratchpad[:64] = 127
    scratchpad[64:64 + 8 * 64:8] = np.repeat(np.array([127, -127], np.int8), 32).view(np.uint8)
    command = place(config, 0, 1, 1, 64, np.random.default_rng(0), np.zeros(1 << 14, np.uint8))[0] | {"weight_addr": 64}
    state = state_of(config, scratchpad)
    run_matrix(state, command)
    assert state.accumulator[0, 0] == -32768            # 32767, clipped, and then 32 · 127² less; in one sum it is 0
    assert state.counters["saturations"] == 2


def test_a_record_byte_by_byte() -> None:
    """Eight outputs, 16 of K: masks of each k, then values k by k, in the order of outputs."""
    config = config_of("4:8")
    w = np.zeros((8, 16), np.int8)
    w[[0, 7], 0], w[3, 2], w[[1, 2, 5], 15] = [5, -6], 7, [1, 2, -3]
    layout = dstc_layout(config, 1, 8, 16)
    packed = pack_masked(config, layout, w)
    assert (layout.record_k, layout.record_bytes, layout.granule, packed.size) == (16, 16 + 64, 16, 80)
    assert packed[:16].tolist() == [0x81, 0, 0x08, *[0] * 12, 0x26]
    assert packed[16:22].view(np.int8).tolist() == [5, -6, 7, 1, 2, -3]
    assert not packed[22:].any()


@pytest.mark.parametrize("name", ["2:4", "8:32", "64:64", "hss-4:6-2:4"])
def test_packed_weights_are_what_the_format_keeps(name: str) -> None:
    """Multiplied by ones and scaled, a matrix is what its codec makes of it, bit for bit."""
    rng = np.random.default_rng(2)
    n, k = 13, 60
    matrix = rng.normal(size=(n, k)).astype(np.float32)
    layout = weight_layout(CONFIG, n, k, name)
    data, scale = pack_weights(CONFIG, layout, matrix)
    assert data.shape == (layout.size,)
    state = state_of(CONFIG, np.concatenate([np.eye(k, dtype=np.uint8).ravel(), data, np.zeros(64, np.uint8)]))
    command = place(CONFIG, layout.mode, 1, n, k, rng, np.zeros(1 << 16, np.uint8))[0]
    found = np.zeros((n, k), np.float32)
    for row in range(k):
        run_matrix(state, command | {"activation_addr": row * k, "weight_addr": k * k, "acc_tile_stride": 1})
        found[:, row] = state.accumulator[:2].ravel()[:n]
    assert (found * scale[:, None] == dequantize(quantize(matrix, name))).all()


def test_records_of_formats() -> None:
    assert dstc_records(CONFIG) == (DstcRecord(k=16, kept=8), DstcRecord(k=32, kept=8), DstcRecord(k=64, kept=64),
                                    DstcRecord(k=24, kept=8))
    assert engine_runtime(CONFIG).layout(CONFIG, 2, 8, 33).bytes_of(33) == 2 * (32 + 64)


def test_more_values_than_a_record_has_room_for() -> None:
    """The bound is of C outputs together: one may have more than its share."""
    config = config_of("4:8")
    w = np.zeros((8, 32), np.int8)
    w[:4] = 1
    layout = dstc_layout(config, 1, 8, 32)
    pack_masked(config, layout, w)
    w[6, 20] = 1
    text = "values that are not zero must be at most 64 of 16·8, not 65 (outputs from 0, inputs from 16)"
    with pytest.raises(PatternError, match=f"^{re.escape(text)}$"):
        pack_masked(config, layout, w)


@pytest.mark.parametrize("name", ["int4-g32", "sdq-7:8-1:8int8-6:8fp4-g64", "hss-4:7-2:10", "100:300"])
def test_formats_that_the_engine_does_not_take(name: str) -> None:
    text = f"a format for dual-side sparsity must be N:M or hss-G1:H1-G0:H0 with records of up to 256 values, not {name!r}"
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        dstc_record(format_named(name))


@pytest.mark.parametrize(("fields", "text"), [
    ({"rows": 3}, "AcceleratorConfig.rows must be a power of two for dual-side sparsity, at least 2 (nearest: 4), not 3"),
    ({"rows": 1}, "AcceleratorConfig.rows must be a power of two for dual-side sparsity, at least 2 (nearest: 2), not 1"),
    ({"columns": 4}, "AcceleratorConfig.columns must be a power of two for dual-side sparsity, at least 8 (nearest: 8), not 4"),
    ({"dataflows": ("ws", "os")},
     ("AcceleratorConfig.dataflows must be ('ws',) for dual-side sparsity, which skips zeros of both operands, not "
      "('ws', 'os')")),
    ({"weight_format": "int4"},
     "AcceleratorConfig.weight_format must be 'int8' for dual-side sparsity (others are weight_formats), not 'int4'"),
    ({"os_depth": 36}, "AcceleratorConfig.os_depth must be a multiple of 8 (a line) for dual-side sparsity, not 36"),
])
def test_impossible_configs(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        config_of(**fields)


def test_a_mode_that_the_config_lacks() -> None:
    with pytest.raises(ConfigError, match=r"^mode must be 0 to 1 \(weight_formats\), not 2$"):
        dstc_layout(config_of("2:4"), 2, 8, 16)


def test_the_clock_without_data_expects_what_formats_keep() -> None:
    """Commands without zeros: the law of a run of them. Packed ones: between the law of no zeros and that of as many as there can
    be; near what random zeros take."""
    config = config_of("8:16", "16:16", rows=4, columns=16, bus_width=128, vector_lanes=4, scratchpad_bytes=1 << 15, os_depth=64)
    rng = np.random.default_rng(9)
    m, n, k = 32, 16, 64
    for mode in (0, 2, 1):
        scratchpad = np.zeros(config.scratchpad_bytes, np.uint8)
        command, *_ = place(config, mode, m, n, k, rng, scratchpad, weight_addr=1 << 14,
                            densities=(1.0, 0.5 if mode == 1 else 1.0))
        clock, exact = DstcTiming(config), DstcTiming(config)
        counts = nonzero_counts(state_of(config, scratchpad), command)
        ends, exact_ends = ([timing.command(at, command, *known) for at in (0, 20)]
                            for timing, known in ((clock, ()), (exact, (counts,))))
        found, measured = ends[1] - ends[0], exact_ends[1] - exact_ends[0]
        dense = dstc_command_cycles(config, m, n, k, mode)
        if mode != 1:
            assert found == measured == dense
        else:
            assert measured == dstc_command_cycles(config, m, n, k, mode, counts)
            assert dense / 2 < found < dense
            assert abs(found / measured - 1) < 0.05


def test_the_mapper_makes_tiles_of_as_many_tokens_as_are_packed_together() -> None:
    """Of fewer, zeros of activations could not be skipped; no other engine asks for that."""
    config = preset_named("dstc-8x16")
    assert config.tile_tokens == dstc_tokens(config) == 32
    assert preset_named("hss-16x16").tile_tokens == 16
    for m in (64, 200):
        assert choose_plan(config, GemmSpec(m=m, n=64, k=768)).mapping.tile.m >= 32


@pytest.mark.parametrize("bus_width", [64, 256])
@pytest.mark.parametrize("mode", [0, 1])
def test_the_law_of_a_tile_against_the_clock(bus_width: int, mode: int) -> None:
    """Random tiles of any density, in runs: exact where loads are hidden; where not, no more than `HIDDEN` a chunk over it."""
    config = config_of("16:16", bus_width=bus_width, os_depth=256)
    rng, size = np.random.default_rng(mode), dstc_chunk(config)
    exact = over = 0
    for _ in range(150):
        densities, tokens = rng.random(2) ** rng.choice([0.3, 1, 3]), int(rng.integers(1, dstc_tokens(config) + 1))
        k = size * int(rng.integers(1, 256 // size + 1))
        counts = list(zip(rng.binomial(tokens, densities[0], k).tolist(), rng.binomial(8, densities[1], k).tolist(), strict=True))
        chunks = [[steps for pair in counts[first:first + size] if (steps := dstc_patches(config, *pair))]
                  for first in range(0, k, size)]
        load = dstc_load_cycles(config, mode, tokens, size)
        clock, ends, offered = DstcClock(config), [], 0.0
        for _ in range(4):
            for index, steps in enumerate(chunks):
                clock.chunk(offered, load, steps, tokens if index == len(chunks) - 1 else 0)
                offered = clock.accepted + 1
            ends.append(clock.stepped)
        measured = ends[3] - ends[2]
        excess = measured - dstc_run_cycles(config, mode, tokens, counts)
        hidden = all(sum(steps) >= load + HIDDEN for steps in chunks)
        assert excess == 0 if hidden else excess <= HIDDEN * len(chunks)
        assert measured >= max(sum(map(sum, chunks)) + tokens, load * len(chunks))
        exact, over = exact + hidden, over + (excess > 0)
    assert exact > 20
    assert over > 0
