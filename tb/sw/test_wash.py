"""A program that overwrites an accelerator's memories: all of them, whatever was in them."""

from dataclasses import replace

import numpy as np
import pytest

from hw.config import AcceleratorConfig
from hw.isa import Unit
from sw.accesses import SharedMemory
from sw.golden.branch import advance, begin, branch, commands_of
from sw.golden.device import GoldenDevice
from sw.ordering import ordered_commands
from sw.retry import overwritten_inputs
from sw.wash import wash_program
from tb.sw.configs import CONFIGS

CASES = {name: CONFIGS[name] for name in ("systolic-4x4", "systolic-8x8", "w4-5x7", "12x6", "bus512", "ws-only")}
CASES["os-only"] = AcceleratorConfig(dataflows=("os",))
CASES["large"] = replace(CONFIGS["systolic-8x8"], scratchpad_bytes=1 << 23, accumulator_rows=1 << 16, vector_rows=1 << 16)
CASES["parity"] = AcceleratorConfig(protection=(("commands", "parity"),))


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_left(name):
    config = CASES[name]
    program = wash_program(config, 128)
    memory = np.zeros(program.memory_bytes, np.uint8)
    program.place(memory)
    runs = branch(begin(config, memory), 2)
    rng = np.random.default_rng(0)
    runs.scratchpad[:] = rng.integers(0, 256, runs.scratchpad.shape, dtype=np.uint8)
    runs.accumulator[:] = rng.integers(-1000, 1000, runs.accumulator.shape)
    commands = commands_of(program)
    advance(runs, commands)
    for left in (runs.scratchpad, runs.accumulator):
        assert np.array_equal(left[0], left[1])
    assert config.vector != "transformer" or np.array_equal(runs.rows, np.zeros((2, config.vector_rows)))
    assert np.array_equal(runs.memory, np.stack([memory, memory]))
    assert {command.unit for command in commands} == {Unit.LOAD, Unit.MATRIX, *([Unit.VECTOR] * (config.vector == "transformer"))}


@pytest.mark.parametrize("name", ["systolic-4x4", "systolic-8x8", "parity"])
def test_it_runs_on_the_device_and_may_be_repeated(name):
    config = CASES[name]
    program = wash_program(config, 0)
    GoldenDevice(config).open(program.memory_bytes).run(program)
    assert SharedMemory.DRAM not in overwritten_inputs(config, program)
    assert overwritten_inputs(config, program) == {}
    assert list(ordered_commands(program))
