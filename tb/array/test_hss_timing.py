# amaranth: UnusedElaboratable=no
"""Cycles of the structured-sparsity engine: the law of every mode, speedups, no tax where dense, none for zeros."""

import dataclasses
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from hw.array.hss import HssEngine
from hw.array.hss_column import HssColumn
from hw.array.hss_sequencer import HssSequencer
from hw.config import AcceleratorConfig, ceil_div
from hw.engines import hss as laws
from hw.engines.hss import hss_command_cycles, hss_command_latency, hss_fetches, hss_granule, hss_modes, hss_record_slots
from hw.memory.vfmu import VariableFetch
from sw.engines.hss import HssTiming
from tb.array.hss import ALL, SDQ, SERIES, HssBench, config_of, place
from tb.sim import put_one, simulate

HIGHLIGHT = config_of(*ALL)
OTHERS = config_of("2:4", "1:8", SDQ, *SERIES)


def run(config: AcceleratorConfig, commands: list[dict[str, int]], scratchpad: np.ndarray) -> HssBench:
    """Run commands back to back; return what the bench saw."""
    dut = HssEngine(config)
    bench = HssBench(dut, scratchpad)
    simulate(dut, bench.feed(commands), background=[bench.memory, bench.record])
    return bench


def law(config: AcceleratorConfig, m: int, n: int, k: int, mode: int) -> int:
    """Return ⌈N/C⌉·⌈K/(R/8·H1·H0)⌉·max(M, load), as the specification has it; of a series the sum over its terms."""
    return ceil_div(n, config.columns) * sum(
        ceil_div(k, config.rows // 8 * term.h1 * term.h0) * max(m, hss_record_slots(config, term))
        for term in hss_modes(config)[mode].terms)


@pytest.mark.parametrize("config", [HIGHLIGHT, OTHERS], ids=["highlight", "others"])
def test_every_mode_takes_the_cycles_of_the_law(config: AcceleratorConfig) -> None:
    """In an unbroken run, weights hidden (M = 14) or not (M = 5); after a change of mode, too, no cycle is lost."""
    rng = np.random.default_rng(1)
    config = dataclasses.replace(config, scratchpad_bytes=1 << 16)
    scratchpad = np.zeros(config.scratchpad_bytes, np.uint8)
    commands, expected, free = [], [], 0
    for mode, chosen in enumerate(hss_modes(config)):
        for m, n, steps in ((14, 3, 2), (5, 2, 3)):
            k = steps * hss_granule(config, chosen)
            command, _, free = place(config, mode, m, n, k, rng, scratchpad, activation_addr=free)
            commands += [command] * 3
            expected.append(law(config, m, n, k, mode))
            assert expected[-1] == hss_command_cycles(config, m, n, k, mode)
    bench = run(config, commands, scratchpad)
    for index, cycles in enumerate(expected):
        assert set(np.diff(bench.done[3 * index:3 * index + 3])) == {cycles}, commands[3 * index]
    # Where a mode follows another, a step waits for the other's tokens or its own weights, whichever take longer.
    for index, (before, after) in enumerate(zip(commands[2:-1:3], commands[3::3], strict=True)):
        load = hss_record_slots(config, hss_modes(config)[after["mode"]].terms[0])
        cycles = expected[index + 1] - max(after["m"], load) + max(before["m"], load) + after["m"] - before["m"]
        assert bench.done[3 * index + 3] - bench.done[3 * index + 2] == cycles


def test_speedup_is_that_of_the_pattern() -> None:
    """Against dense, exactly (H1/4)·(H0/2), where steps divide K: measured, from done to done."""
    rng = np.random.default_rng(2)
    config = dataclasses.replace(HIGHLIGHT, scratchpad_bytes=1 << 16)
    scratchpad = np.zeros(config.scratchpad_bytes, np.uint8)
    commands, modes, free = [], [0], 0
    modes += [mode for mode, chosen in enumerate(hss_modes(config)) if mode and 96 % chosen.group == 0]
    for mode in modes:
        command, _, free = place(config, mode, 14, 2, 96, rng, scratchpad, activation_addr=free)
        commands += [command] * 2
    bench = run(config, commands, scratchpad)
    dense, *cycles = (later - earlier for earlier, later in zip(bench.done[::2], bench.done[1::2], strict=True))
    assert len(cycles) == 8
    for mode, taken in zip(modes[1:], cycles, strict=True):
        chosen = hss_modes(config)[mode]
        assert Fraction(dense, taken) == Fraction(chosen.h1, 4) * Fraction(chosen.h0, 2)


def test_latency_of_a_command_alone() -> None:
    """`hss_command_latency`, also for several pieces of tokens, and plain weights with a short last step; lines are read once."""
    config = config_of("hss-4:8-2:4", "hss-4:5-2:3", SDQ, "tasd-2:4+1:8", accumulator_rows=256, scratchpad_bytes=1 << 16)
    rng = np.random.default_rng(3)
    scratchpad = np.zeros(config.scratchpad_bytes, np.uint8)
    sizes = [(0, 9, 4, 27), (0, 1, 1, 1), (1, 15, 3, 64), (1, 1, 4, 96), (2, 7, 2, 40), (3, 12, 4, 48), (0, 131, 2, 20),
             (1, 140, 2, 64), (4, 9, 3, 96), (4, 3, 2, 40), (4, 130, 2, 16)]
    commands, free = [], scratchpad.size // 2          # weights in other banks than activations
    for size in sizes:
        command, _, free = place(config, *size, rng, scratchpad, weight_addr=free)
        commands.append(command)
    dut = HssEngine(config)
    bench = HssBench(dut, scratchpad)

    async def one_by_one(ctx: Any) -> None:
        for command in commands:
            await put_one(ctx, dut.unit.command, command)
            await bench.until_idle(ctx)

    simulate(dut, one_by_one, background=[bench.memory, bench.record])
    for (mode, m, n, k), command, taken, done in zip(sizes, commands, bench.taken, bench.done, strict=True):
        assert done - taken == hss_command_latency(config, m, n, k, mode), command
        assert HssTiming(config).command(taken, command) == done, command
    assert bench.fetched == sum(hss_fetches(config, m, n, k, mode) for mode, m, n, k in sizes)


def test_prediction_of_a_run() -> None:
    """The runtime's clock says when commands in a row are done, to the cycle; with rows that begin inside a line, too."""
    config = config_of("hss-4:8-2:4", "hss-4:5-2:3", "tasd-2:4+1:8")
    rng = np.random.default_rng(4)
    scratchpad = np.zeros(config.scratchpad_bytes, np.uint8)
    commands, free = [], scratchpad.size // 2
    for mode, m, n, k in ((0, 9, 4, 24), (1, 6, 2, 64), (2, 20, 3, 40), (0, 12, 2, 16), (3, 30, 2, 64)):
        command, _, free = place(config, mode, m, n, k, rng, scratchpad, weight_addr=free)
        commands.append(command)
        commands.append(commands[-1] | {"activation_addr": 20, "activation_stride": 32})
        commands.append(commands[-1] | {"activation_addr": 0, "activation_stride": 20})     # rows begin here and there
    bench = run(config, commands, scratchpad)
    timing = HssTiming(config)
    for command, taken, done in zip(commands, bench.taken, bench.done, strict=True):
        assert timing.command(taken, command) == done, command
    timing = HssTiming(config)
    for command, taken in zip(commands, bench.taken[1:], strict=False):
        timing.command(bench.taken[commands.index(command)], command)
        assert abs(timing.next - taken) <= 2, command


@pytest.mark.parametrize("density", [1.0, 0.5, 0.1, 0.0])
def test_zeros_of_activations_gate_and_cost_nothing(density: float) -> None:
    """Cycles are the same at every density; active MACs are those with two operands that are not zero, the rest are gated."""
    config = config_of("hss-4:8-2:4", SDQ)
    rng = np.random.default_rng(5)
    scratchpad = np.zeros(config.scratchpad_bytes, np.uint8)
    sizes = ((0, 14, 4, 24), (1, 14, 4, 64))
    commands, products, _ = zip(*(place(config, *size, rng, scratchpad, activation_addr=2048 * index, density=density)
                                  for index, size in enumerate(sizes)), strict=True)
    bench = run(config, list(commands), scratchpad)
    first = sum(1 for row in bench.rows if row[0] < bench.done[0])
    for (mode, m, n, k), command, counted in zip(sizes, commands, (bench.counted[:first], bench.counted[first:]), strict=True):
        a = np.array([scratchpad[command["activation_addr"] + i * command["activation_stride"]:][:k] for i in range(m)])
        issued = law(config, m, n, k, mode) // 14 * 14 * config.rows * config.columns
        active = sum(macs for macs, _ in counted)
        assert active + sum(gated for _, gated in counted) == issued
        assert active <= np.count_nonzero(a) * n
        assert (active > 0) == (density > 0)
    assert bench.done[1] - bench.taken[0] == 4 + 8 + (law(config, *sizes[0][1:], 0) + law(config, *sizes[1][1:], 1)) + 6
    assert products[0].any() == (density > 0)


def test_dense_costs_what_the_dense_core_takes() -> None:
    """Plain weights, and the packed dense mode: the same rows in the same cycles as in the core that knows nothing else."""
    seen = []
    for config, modes in ((HIGHLIGHT, (0, 1)), (config_of("hss-4:4-2:2", engine="tc"), (0, 1)),
                          (config_of("2:4", engine="stc"), (0,))):
        for mode in modes:
            rng = np.random.default_rng(6)
            scratchpad = np.zeros(config.scratchpad_bytes, np.uint8)
            a = rng.integers(0, 256, (10, 32)).astype(np.uint8)
            w = rng.integers(0, 256, (2, 32, 2)).astype(np.uint8)          # two groups of columns, slots of both modes alike
            scratchpad[:320], scratchpad[512:640] = a.ravel(), w.ravel()
            command, *_ = place(config, mode, 10, 4, 32, rng, np.zeros_like(scratchpad))
            command |= {"weight_addr": 512, "weight_stride": 2, "weight_tile_stride": 64}
            bench = run(config, [command] * 2, scratchpad)
            seen.append((bench.rows, bench.done, bench.counted))
            assert bench.rows[0][3] == list(a[0, :8].view(np.int8).astype(int) @ w[0, :8].view(np.int8))
    assert all(other == seen[0] for other in seen[1:])


def test_sdq_is_twice_as_fast_as_dense() -> None:
    """1:8 int8 and 6:8 FP4 in the time of half of the dense int8 MACs of as many lanes."""
    for rows in (8, 16, 32):
        config = AcceleratorConfig(engine="hss", dataflows=("ws",), rows=rows, columns=64, weight_formats=(SDQ,), bus_width=512,
                                   vector_lanes=32, accumulator_rows=512, scratchpad_bytes=1 << 20)
        assert hss_command_cycles(config, 64, 64, 1024, 0) == 2 * hss_command_cycles(config, 64, 64, 1024, 1)


def test_constants_are_those_of_the_blocks() -> None:
    assert HssSequencer.latency + 1 == laws.COMMAND_LATENCY
    assert VariableFetch.latency + 1 + HssColumn.latency == laws.RESULT_LATENCY
