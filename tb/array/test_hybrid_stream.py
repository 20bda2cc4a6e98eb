"""Weights that stream past the scratchpad: the same rows as from it, with pauses anywhere, and next to no cycle lost."""

import random
from typing import Any

import numpy as np
import pytest

from hw.array.hybrid import HybridEngine
from hw.config import AcceleratorConfig
from hw.engines.hybrid import MODE_MESH, MODE_STREAM, command_slots, scale_beats
from hw.isa import Dataflow
from sw.engines.hybrid import hybrid_layout
from sw.golden.array.hybrid import run_matrix
from sw.golden.refusal import Starved
from tb.array.engine import EngineBench, command_of, memory_image
from tb.array.hybrid import HYBRID_CONFIGS, accumulated, golden_state
from tb.sim import simulate


def give(dut: HybridEngine, data: bytes, *, stall: float, beats: list[int]) -> Any:
    """Return a background testbench that offers beats of `data`, and notes the cycles in which they are taken."""
    size, rng = dut.config.beat_bytes, random.Random(4)

    async def bench(ctx: Any) -> None:
        cycle = 0
        for at in range(0, len(data), size):
            while rng.random() < stall:
                ctx.set(dut.weight_stream.valid, 0)
                await ctx.tick()
                cycle += 1
            ctx.set(dut.weight_stream.payload, int.from_bytes(data[at:at + size], "little"))
            ctx.set(dut.weight_stream.valid, 1)
            ready = False
            while not ready:
                _, _, ready = await ctx.tick().sample(dut.weight_stream.ready)
                cycle += 1
            beats.append(cycle)
        ctx.set(dut.weight_stream.valid, 0)

    return bench


def weights_of(config: AcceleratorConfig, scratchpad: np.ndarray, command: dict[str, int]) -> bytes:
    """Return the bytes that a command would read from the scratchpad, in the order of the stream."""
    layout = hybrid_layout(config, command["mode"], command["n"], command["k"])
    size = layout.bytes_of(command["k"])
    starts = [command["weight_addr"] + group * command["weight_tile_stride"] for group in range(layout.groups)]
    return b"".join(scratchpad[start:start + size].tobytes() for start in starts)


@pytest.mark.parametrize("stall", [0.0, 0.6])
@pytest.mark.parametrize("name", HYBRID_CONFIGS)
def test_the_stream_gives_what_the_scratchpad_gives(name: str, stall: float) -> None:
    config = HYBRID_CONFIGS[name]
    scratchpad = memory_image(config, 2)
    commands, data = [], b""
    runs = ((1, 1, True), (3, 1, True), (1, 1 | MODE_MESH, True), (1, 1, False), (1, 0, False), (1, 1, True))
    for index, (m, mode, streamed) in enumerate(runs):
        n, k = config.columns + 1, 34
        command = command_of(m, n, k, Dataflow.WS, mode=mode, weight_addr=256 * index, weight_tile_stride=1024,
                             acc_addr=10 * index, acc_tile_stride=4)
        if streamed:
            data += weights_of(config, scratchpad, command)
            command |= {"mode": mode | MODE_STREAM}
        commands.append(command)
    from_scratchpad = [command | {"mode": command["mode"] & ~MODE_STREAM} for command in commands]
    dut = HybridEngine(config)
    bench = EngineBench(dut, scratchpad, stall=stall / 2)
    beats: list[int] = []
    simulate(dut, bench.feed(commands), background=[bench.memory, bench.record, give(dut, data, stall=stall, beats=beats)])
    expected = golden_state(config, scratchpad, from_scratchpad).accumulator
    assert (accumulated(bench) == expected).all()
    assert len(beats) == len(data) // config.beat_bytes
    state = golden_state(config, scratchpad, [])
    state.stream = np.frombuffer(data, np.uint8)
    for command in commands:
        run_matrix(state, command)
    assert (state.accumulator == expected).all()
    assert not state.stream.size


@pytest.mark.parametrize("name", ["8-2", "8-4"])
def test_clusters_take_a_beat_in_every_cycle(name: str) -> None:
    """Where a word for every cluster is a whole beat, nothing is lost but the way in: a command's beats, one a cycle.

    Tiles of two slots only do not quite hide the sequencer's cycles between commands.
    """
    config = HYBRID_CONFIGS[name]
    n, k = 3 * config.columns, 128
    commands = [command_of(1, n, k, Dataflow.WS, mode=1 | MODE_STREAM)] * 3
    layout = hybrid_layout(config, 1, n, k)
    total = 3 * layout.groups * layout.bytes_of(k)
    dut = HybridEngine(config)
    bench = EngineBench(dut, memory_image(config, 1))
    beats: list[int] = []
    simulate(dut, bench.feed(commands), background=[bench.memory, bench.record,
                                                    give(dut, memory_image(config, 3).tobytes()[:total], stall=0, beats=beats)])
    slots = command_slots(config, 1, 1, n, k)
    assert slots * config.beat_bytes * 3 == total
    assert np.diff(bench.done).tolist() == [slots + (name == "8-4")] * 2
    blocks = layout.groups * k // layout.record_k
    assert len(bench.active) == 3 * (slots - blocks * scale_beats(config))


def test_a_stream_that_does_not_come_is_a_hang() -> None:
    config = HYBRID_CONFIGS["4-2"]
    with pytest.raises(Starved, match=r"^72 bytes of weights that no load before it streams$"):
        golden_state(config, memory_image(config, 0), [command_of(1, 4, 32, Dataflow.WS, mode=1 | MODE_STREAM)])
