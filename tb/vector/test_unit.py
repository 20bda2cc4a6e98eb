"""The vector unit against its definition: the whole scratchpad image, row scalars, cycles, errors and aborts."""

from typing import Any

import numpy as np
import pytest
from amaranth.back import verilog

from hw.config import AcceleratorConfig, ceil_power_of_two
from hw.isa import ErrorCause, RowUse, StreamUse, VectorFunction, VectorOutput, VectorSource
from hw.share import EmissionPlatform
from hw.timing import vector_cycles
from hw.vector.unit import VectorUnit
from sw.golden.refusal import Refusal
from sw.golden.vector.unit import run_vector
from tb.vector.commands import VectorSpace, initial_row_scalars, random_vector_command
from tb.vector.rig import Memories, Outcome, command, run_commands

SMALL = {"scratchpad_bytes": 8192, "accumulator_rows": 64, "vector_rows": 16, "scratchpad_banks": 2}
REQUANTIZE = {
    "requantize-c4-lanes4": AcceleratorConfig(**SMALL),
    "requantize-c4-lanes1-acc20": AcceleratorConfig(**SMALL, vector_lanes=1, acc_width=20),
    "requantize-c6-lanes6-narrow": AcceleratorConfig(**SMALL, columns=6, vector_lanes=6, bus_width=64),
}
TRANSFORMER = {
    "c12-lanes2": AcceleratorConfig(**SMALL, vector="transformer", columns=12, vector_lanes=2),
    "c5-lanes5-wide": AcceleratorConfig(**SMALL, vector="transformer", columns=5, vector_lanes=5, bus_width=256),
    "c1-lanes1": AcceleratorConfig(**SMALL, vector="transformer", columns=1, vector_lanes=1, bus_width=64),
}
CONFIGS = REQUANTIZE | TRANSFORMER
ONE = 0x3F80_0000


def random_memories(config: AcceleratorConfig, seed: int, stall: float = 0.0) -> Memories:
    """Return random memories; most of the scratchpad's words are float32 values of ordinary size."""
    rng = np.random.default_rng(seed)
    scratchpad = rng.integers(0, 256, config.scratchpad_bytes, dtype=np.uint8)
    words = scratchpad.view(np.uint32)
    ordinary = (rng.standard_normal(len(words)) * 2.0**-rng.integers(0, 12, len(words))).astype(np.float32).view(np.uint32)
    words[:] = np.where(rng.random(len(words)) < 0.8, ordinary, words)
    limit = 1 << (config.acc_width - 1)
    accumulator = rng.integers(-limit, limit, (config.accumulator_rows, config.columns)) >> rng.integers(
        0, config.acc_width - 1, (config.accumulator_rows, config.columns))
    return Memories(config=config, scratchpad=scratchpad, accumulator=accumulator, stall=stall, seed=seed)


def space_of(config: AcceleratorConfig, longest: int = 16) -> VectorSpace:
    """Return three quarters of the scratchpad, and all of the accumulator and of the row scalars."""
    quarter = config.scratchpad_bytes // 4
    return VectorSpace(inputs=(quarter, 2 * quarter), output=3 * quarter, area_bytes=quarter, acc=0,
                       acc_rows=config.accumulator_rows, row=0, rows=config.vector_rows, longest=longest)


def dump_of(config: AcceleratorConfig) -> list[dict[str, int]]:
    """Return the command that writes all row scalars to the first quarter of the scratchpad, if the unit has any."""
    return [] if config.vector == "requantize" else [
        command(source=VectorSource.ROW, m=config.vector_rows, n=1, scale=ONE, output=VectorOutput.SCALAR, stride=4)]


def prime_of(config: AcceleratorConfig) -> list[dict[str, int]]:
    """Return the command that gives all row scalars a value, if the unit has any."""
    return [] if config.vector == "requantize" else [initial_row_scalars(config, space_of(config))]


def random_commands(config: AcceleratorConfig, count: int, seed: int, longest: int = 16) -> list[dict[str, int]]:
    """Return random legal commands."""
    rng = np.random.default_rng(seed)
    return [random_vector_command(config, rng, space_of(config, longest)) for _ in range(count)]


def check(memories: Memories, *batches: list[dict[str, int]], **options: Any) -> list[Outcome]:
    """Run batches of commands on the unit and on the definition; memories, row scalars and errors must agree."""
    scratchpad, accumulator = memories.scratchpad.copy(), memories.accumulator
    rows = np.zeros(memories.config.vector_rows, np.float32)
    ended = [*batches, dump_of(memories.config)]
    outcomes = run_commands(memories, *ended, **options)
    errors: list[tuple[int, int] | None] = []
    for commands in ended:
        errors.append(None)
        try:
            for one in commands:
                run_vector(memories.config, one, scratchpad, accumulator, rows)
        except Refusal as refusal:
            errors[-1] = (refusal.cause, refusal.addr)
    assert [outcome.error for outcome in outcomes] == errors
    np.testing.assert_array_equal(memories.scratchpad, scratchpad)
    return outcomes[:len(batches)]


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_random_commands(config, stall):
    memories = random_memories(config, 17, stall)
    before = memories.scratchpad.copy()
    commands = prime_of(config) + random_commands(config, 8, 17)
    (outcome,) = check(memories, commands)
    assert len(outcome.cycles) == len(commands)
    assert not np.array_equal(before, memories.scratchpad)
    formula = [vector_cycles(config, one) for one in commands]
    if stall:
        assert sum(memories.refused.values()) > 50
        assert all(cycles >= least for cycles, least in zip(outcome.cycles, formula, strict=True))
    else:
        assert outcome.cycles == formula
