# amaranth: UnusedElaboratable=no
"""What the runtime knows of the BitVert engine: weights as packed are the matrix that the format says; cycles as predicted."""

import dataclasses
import random

import numpy as np
import pytest

from hw.array.bitvert_engine import BitvertEngine
from hw.errors import ConfigError
from hw.isa import Dataflow
from sw.engines.bitvert import BITVERT, BitvertTiming, bitvert_stream
from sw.formats import dequantize, quantize
from sw.golden.array.bitvert import run_matrix
from tb.array.bitvert import CONFIG, FORMATS, STRIPES, golden_state, random_command
from tb.array.engine import EngineBench, command_of, memory_image
from tb.sim import simulate

WIDE = dataclasses.replace(CONFIG, bus_width=128, columns=8, vector_lanes=8, scratchpad_bytes=1 << 14)


@pytest.mark.parametrize(("m", "n", "k"), [(5, 7, 96), (2, 4, 64), (1, 9, 37), (3, 4, 288)])
@pytest.mark.parametrize("mode", range(4))
def test_packed_product(mode, m, n, k):
    """A matrix packed, multiplied by the golden model and scaled is activations times the matrix that the format stands for."""
    rng = np.random.default_rng(n)
    a, matrix = rng.integers(-128, 128, (m, k)).astype(np.int8), rng.normal(size=(n, k)).astype(np.float32)
    layout = BITVERT.layout(CONFIG, mode, n, k)
    packed, scale = BITVERT.pack(CONFIG, layout, matrix)
    assert packed.shape == (layout.size,)
    left = np.pad(a, ((0, 0), (0, -k % 16))).view(np.uint8)
    used = np.concatenate([left.ravel(), packed])
    state = golden_state(CONFIG, np.pad(used, (0, CONFIG.scratchpad_bytes - used.size)))
    run_matrix(state, command_of(m, n, k, Dataflow.WS, mode=mode, activation_stride=left.shape[1], weight_addr=left.size,
                                 weight_stride=layout.weight_stride, weight_tile_stride=layout.group_stride, acc_tile_stride=m))
    found = np.concatenate([state.accumulator[j * m:j * m + m] for j in range(layout.groups)], axis=1)
    padded = np.pad(matrix, ((0, 0), (0, -k % 64)))
    expected = dequantize(quantize(padded, FORMATS[mode - 1] if mode else "int8"))[:, :k].T.astype(np.float64)
    np.testing.assert_allclose(found[:, :n] * scale, a.astype(np.float64) @ expected, rtol=1e-5, atol=1e-3)
    assert (found[:, n:] == 0).all()


@pytest.mark.parametrize(("mode", "bits"), [(1, 8), (2, 6.25), (3, 4.25)])
def test_bits_of_a_weight(mode, bits):
    """A record of 64 has what the format says, and nothing else."""
    layout = BITVERT.layout(WIDE, mode, 8, 640)
    assert layout.record_bytes * 8 == 64 * WIDE.columns * bits
    assert layout.size == 8 * 640 * bits / 8
    assert layout.granule == layout.record_k == 64


def test_a_record():
    """Metadata of both groups, then for each 16 of K the columns, two bytes of each channel; zeros for channels beyond N."""
    planes = np.zeros((3, 64, 2), np.uint8)
    planes[1, 17, 0] = planes[2, 47, 1] = 1
    stream = bitvert_stream(planes, np.array([[1, 2], [3, 4], [5, 6]], np.uint8), 4)
    assert stream.shape == (1, 1, 9, 8)
    assert stream[0, 0, 0].tolist() == [1, 3, 5, 0, 2, 4, 6, 0]
    assert np.argwhere(stream[0, 0, 1:]).tolist() == [[2, 2], [5, 5]]        # pass 1, column 0, channel 1; pass 2, 1, 2
    assert (stream[0, 0, 3, 2], stream[0, 0, 6, 5]) == (1 << 1, 1 << 7)


def test_commands_of_plain_weights_start_at_whole_passes():
    assert BITVERT.layout(CONFIG, 0, 8, 100).granule == 16


@pytest.mark.parametrize("mode", [-1, 4])
def test_a_mode_that_there_is_not(mode):
    with pytest.raises(ConfigError, match=rf"^mode must be 0 to 3 \(weight_formats\), not {mode}$"):
        BITVERT.layout(CONFIG, mode, 8, 64)


@pytest.mark.parametrize("config", [CONFIG, WIDE, STRIPES])
def test_predicted_cycles(config):
    """`done` of every command, alone and in a run, in the cycle that is predicted; operands in different banks."""
    rng = random.Random(4)
    commands = []
    for _ in range(16):
        command = random_command(config, rng, rng.randrange(len(config.weight_formats) + 1), 110)
        size = config.scratchpad_bytes // 2
        commands.append(command | {
            "activation_addr": command["activation_addr"] % 512,
            "activation_stride": rng.choice((2, 8, 16, 16, 32)) * rng.randint(1, 6),
            "weight_addr": size, "weight_tile_stride": 0, "weight_stride": command["weight_stride"] % 64 // 8 * 8})
    dut = BitvertEngine(config)
    bench = EngineBench(dut, memory_image(config, 1), lanes=16)
    simulate(dut, bench.feed(commands), background=[bench.memory, bench.record])
    timing, predicted = BitvertTiming(config), []
    for at, command in zip(bench.taken, commands, strict=True):
        assert timing.next <= at
        predicted.append(timing.command(at, command))
    assert bench.done == predicted
    waits = [at - done for at, done in zip(bench.taken[1:], bench.done, strict=False)]
    assert min(waits) < 0                                                   # commands are taken while others are at work


def test_operands_in_one_bank_take_turns():
    """What reading both in turn costs, within an eighth."""
    command = command_of(6, 16, 96, Dataflow.WS, mode=3, activation_stride=96, weight_addr=1024)
    dut = BitvertEngine(WIDE)
    bench = EngineBench(dut, memory_image(WIDE, 1), one_port=True, lanes=16)
    simulate(dut, bench.feed([command] * 4), background=[bench.memory, bench.record])
    timing = BitvertTiming(WIDE)
    predicted = [timing.command(at, command) for at in bench.taken]
    assert abs(predicted[-1] / bench.done[-1] - 1) < 1 / 8
