"""Cycles of the hybrid engine: commands alone and back to back are what the runtime's clock says, formulas of the array hold."""

import pytest

from hw.array.hybrid import HybridEngine
from hw.config import AcceleratorConfig, ceil_div
from hw.engines.hybrid import (
    FOOT_LATENCY,
    MODE_FORMAT,
    MODE_MESH,
    OPERAND_LATENCY,
    PASS_ROWS,
    RESULT_LATENCY,
    WORDS_LATENCY,
    block_shape,
    clusters_last_output,
    command_slots,
    element_beats,
    mesh_cycles,
    scale_beats,
)
from hw.isa import Dataflow
from sw.engines import engine_runtime
from sw.engines.hybrid import hybrid_layout
from tb.array.engine import EngineBench, command_of, memory_image
from tb.array.hybrid import HYBRID_CONFIGS
from tb.sim import put_one, simulate

SIZES = [(1, 1, 32, 1), (1, 2, 64, 1), (1, 1, 33, 1 | MODE_MESH), (3, 2, 40, 1), (9, 1, 64, 1), (1, 1, 3, 0), (5, 2, 12, 0),
         (6, 1, 9, 0), (1, 3, 50, 1)]
"""m, groups of outputs, k, mode."""


def command(config: AcceleratorConfig, m: int, groups: int, k: int, mode: int) -> dict[str, int]:
    n, fields = groups * config.columns, {"activation_addr": 6144}
    if mode & MODE_FORMAT:
        fields["weight_tile_stride"] = min(hybrid_layout(config, mode & MODE_FORMAT, n, k).group_stride, 2048)
    return command_of(m, n, k, Dataflow.WS, mode=mode, **fields)


@pytest.mark.parametrize("name", HYBRID_CONFIGS)
def test_a_command_alone_takes_what_the_runtime_says(name: str) -> None:
    config = HYBRID_CONFIGS[name]
    dut = HybridEngine(config)
    commands = [command(config, *size) for size in SIZES]
    bench = EngineBench(dut, memory_image(config, 0))

    async def one_by_one(ctx):
        for fields in commands:
            await put_one(ctx, dut.unit.command, fields)
            await bench.until_idle(ctx)

    simulate(dut, one_by_one, background=[bench.memory, bench.record])
    for fields, taken, done in zip(commands, bench.taken, bench.done, strict=True):
        assert done - taken == engine_runtime(config).timing(config).command(0, fields), fields


@pytest.mark.parametrize("name", HYBRID_CONFIGS)
def test_commands_in_a_row_take_what_the_runtime_says(name: str) -> None:
    config = HYBRID_CONFIGS[name]
    dut = HybridEngine(config)
    commands = [command(config, *size) for size in SIZES for _ in range(2)]
    bench = EngineBench(dut, memory_image(config, 0))
    simulate(dut, bench.feed(commands), background=[bench.memory, bench.record])
    timing, first = engine_runtime(config).timing(config), bench.taken[0]
    timing.next = 0.0
    found, said = [], []
    for fields, taken, done in zip(commands, bench.taken, bench.done, strict=True):
        found.append((taken - first, done - first))
        at = timing.next
        said.append((int(at), int(timing.command(at, fields))))
    assert [abs(a[1] - b[1]) <= 2 for a, b in zip(found, said, strict=True)] == [True] * len(found), (found, said)
    assert found[-1][1] == pytest.approx(said[-1][1], rel=0.005)


@pytest.mark.parametrize("name", HYBRID_CONFIGS)
def test_a_run_of_commands_takes_the_slots_of_the_formula(name: str) -> None:
    """Tiles of the mesh and of the clusters, back to back; commands of tiles that hide the two cycles of the sequencer."""
    config, runs = HYBRID_CONFIGS[name], 3
    dut = HybridEngine(config)
    cases = [(9, 1, 64, 1), (1, 2, 64, 1), (7, 2, 12, 0)]
    bench = EngineBench(dut, memory_image(config, 0))
    simulate(dut, bench.feed([command(config, *case) for case in cases for _ in range(runs)]),
             background=[bench.memory, bench.record])
    for index, (m, groups, k, mode) in enumerate(cases):
        done = bench.done[index * runs:(index + 1) * runs]
        slots = command_slots(config, mode, m, groups * config.columns, k)
        assert slots <= done[2] - done[1] <= slots + (2 if mode and m == 1 else 0)


def test_formulas_of_commands_are_those_of_the_array() -> None:
    """A tile costs max(m, N) on the mesh and N / S slots on the clusters; the rest is what the engine has around the array."""
    config = HYBRID_CONFIGS["8-2"]
    size, clusters, k, n = 8, 2, 32, 24
    shape = block_shape(config, 1)
    tiles = ceil_div(n, size) * ceil_div(k, size)
    assert command_slots(config, 1, 12, n, k) == mesh_cycles(size, tiles, 12) - mesh_cycles(size, 1, 12) + 12
    last = clusters_last_output(size, clusters, k, n)
    slots = last - (size + clusters - 3)
    assert slots == tiles * size // clusters
    beats = ceil_div(n, size) * ceil_div(k, shape.block)
    assert command_slots(config, 1, 1, n, k) == slots + beats * scale_beats(config)
    assert element_beats(config, shape.passes) == shape.passes * size // clusters
    alone = engine_runtime(config).timing(config).command(0, command(config, 1, 3, k, 1))
    around = WORDS_LATENCY + OPERAND_LATENCY + 1 + FOOT_LATENCY + RESULT_LATENCY
    assert alone == last + around + beats * scale_beats(config)
    assert command_slots(config, 1, 2 * PASS_ROWS + 1, size, 32) == shape.passes * (2 * PASS_ROWS + size)
