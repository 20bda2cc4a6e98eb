"""The structured-sparsity engine in software: records byte by byte, golden products against plain ones, packing, refusals."""

import re
from typing import Any

import numpy as np
import pytest

from hw.config import AcceleratorConfig
from hw.engines.hss import HssMode, hss_mode, hss_modes
from hw.errors import ConfigError
from hw.formats import format_named
from sw.engines import engine_runtime, pack_weights, weight_layout
from sw.engines.hss import hss_layout, pack_sparse
from sw.engines.hss_records import compress, sdq_group_bytes
from sw.formats import dequantize, quantize
from sw.formats.series import decompose
from sw.golden.array.hss import fp4_activations, result_rows, run_matrix
from sw.golden.state import State
from sw.sparsity.patterns import PatternError
from tb.array.engine import command_of
from tb.array.hss import ALL, SDQ, SERIES, config_of, place, random_sdq

CONFIG = config_of("2:4", "1:4", "1:8", "2:8", *ALL, *SERIES, SDQ, scratchpad_bytes=1 << 15)
FP4 = (0, 1, 2, 3, 4, 6, 8, 12)


def state_of(config: AcceleratorConfig, scratchpad: np.ndarray, lead: tuple[int, ...] = ()) -> State:
    """Return a state whose accumulator is full of 99."""
    return State(config=config, memory=np.zeros((*lead, 0), np.uint8), scratchpad=scratchpad,
                 accumulator=np.full((*lead, config.accumulator_rows, config.columns), 99, np.int64),
                 rows=np.zeros((*lead, 16), np.float32), counters={"macs": 0, "saturations": 0})


@pytest.mark.parametrize("mode", range(len(CONFIG.weight_formats)))
def test_golden_products_are_those_of_the_matrices(mode: int) -> None:
    """Every mode but SDQ: at once, and row by row, A·B of what was packed; K and N ragged; counters are pairs without zeros."""
    rng = np.random.default_rng(mode)
    scratchpad = np.zeros(CONFIG.scratchpad_bytes, np.uint8)
    m, n, k = 5, 5, 70
    command, product, _ = place(CONFIG, mode, m, n, k, rng, scratchpad, density=0.8, acc_addr=1)
    state = state_of(CONFIG, scratchpad)
    run_matrix(state, command)
    found = np.concatenate([state.accumulator[1 + j * m:1 + j * m + m] for j in range(3)], axis=1)
    assert (found[:, :n] == product).all()
    assert (found[:, n:] == 0).all()
    assert state.accumulator[0, 0] == state.accumulator[1 + 3 * m, 0] == 99
    rows = np.zeros((CONFIG.accumulator_rows, CONFIG.columns), np.int64)
    live = 0
    for row, accumulate, sums, count in result_rows(CONFIG, command, scratchpad):
        rows[row] = rows[row] * accumulate + sums
        live += count
    assert (rows[1:1 + 3 * m] == state.accumulator[1:1 + 3 * m]).all()
    assert live == state.counters["macs"] > 0
    run_matrix(state, command | {"accumulate": 1})
    assert (state.accumulator[1:1 + m] == 2 * found[:, :2]).all()


def test_golden_sdq_is_the_sum_of_both_products() -> None:
    """Outliers meet int8 activations, inliers those rounded to FP4: exact against float64 of the dequantized operands."""
    config = config_of(SDQ, rows=16, bus_width=512)
    rng = np.random.default_rng(5)
    scratchpad = np.zeros(config.scratchpad_bytes, np.uint8)
    m, n, k = 6, 4, 96
    command, _, _ = place(config, 1, m, n, k, rng, scratchpad)
    rng = np.random.default_rng(5)
    rng.random((m, k)), rng.integers(-128, 128, (m, k))             # what `place` drew before
    outliers, codes, shifts = random_sdq(n, k, rng)
    levels = np.array([*FP4, *(-level for level in FP4)], np.float64)
    inliers = levels[codes] * np.repeat(2.0**shifts, 16, axis=1)
    a = np.array([scratchpad[i * command["activation_stride"]:][:k].view(np.int8) for i in range(m)])
    state = state_of(config, scratchpad)
    run_matrix(state, command)
    expected = a.astype(np.float64) @ outliers.T + fp4_by_search(a) @ inliers.T
    found = np.concatenate([state.accumulator[:m], state.accumulator[m:2 * m]], axis=1)
    assert (found == expected).all()
    assert np.abs(inliers).max() == 12 * 16


def fp4_by_search(x: np.ndarray) -> np.ndarray:
    """Return activations in FP4, one after the other: the least power of two that fits, the nearest level, ties to even."""
    found = np.zeros(x.shape)
    for row, column in np.ndindex(x.shape):
        vector = x[row, column // 16 * 16:column // 16 * 16 + 16].astype(int)
        unit = next((1 << e for e in range(5) if np.abs(vector).max() <= 12 << e), 16)
        distance = [(abs(abs(int(x[row, column])) - level * unit), code % 2) for code, level in enumerate(FP4)]
        found[row, column] = np.sign(int(x[row, column])) * FP4[distance.index(min(distance))] * unit
    return found


def test_fp4_of_activations_matches_a_search() -> None:
    rng = np.random.default_rng(1)
    x = np.array([rng.integers(-limit, limit + 1, 48) for limit in (1, 5, 12, 13, 25, 48, 49, 96, 97, 127)] * 4).astype(np.int8)
    x[0, 0], x[1, 16] = -128, 127
    assert (fp4_activations(x) == fp4_by_search(x)).all()
    assert (fp4_activations(x[:, :37]) == fp4_by_search(np.pad(x[:, :37], ((0, 0), (0, 11))))[:, :37]).all()


def test_a_record_byte_by_byte() -> None:
    """Two outputs of one group 4:8 → 2:4, and one of 4:5 → 2:3, written out by hand."""
    config = config_of("hss-4:8-2:4", "hss-4:5-2:3")
    w = np.zeros((2, 32), np.int8)
    w[0, [1, 3]], w[0, 12], w[0, [24, 26]], w[0, [28, 31]] = [5, -6], 7, [1, 2], [-3, 4]   # blocks 0, 3, 6, 7
    packed = pack_sparse(config, hss_layout(config, 1, 2, 32), w)[:24].reshape(12, 2)
    assert packed[:4, 0].tolist() == [0x30, 0x76, 0b01_00_11_01, 0b11_00_10_00]
    assert packed[4:, 0].view(np.int8).tolist() == [5, -6, 7, 0, 1, 2, -3, 4]
    assert packed[:4, 1].tolist() == [0x10, 0x32, 0b01_00_01_00, 0b01_00_01_00]        # nothing: the first of everything
    assert packed[4:, 1].tolist() == [0] * 8
    w = np.zeros((1, 15), np.int8)
    w[0, 12:15] = [0, 8, 9]
    packed = pack_sparse(config, hss_layout(config, 2, 1, 15), w)
    assert packed[:24:2].tolist() == [0x10, 0x42, 0b01_00_01_00, 0b10_01_01_00, 0, 0, 0, 0, 0, 0, 8, 9]


def test_an_sdq_group_byte_by_byte() -> None:
    outliers, inliers = np.zeros((1, 16), np.int8), np.zeros((1, 16), np.uint8)
    outliers[0, 5], outliers[0, 8] = -100, 77
    inliers[0, :8], inliers[0, 9:15] = [1, 2, 3, 0, 5, 0, 7, 15], [9, 10, 11, 12, 13, 14]
    coordinates, values = sdq_group_bytes(outliers, inliers, np.array([[3]]))
    assert coordinates.tolist() == [[[0x05, 0x03, 0x53, 0x70]]]
    assert values[0, 0].tolist() == [156, 0x21, 77, 0xA9, 0x53, 0xF7, 0xCB, 0xED]


@pytest.mark.parametrize("name", ["2:4", "1:8", "hss-4:6-2:4", "hss-4:8-2:4", "hss-4:4-2:2", "hss-4:5-2:3", *SERIES])
def test_packed_weights_are_what_the_format_keeps(name: str) -> None:
    """Decoded and scaled, a matrix is what its codec makes of it, bit for bit."""
    rng = np.random.default_rng(2)
    n, k = 6, 240
    matrix = rng.normal(size=(n, k)).astype(np.float32)
    layout = weight_layout(CONFIG, n, k, name)
    data, scale = pack_weights(CONFIG, layout, matrix)
    assert data.shape == (layout.size,)
    state = state_of(CONFIG, np.concatenate([np.eye(k, dtype=np.uint8)[:60].ravel(), data, np.zeros(64, np.uint8)]))
    command = place(CONFIG, layout.mode, 60, n, k, rng, np.zeros(1 << 16, np.uint8))[0] | {
        "activation_stride": k, "weight_addr": 60 * k, "acc_tile_stride": 0}
    found = []
    for group in range(3):
        run_matrix(state, command | {"n": 2, "weight_addr": 60 * k + group * layout.group_stride})
        found.append(state.accumulator[:60].copy())
    expected = dequantize(quantize(matrix, name))[:, :60]
    assert (np.concatenate(found, axis=1).T.astype(np.float32) * scale[:, None] == expected).all()


def test_sdq_packing_keeps_the_largest_in_int8() -> None:
    """SDQ of a heavy-tailed matrix: nearer to it than FP4 alone, outliers as int8 rounds them."""
    rng = np.random.default_rng(3)
    config = config_of(SDQ, rows=16, bus_width=512, columns=8, vector_lanes=8, scratchpad_bytes=1 << 15)
    n, k = 8, 128
    matrix = rng.standard_t(3, size=(n, k)).astype(np.float32)
    layout = weight_layout(config, n, k, SDQ)
    data, scale = pack_weights(config, layout, matrix)
    one_hot = (np.eye(k, dtype=np.int8)[:64] * 8).view(np.uint8)                # 8 is exact in FP4
    state = state_of(config, np.concatenate([one_hot.ravel(), data, np.zeros(64, np.uint8)]))
    command = place(config, 1, 1, n, k, rng, np.zeros(1 << 16, np.uint8))[0] | {"m": 64, "activation_stride": k,
                                                                             "weight_addr": one_hot.size}
    run_matrix(state, command)
    found = (state.accumulator[:64] / 8).T * scale[:, None]
    wanted = matrix[:, :64]
    largest = np.abs(wanted.reshape(n, -1, 8)).argmax(axis=-1)
    picked = [np.take_along_axis(values.reshape(n, -1, 8), largest[..., None], -1) for values in (found, wanted)]
    assert np.abs(picked[0] - picked[1]).max() <= scale.max() / 2 * (1 + 1e-5)
    fp4 = dequantize(quantize(np.pad(wanted, ((0, 0), (0, 64))), "mxfp4"))[:, :64]
    assert np.square(found - wanted).sum() < np.square(fp4 - wanted).sum() / 2


def test_runs_side_by_side() -> None:
    """A scratchpad with one more axis in front: the same as each by itself."""
    rng = np.random.default_rng(8)
    config = config_of("hss-4:8-2:4", SDQ)
    for mode in (0, 1, 2):
        pads = [np.zeros(config.scratchpad_bytes, np.uint8) for _ in range(2)]
        commands = [place(config, mode, 4, 3, 40, rng, pad)[0] for pad in pads]
        both = state_of(config, np.stack(pads), (2,))
        run_matrix(both, commands[0])
        for index, pad in enumerate(pads):
            alone = state_of(config, pad)
            run_matrix(alone, commands[0])
            assert (both.accumulator[index] == alone.accumulator).all()


def test_sums_saturate_step_by_step() -> None:
    """A narrow accumulator clips after each step of K; the order counts."""
    config = config_of("2:4", acc_width=16)
    scratchpad = np.zeros(config.scratchpad_bytes, np.uint8)
    a = np.full(32, 127, np.int8)
    scratchpad[:32] = a.view(np.uint8)
    w = np.array([[127, 127, 0, 0] * 4 + [-127, -127, 0, 0] * 4], np.int8)
    layout = hss_layout(config, 1, 1, 32)
    data = pack_sparse(config, layout, w)
    scratchpad[64:64 + data.size] = data
    command = place(config, 1, 1, 1, 32, np.random.default_rng(0), np.zeros(1 << 14, np.uint8))[0] | {"weight_addr": 64}
    state = state_of(config, scratchpad)
    run_matrix(state, command)
    assert state.accumulator[0, 0] == -32768            # 32767, clipped, and then 8 · 127² less; in one sum it is 0
    assert state.counters["saturations"] == 2


@pytest.mark.parametrize(("index", "value", "text"), [
    ((1, 2), 9, r"values of a block that are not zero must be at most 2 of 4, not 3 (row 1, block 0)"),
    ((2, 53), 9, r"values of a block that are not zero must be at most 2 of 4, not 3 (row 2, block 13)"),
    ((0, 20), 9, r"blocks of a group that are not zero must be at most 4 of 8, not 5 (row 0, block 0)"),
])
def test_a_matrix_that_breaks_its_pattern_is_named(index: tuple[int, int], value: int, text: str) -> None:
    w = np.zeros((3, 64), np.int8)
    w[:, [0, 1, 4, 5, 8, 9, 12, 13, 48, 49, 52, 55]] = 1
    compress(HssMode(h1=8, h0=4), w)
    w[index] = value
    with pytest.raises(PatternError, match=f"^{re.escape(text)}$"):
        compress(HssMode(h1=8, h0=4), w)


def test_sdq_that_breaks_its_pattern_is_named() -> None:
    outliers, inliers = np.zeros((2, 16), np.int8), np.zeros((2, 16), np.uint8)
    outliers[1, [8, 15]] = 1
    with pytest.raises(PatternError, match=r"^outliers of an eight must be at most 1 of 8, not 2 \(row 1, block 1\)$"):
        sdq_group_bytes(outliers, inliers, np.zeros((2, 1), int))
    inliers[0, :7] = 3
    with pytest.raises(PatternError, match=r"^inliers of an eight must be at most 6 of 8, not 7 \(row 0, block 0\)$"):
        sdq_group_bytes(np.zeros_like(outliers), inliers, np.zeros((2, 1), int))


def test_modes_of_formats() -> None:
    assert [(mode.h1, mode.h0) for mode in hss_modes(CONFIG)[1:5]] == [(4, 4), (4, 4), (8, 4), (4, 4)]
    assert hss_modes(CONFIG)[-1].sdq
    densities = {8 / mode.group for mode in hss_modes(CONFIG)[5:-1]}
    assert len(densities) == 12
    assert engine_runtime(CONFIG).layout(CONFIG, 5, 4, 16).granule == 8


@pytest.mark.parametrize("name", ["4:8", "3:4", "hss-2:4-2:4", "hss-4:9-2:4", "hss-4:4-2:5", "int4-g32", "tasd-4:8+1:8",
                                  "sdq-8:8-1:8int8-7:8fp4"])
def test_formats_that_the_engine_does_not_take(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^a format for structured sparsity must be hss-4:H1-2:H0 .*, not '{re.escape(name)}"):
        hss_mode(format_named(name))


@pytest.mark.parametrize(("fields", "text"), [
    ({"rows": 12}, "AcceleratorConfig.rows must be a power of two for structured sparsity, at least 8 (nearest: 16), not 12"),
    ({"rows": 4}, "AcceleratorConfig.rows must be a power of two for structured sparsity, at least 8 (nearest: 8), not 4"),
    ({"dataflows": ("ws", "os")},
     "AcceleratorConfig.dataflows must be ('ws',) for structured sparsity, whose weights stay, not ('ws', 'os')"),
    ({"weight_format": "int4"},
     "AcceleratorConfig.weight_format must be 'int8' for structured sparsity (others are weight_formats), not 'int4'"),
    ({"bus_width": 128},
     ("AcceleratorConfig.bus_width must make lines of at least 32 bytes for structured sparsity (the inputs of a step), "
     "not of 16")),
    ({"engine": "stc"},
     "AcceleratorConfig.weight_formats must be dense, 2:4 or 1:4, not 'hss-4:8-2:4': others are for engine 'hss'"),
    ({"engine": "tc"}, "AcceleratorConfig.weight_formats must be dense, not 'hss-4:8-2:4': others are for engine 'hss'"),
])
def test_impossible_configs(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
        config_of("hss-4:8-2:4", **fields)


def test_a_mode_that_the_config_lacks() -> None:
    with pytest.raises(ConfigError, match=r"^mode must be below 2 for this config, not 2$"):
        hss_layout(config_of("2:4"), 2, 4, 16)


@pytest.mark.parametrize("terms", [((2, 4), (1, 8)), ((2, 8), (1, 8)), ((1, 8), (1, 8)), ((1, 4), (2, 4))])
def test_a_decomposed_matrix_is_a_command_for_each_term(terms: tuple[tuple[int, int], ...]) -> None:
    """TASD: what decomposition gives packs into the modes of its patterns; products added are A · (W − what is dropped)."""
    rng = np.random.default_rng(9)
    m, n, k = 4, 3, 80
    w = rng.integers(-128, 128, (n, k)).astype(np.int8)
    parts, dropped = decompose(w, terms)
    assert dropped.any()
    scratchpad = np.zeros(CONFIG.scratchpad_bytes, np.uint8)
    a = rng.integers(-128, 128, (m, k)).astype(np.int8)
    scratchpad[:m * k] = a.ravel().view(np.uint8)
    state, free = state_of(CONFIG, scratchpad), 512
    for index, ((keep, of), part) in enumerate(zip(terms, parts, strict=True)):
        layout = weight_layout(CONFIG, n, k, f"{keep}:{of}")
        data = pack_sparse(CONFIG, layout, part)
        scratchpad[free:free + data.size] = data
        run_matrix(state, command_of(m, n, k, 0, mode=layout.mode, activation_stride=k, weight_addr=free, acc_tile_stride=m,
                                     weight_stride=layout.weight_stride, weight_tile_stride=layout.group_stride,
                                     accumulate=int(index > 0)))
        free += data.size
    found = np.concatenate([state.accumulator[:m], state.accumulator[m:2 * m]], axis=1)[:, :n]
    assert (found == a.astype(np.int64) @ (w.astype(np.int64) - dropped).T).all()
