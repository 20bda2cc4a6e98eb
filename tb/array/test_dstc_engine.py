# amaranth: UnusedElaboratable=no
"""The dual-side sparse engine: rows, counters and cycles against golden model and formulas, at all densities."""

import numpy as np
import pytest

from hw.array.dstc_engine import DstcEngine
from hw.array.dstc_rows import DstcRows
from hw.array.dstc_sequencer import DstcSequencer
from hw.array.dual_side import DualSideCore
from hw.array.hss import HssEngine
from hw.config import AcceleratorConfig
from hw.engines import dstc as laws
from hw.engines.dstc import dstc_chunk, dstc_command_cycles, dstc_lanes, dstc_tokens
from sw.engines.dstc import DstcTiming
from sw.golden.array.dstc import nonzero_counts, result_rows, run_matrix
from sw.sparsity.cores import dstc_cycles
from tb.array.dstc import config_of, place, random_case, state_of
from tb.array.engine import EngineBench
from tb.array.hss import HssBench
from tb.array.hss import config_of as hss_config_of
from tb.array.hss import place as hss_place
from tb.sim import simulate

CONFIGS = {
    "patterns": config_of("2:4", "8:16", "16:16"),
    "plain": config_of(),
    "long records": config_of("8:32", "32:32"),
    "hierarchy": config_of("hss-4:6-2:4", "hss-4:4-2:2"),
    "wide": config_of("4:8", rows=4, columns=16, bus_width=128, vector_lanes=4),
}


def run(config: AcceleratorConfig, commands: list[dict[str, int]], scratchpad: np.ndarray, *, stall: float = 0.0,
        one_port: bool = False) -> EngineBench:
    """Run commands back to back; return what the bench saw."""
    dut = DstcEngine(config)
    bench = EngineBench(dut, scratchpad, stall=stall, one_port=one_port, seed=7, lanes=0.5)
    simulate(dut, bench.feed(commands, stall=stall), background=[bench.memory, bench.record], seed=7)
    return bench


@pytest.mark.parametrize(("name", "stall", "one_port"), [
    *((name, 0.0, False) for name in CONFIGS), ("patterns", 0.4, False), ("long records", 0.0, True), ("plain", 0.2, True)])
def test_random_commands(name: str, stall: float, one_port: bool) -> None:
    """Back to back, modes in turn, any density, operands stalled or in one bank: the same rows in the same order; products are
    the pairs without a zero; without stalls, each command is done in the cycle that the clock says for its non-zeros."""
    config = CONFIGS[name]
    scratchpad, commands = random_case(config, 12, 7)
    bench = run(config, commands, scratchpad, stall=stall, one_port=one_port)
    state = state_of(config, scratchpad)
    expected = [row for command in commands for row in result_rows(state, command)]
    assert [row[1:] for row in bench.rows] == [(row, accumulate, list(sums)) for row, accumulate, sums in expected]
    assert len(bench.done) == len(bench.taken) == len(commands)
    assert bench.error_cycle is None
    assert (bench.stalls > 20) == (stall > 0 or one_port)
    for command in commands:
        run_matrix(state, command)
    assert bench.macs == state.counters["macs"]
    if not stall and not one_port:
        timing = DstcTiming(config)
        for index, (command, done) in enumerate(zip(commands, bench.done, strict=True)):
            apart = command | {"weight_addr": config.scratchpad_bytes}          # both ports are ready, whatever the bank
            assert timing.command(bench.taken[index], apart, nonzero_counts(state, command)) == done, command
            assert index == len(commands) - 1 or 0 <= bench.taken[index + 1] - timing.next <= 2


@pytest.mark.parametrize("densities", [(1.0, 1.0), (0.5, 0.5), (0.7, 0.4), (1.0, 0.5)])
@pytest.mark.parametrize("mode", [0, 1])
def test_cycles_are_those_of_the_law(densities: tuple[float, float], mode: int) -> None:
    """In an unbroken run whose loads are hidden: Σ over tiles of Σ over k of ⌈nnzA/R⌉·⌈nnzW/(C/2)⌉, and a cycle for each row.

    Unstructured zeros on both sides; two tiles of tokens, two runs of K.
    """
    config = config_of("16:16")
    rng = np.random.default_rng(3)
    scratchpad = np.zeros(config.scratchpad_bytes, np.uint8)
    m, n, k = 16, 8, 64
    command, product, _ = place(config, mode, m, n, k, rng, scratchpad, densities=densities)
    counts = nonzero_counts(state_of(config, scratchpad), command)
    steps = sum(laws.dstc_patches(config, *pair) for tile in counts for pair in tile)
    cycles = dstc_command_cycles(config, m, n, k, mode, counts)
    assert cycles == steps + 2 * 2 * dstc_tokens(config)
    bench = run(config, [command] * 2, scratchpad)
    assert bench.done[1] - bench.done[0] == cycles
    if densities == (1.0, 1.0):
        assert cycles == dstc_command_cycles(config, m, n, k, mode)
    found = np.zeros((config.accumulator_rows, n), np.int64)
    for _, row, accumulate, sums in bench.rows[-m * 2:]:
        found[row] = found[row] * accumulate + sums
    assert (found[:m] == product).all()


def test_the_law_is_that_of_the_tables() -> None:
    """At DSTC's size, the formula's steps are those of `sw.sparsity.cores`, by which networks are rated."""
    config = AcceleratorConfig(engine="dstc", dataflows=("ws",), rows=8, columns=32, vector_lanes=8, bus_width=256, os_depth=1024)
    assert (dstc_tokens(config), dstc_lanes(config), dstc_chunk(config)) == (32, (8, 16), 32)
    rng = np.random.default_rng(4)
    a, w = rng.random((64, 96)) < 0.6, rng.random((96, 32)) < 0.5
    counts = [list(zip(a[first:first + 32].sum(axis=0).tolist(), w.sum(axis=1).tolist(), strict=True)) for first in (0, 32)]
    assert dstc_command_cycles(config, 64, 32, 96, counts=counts) == dstc_cycles(a, w) + 64


def test_very_sparse_operands_are_bound_by_their_loads() -> None:
    """A chunk takes its load at least: a cycle for each k, of packed weights one more for each 8."""
    config = config_of("16:16", os_depth=128, bus_width=256)
    rng = np.random.default_rng(5)
    for mode, load in ((0, 32), (1, 36)):
        scratchpad = np.zeros(config.scratchpad_bytes, np.uint8)
        command, *_ = place(config, mode, 4, 8, 128, rng, scratchpad, densities=(0.1, 0.1), acc_addr=0)
        bench = run(config, [command] * 3, scratchpad)
        assert set(np.diff(bench.done)) == {128 // 32 * load}           # rows leave while chunks load
        counts = nonzero_counts(state_of(config, scratchpad), command)
        assert dstc_command_cycles(config, 4, 8, 128, mode, counts) == 128 // 32 * load + 4


@pytest.mark.parametrize(("density", "gain"), [(1.0, 1.0), (0.5, 2.0), (0.25, 4.0)])
def test_against_the_dense_core(density: float, gain: float) -> None:
    """Structured zeros that fill lanes exactly: of weights, every k has half or a quarter of its outputs; as many MACs as the
    dense core of the frame, whose cycles zeros never change. Rows that leave are the overhead: 1/(steps of a tile)."""
    config = config_of(rows=2, columns=16, bus_width=128, os_depth=256, scratchpad_bytes=1 << 14)         # 2 × 8 products
    rng = np.random.default_rng(6)
    scratchpad = np.zeros(config.scratchpad_bytes, np.uint8)
    m, n, k = 8, 16, 64
    command, *_ = place(config, 0, m, n, k, rng, scratchpad)
    keep = int(m * density)
    a = rng.integers(1, 128, (m, k)).astype(np.uint8)
    for column in range(k):                                             # of every k, so many tokens are not zero
        a[rng.permutation(m)[keep:], column] = 0
    for row in range(m):
        scratchpad[row * command["activation_stride"]:][:k] = a[row]
    scratchpad[command["weight_addr"]:][:k * 16] = rng.integers(1, 128, k * 16)
    bench = run(config, [command] * 2, scratchpad)
    dense_config = hss_config_of(engine="tc", rows=8, columns=2, bus_width=256)
    dense = HssEngine(dense_config)
    pad = np.zeros(dense_config.scratchpad_bytes, np.uint8)
    same, *_ = hss_place(dense_config, 0, m, n, k, rng, pad, density=density)
    seen = HssBench(dense, pad)
    simulate(dense, seen.feed([same] * 2), background=[seen.memory, seen.record])
    assert seen.done[1] - seen.done[0] == m * n * k // 16
    assert bench.done[1] - bench.done[0] == m * n * k // 16 / gain + m


def test_constants_are_those_of_the_blocks() -> None:
    config = config_of()
    assert DstcSequencer.latency == laws.COMMAND_LATENCY
    scratchpad = np.zeros(config.scratchpad_bytes, np.uint8)
    command, *_ = place(config, 0, 1, 1, 1, np.random.default_rng(1), scratchpad)
    scratchpad[[command["activation_addr"], command["weight_addr"]]] = 1
    bench = run(config, [command], scratchpad)
    step = bench.active[0] - 1
    assert step - bench.taken[0] == laws.COMMAND_LATENCY + 1 + laws.LOADED_LATENCY
    assert bench.done[0] - step == 1 + laws.RESULT_LATENCY
    assert bench.rows[0][0] - step == DualSideCore.latency
    assert DstcRows.latency == 3
