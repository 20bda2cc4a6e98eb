"""The hybrid engine: random commands of all modes against the golden model, and one result whichever mode makes it."""

import random

import numpy as np
import pytest

from hw.array.hybrid import HybridEngine
from hw.engines.hybrid import MODE_MESH, PASS_ROWS, scale_beats
from hw.isa import Dataflow
from sw.engines import pack_weights, weight_layout
from sw.engines.hybrid import lost_blocks
from tb.array.engine import EngineBench, command_of, memory_image
from tb.array.hybrid import HYBRID_CONFIGS, accumulated, golden_state, random_hybrid_command
from tb.sim import simulate

HALF = 1 << 30


@pytest.mark.parametrize(("stall", "one_port"), [(0.0, True), (0.5, False)])
@pytest.mark.parametrize("name", HYBRID_CONFIGS)
def test_random_commands(name: str, stall: float, one_port: bool) -> None:
    config, seed = HYBRID_CONFIGS[name], 3
    rng = random.Random(seed)
    kinds = ["clusters", "mesh", "plain", "clusters", "clusters", "plain", "mesh", "mesh", "clusters"]
    commands = [random_hybrid_command(config, rng, kind) for kind in kinds]
    scratchpad = memory_image(config, seed)
    dut = HybridEngine(config)
    bench = EngineBench(dut, scratchpad, stall=stall, one_port=one_port, seed=seed)
    simulate(dut, bench.feed(commands, stall=stall / 10), background=[bench.memory, bench.record], seed=seed)
    state = golden_state(config, scratchpad, commands, HALF)
    assert (accumulated(bench, HALF) == state.accumulator).all()
    assert bench.macs == state.counters["macs"]
    assert bench.counted.items() <= state.counters.items()
    assert bench.counted["blocks_padded"] > 0
    assert len(bench.done) == len(commands)
    assert (bench.stalls > 0) == (stall > 0 or one_port)


@pytest.mark.parametrize("name", HYBRID_CONFIGS)
def test_prefill_of_one_token_and_decode_write_the_same_rows(name: str) -> None:
    """Not only the same sums: the accumulator gets the same rows in the same order."""
    config = HYBRID_CONFIGS[name]
    scratchpad = memory_image(config, 5)
    rows = []
    for bit in (0, MODE_MESH):
        dut = HybridEngine(config)
        bench = EngineBench(dut, scratchpad)
        command = command_of(1, 2 * config.columns, 140, Dataflow.WS, mode=1 | bit, weight_tile_stride=3072, acc_tile_stride=4)
        simulate(dut, bench.feed([command]), background=[bench.memory, bench.record])
        rows.append([row[1:] for row in bench.rows])
    assert rows[0] == rows[1]
    assert len(rows[0]) > 2


def test_sums_saturate_block_by_block() -> None:
    """The largest sums that there are, onto words near the end of their range: order matters, and both modes keep it."""
    config = HYBRID_CONFIGS["4-2"]
    scratchpad = np.full(config.scratchpad_bytes, 127, np.uint8)
    layout = weight_layout(config, 4, 128, "mxint4")
    signs = np.repeat([1.0, -1.0, 1.0, 1.0], 32)[None].repeat(4, axis=0).astype(np.float32)
    packed, _ = pack_weights(config, layout, signs)
    scratchpad[:packed.size] = packed
    commands = [command_of(1, 4, 128, Dataflow.WS, mode=1 | bit, activation_addr=4096, accumulate=1, acc_addr=bit >> 7)
                for bit in (0, MODE_MESH)]
    start = (1 << 31) - 1_000_000
    dut = HybridEngine(config)
    bench = EngineBench(dut, scratchpad)
    simulate(dut, bench.feed(commands), background=[bench.memory, bench.record])
    state = golden_state(config, scratchpad, commands, start)
    assert state.counters["saturations"] > 2
    found = accumulated(bench, start)
    assert (found == state.accumulator).all()
    assert (found[0] == found[1]).all()
    block = 32 * 127 * 4 << config.guard_bits
    assert found[0, 0] == (1 << 31) - 1
    assert block * 2 + start > 1 << 31


def test_blocks_of_several_passes_cut_tokens_into_pieces() -> None:
    config = HYBRID_CONFIGS["8-4"]
    commands = [command_of(PASS_ROWS + 3, 9, 33, Dataflow.WS, mode=1, activation_stride=40, weight_tile_stride=512,
                           weight_addr=4096, acc_tile_stride=0, accumulate=1)]
    config = HYBRID_CONFIGS["8-4"]
    scratchpad = memory_image(config, 7)
    dut = HybridEngine(config)
    bench = EngineBench(dut, scratchpad)
    simulate(dut, bench.feed(commands), background=[bench.memory, bench.record])
    assert (accumulated(bench) == golden_state(config, scratchpad, commands).accumulator).all()
    assert len(bench.rows) == 2 * 2 * (PASS_ROWS + 3)


def test_weights_are_those_that_were_packed() -> None:
    """From float32 to sums and back: what one in the accumulator is worth, times it, is the product with dequantized weights."""
    config = HYBRID_CONFIGS["8-2"]
    rng = np.random.default_rng(4)
    weights = rng.standard_normal((11, 200)).astype(np.float32)
    scratchpad = memory_image(config, 9)
    activations = scratchpad[:200].view(np.int8).astype(np.float64)
    for mode, name in enumerate(config.weight_formats, 1):
        layout = weight_layout(config, 11, 200, name)
        packed, worth = pack_weights(config, layout, weights)
        scratchpad[1024:1024 + packed.size] = packed
        command = command_of(1, 11, 200, Dataflow.WS, mode=mode, weight_addr=1024, weight_tile_stride=layout.group_stride,
                             acc_tile_stride=1)
        sums = golden_state(config, scratchpad, [command]).accumulator[:2].ravel()[:11]
        from sw.formats.tensor import dequantize, quantize

        expected = dequantize(quantize(weights, name)).astype(np.float64) @ activations
        assert np.allclose(sums * worth, expected, rtol=1e-5, atol=np.abs(expected).max() * 1e-6)
    assert scale_beats(config) == 1


@pytest.mark.parametrize("tokens", [1, 3, PASS_ROWS + 1])
def test_blocks_whose_exponents_are_too_far_apart_are_counted(tokens: int) -> None:
    """Whatever reads them, each once a command: those rounded, flushed and padded, not those without weights."""
    config = HYBRID_CONFIGS["4-2"]
    weights = np.zeros((5, 140), np.float32)
    weights[:4, ::32] = [1.0, 2.0**-config.guard_bits, 2.0 ** -(config.guard_bits + 1), 2.0**-31, 2.0**-60]
    layout = weight_layout(config, 5, 140, "mxint4")
    packed, _ = pack_weights(config, layout, weights)
    scratchpad = memory_image(config, 6)
    scratchpad[:packed.size] = packed
    command = command_of(tokens, 5, 140, Dataflow.WS, mode=1, weight_tile_stride=layout.group_stride, activation_addr=4096,
                         activation_stride=8, acc_tile_stride=0)
    dut = HybridEngine(config)
    bench = EngineBench(dut, scratchpad)
    simulate(dut, bench.feed([command]), background=[bench.memory, bench.record])
    assert bench.counted == {"blocks_rounded": 8, "blocks_flushed": 4, "blocks_padded": 5}
    assert bench.counted.items() <= golden_state(config, scratchpad, [command]).counters.items()
    assert lost_blocks(config, layout, weights) == (8, 4)
