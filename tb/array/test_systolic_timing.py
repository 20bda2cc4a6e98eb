"""Cycles of the systolic engine: a command alone, commands back to back, dataflow switches, folds of SCALE-Sim."""

import numpy as np
import pytest

from hw.array.operand import OperandFetch
from hw.array.sequencer import TileSequencer
from hw.array.systolic import SystolicEngine
from hw.config import AcceleratorConfig, ceil_div
from hw.engines import systolic as engines
from hw.engines.systolic import matrix_command_cycles, matrix_command_latency
from hw.isa import Dataflow
from hw.pe import PE_TYPES
from tb.array.engine import CONFIGS, SMALL, EngineBench, command_of, memory_image
from tb.sim import put_one, simulate

# m; n and k as whole groups of C and R, and what is left over (modulo C and R).
SIZES = [(1, (0, 1), (0, 1)), (4, (1, 0), (1, 0)), (9, (2, 2), (3, 0)), (3, (1, 1), (2, 3)), (1, (1, 0), (2, 1)),
         (7, (1, 1), (1, 2))]


def size_of(config: AcceleratorConfig, size: tuple) -> tuple[int, int, int]:
    """Return (m, n, k) of an entry of `SIZES`."""
    m, (n_groups, n_left), (k_groups, k_left) = size
    return m, max(1, n_groups * config.columns + n_left % config.columns), max(1, k_groups * config.rows + k_left % config.rows)


@pytest.mark.parametrize("serialize", [0, 1])
@pytest.mark.parametrize("name", CONFIGS)
def test_latency_of_a_command_alone(name: str, serialize: int) -> None:
    config = CONFIGS[name]
    dut = SystolicEngine(config)
    commands = [command_of(*size_of(config, size), Dataflow[dataflow.upper()], serialize=serialize)
                for dataflow in config.dataflows for size in SIZES]
    bench = EngineBench(dut, memory_image(config, 0))

    async def one_by_one(ctx):
        for command in commands:
            await put_one(ctx, dut.unit.command, command)
            await bench.until_idle(ctx)

    simulate(dut, one_by_one, background=[bench.memory, bench.record])
    for command, taken, done in zip(commands, bench.taken, bench.done, strict=True):
        size = (command["m"], command["n"], command["k"])
        assert done - taken == matrix_command_latency(config, *size, Dataflow(command["dataflow"]), bool(serialize)), command


@pytest.mark.parametrize("serialize", [0, 1])
@pytest.mark.parametrize("name", CONFIGS)
def test_cycles_of_commands_back_to_back(name: str, serialize: int) -> None:
    config, runs = CONFIGS[name], 3
    dut = SystolicEngine(config)
    bench = EngineBench(dut, memory_image(config, 0))
    cases = [(size_of(config, size), Dataflow[dataflow.upper()]) for dataflow in config.dataflows for size in SIZES]
    commands = [command_of(*size, dataflow, serialize=serialize) for size, dataflow in cases for _ in range(runs)]
    simulate(dut, bench.feed(commands), background=[bench.memory, bench.record])
    exact = 0
    for (size, dataflow), done in zip(cases, np.reshape(bench.done, (-1, runs)), strict=True):
        m, _, k = size
        cycles = matrix_command_cycles(config, *size, dataflow, bool(serialize))
        last_tile = max(m, (k - 1) % config.rows + 1) if dataflow == Dataflow.WS else max(
            (k - 1) % config.os_depth + 1, config.rows)
        intervals = set(np.diff(done))
        if last_tile >= engines.COMMAND_LATENCY or serialize:
            assert intervals == {cycles}, (size, dataflow)
            exact += 1
        else:
            assert max(intervals) <= cycles + engines.COMMAND_LATENCY - 1, (size, dataflow)
    assert exact >= len(cases) // 3


@pytest.mark.parametrize("name", [name for name, config in CONFIGS.items() if len(config.dataflows) == 2])
def test_switching_the_dataflow(name: str) -> None:
    """WS → OS costs nothing. OS → WS: preload after the last OS slot, while the sums drain."""
    config = CONFIGS[name]
    dut = SystolicEngine(config)
    bench = EngineBench(dut, memory_image(config, 0))
    m, n, k = 6, config.columns, 2 * config.rows
    commands = [command_of(m, n, k, dataflow) for dataflow in (Dataflow.WS, Dataflow.OS, Dataflow.WS)]
    simulate(dut, bench.feed(commands), background=[bench.memory, bench.record])
    slots = [2 * m, ceil_div(m, config.rows) * k, 2 * m]
    assert len(bench.active) == sum(slots)
    last_ws, first_os = bench.active[slots[0] - 1:slots[0] + 1]
    last_os, first_ws = bench.active[slots[0] + slots[1] - 1:slots[0] + slots[1] + 1]
    assert first_os - last_ws == 1
    assert first_ws - last_os == 1 + config.rows


def test_latency_constants_are_those_of_the_blocks() -> None:
    assert OperandFetch.latency == engines.OPERAND_LATENCY
    assert TileSequencer.latency + 1 == engines.COMMAND_LATENCY


@pytest.mark.parametrize("kind", PE_TYPES)
@pytest.mark.parametrize(("rows", "columns", "m", "k", "n"), [
    (4, 4, 9, 12, 8), (3, 5, 1, 9, 5), (2, 4, 7, 2, 4), (4, 4, 9, 13, 7), (3, 5, 4, 1, 6), (5, 2, 1, 16, 3), (1, 1, 2, 3, 2),
    (4, 3, 7, 6, 1)])
def test_without_overlap_the_engine_takes_the_folds_of_scale_sim(rows: int, columns: int, m: int, k: int, n: int,
                                                                 kind: str) -> None:
    """Whatever M, N, K: ⌈K/R⌉⌈N/C⌉ folds of M + 2R + C − 2 (WS), ⌈M/R⌉⌈N/C⌉ of K + R + C − 2 (OS), a constant per fold apart.

    The constants: the register at the array's foot (WS), and with it the R rows of drain (OS).
    """
    config = AcceleratorConfig(pe=kind, rows=rows, columns=columns, vector_lanes=columns, **(SMALL | {"os_depth": 16}))
    totals = {
        Dataflow.WS: ceil_div(k, rows) * ceil_div(n, columns) * (engines.scale_sim_ws_fold(rows, columns, m) + 1),
        Dataflow.OS: ceil_div(m, rows) * ceil_div(n, columns) * (engines.scale_sim_os_fold(rows, columns, k) + rows + 1)}
    for dataflow, total in totals.items():
        assert matrix_command_cycles(config, m, n, k, dataflow, True) == total
        dut = SystolicEngine(config)
        bench = EngineBench(dut, memory_image(config, 0))
        simulate(dut, bench.feed([command_of(m, n, k, dataflow, serialize=1)] * 3), background=[bench.memory, bench.record])
        assert set(np.diff(bench.done)) == {total}
