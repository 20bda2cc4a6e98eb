# amaranth: UnusedElaboratable=no
"""The BitMoD engine with floating-point activations: every row against the golden model, cycles, errors, `abort`."""

import dataclasses
import random
from typing import Any

import numpy as np
import pytest

from hw.array.bitmod_engine import BitmodEngine
from hw.array.bitmod_float import ProductToFloat
from hw.config import AcceleratorConfig, ceil_div
from hw.engines.bitmod import bitmod_block_bytes, bitmod_command_cycles
from hw.isa import Dataflow, ErrorCause
from hw.timing import FLOAT_ACCUMULATOR_LATENCY
from sw.engines.bitmod import BitmodTiming
from sw.golden.array.bitmod import check_bitmod, result_rows
from sw.golden.refusal import Refusal
from sw.numpy_types import numpy_type
from tb.array.bitmod_commands import FORMATS, PIECE, SMALL, C, R
from tb.array.engine import EngineBench, command_of, memory_image
from tb.sim import simulate

CONFIG = AcceleratorConfig(rows=R, columns=C, weight_formats=FORMATS, activation_format="fp16", vector="transformer",
                           **SMALL | {"scratchpad_bytes": 4096})
MODES = len(FORMATS) + 1
END = CONFIG.scratchpad_bytes


def rows_of(config: AcceleratorConfig, command: dict[str, int], scratchpad: np.ndarray) -> list[tuple[int, int, list[int]]]:
    return [(row, accumulate, list(words)) for row, accumulate, words in result_rows(config, command, scratchpad)]


def recorded(bench: EngineBench) -> list[tuple[int, int, list[int]]]:
    return [(row, accumulate, [word & 0xFFFF_FFFF for word in words]) for _, row, accumulate, words in bench.rows]


def random_commands(rng: random.Random) -> list[dict[str, int]]:
    """Return a command of each mode, operands anywhere in the scratchpad."""
    found = []
    for mode in rng.sample(range(MODES), MODES):
        m, n, k = rng.randint(1, 2 * R + 1), rng.randint(1, 2 * C + 1), rng.randint(1, 70)
        found.append(command_of(m, n, k, Dataflow.WS, mode=mode, accumulate=rng.randrange(2), acc_tile_stride=m,
                                activation_addr=8 * rng.randrange(40), activation_stride=8 * rng.choice([0, 1, 3, 18, 19]),
                                weight_addr=2048 + PIECE * rng.randrange(20), weight_stride=PIECE,
                                weight_tile_stride=PIECE * rng.randint(0, 60)))
    return found


@pytest.mark.parametrize("fmt", ["float16", "bfloat16"])
@pytest.mark.parametrize(("stall", "one_port"), [(0.0, False), (0.4, True)])
def test_random_commands(fmt: str, stall: float, one_port: bool) -> None:
    """All modes mixed, any words: the same rows in the same order; rows that are added to come again late enough."""
    config = dataclasses.replace(CONFIG, activation_format=fmt)
    commands = random_commands(random.Random(f"{fmt} {stall}"))
    scratchpad = memory_image(config, 5)
    dut = BitmodEngine(config)
    bench = EngineBench(dut, scratchpad, stall=stall, one_port=one_port, seed=1, lanes=4)
    simulate(dut, bench.feed(commands, stall=stall), background=[bench.memory, bench.record], seed=1)
    for command in commands:
        check_bitmod(config, command)
    assert recorded(bench) == [row for command in commands for row in rows_of(config, command, scratchpad)]
    assert len(bench.done) == len(commands)
    written: dict[int, int] = {}
    for cycle, row, _, _ in bench.rows:
        assert cycle - written.get(row, -99) >= FLOAT_ACCUMULATOR_LATENCY
        written[row] = cycle


@pytest.mark.parametrize("mode", [0, 1, 3])
def test_golden_model_multiplies(mode: int) -> None:
    """Of real matrices the rows add up to A · W, as near as the aligned sums of the PE and float32 are."""
    rng = np.random.default_rng(mode)
    k = 48
    a = rng.standard_normal((R, k)).astype(numpy_type(CONFIG.activation))
    scratchpad = np.zeros(END, np.uint8)
    scratchpad[:a.nbytes] = a.ravel().view(np.uint8)
    # Codes and scales are random; what they are worth is what one-hot activations bring out, exactly.
    scratchpad[2048:] = rng.integers(0, 256, END - 2048)
    command = command_of(R, C, k, Dataflow.WS, mode=mode, activation_stride=2 * k, weight_addr=2048, weight_stride=PIECE)

    def product(words: np.ndarray) -> np.ndarray:
        pad = scratchpad.copy()
        pad[:words.nbytes] = words.ravel().view(np.uint8)
        total = np.zeros((R, C))
        for row, accumulate, found in rows_of(CONFIG, command, pad):
            values = np.array(found, np.uint32).view(np.float32)
            total[row] = values + (total[row] if accumulate else 0)
        return total

    weights = np.zeros((k, C))
    for first in range(0, k, R):
        one_hot = np.zeros((R, k), np.float16)
        one_hot[range(R), range(first, first + R)] = 1
        weights[first:first + R] = product(one_hot)
    assert (weights == np.rint(2 * weights) / 2).all()
    assert np.abs(weights).max() > 10
    exact = a.astype(np.float64) @ weights
    assert (np.abs(product(a) - exact) <= 2.0**-10 * (np.abs(a).astype(np.float64) @ np.abs(weights))).all()
    assert not (product(a) == exact).all()


CYCLES = [(0, (R, C, 1)), (0, (2 * R + 1, C, 0.5)), (1, (2 * R, 2 * C, 1)), (2, (1, C, 2)), (2, (R + 3, C, 1.25)), (3, (1, C, 1))]


def test_cycles() -> None:
    """The formulas of int8 activations hold, blocks of twice the bytes; a command is done 8 cycles later. So the runtime says."""
    dut = BitmodEngine(CONFIG)
    integers = BitmodEngine(dataclasses.replace(CONFIG, activation_format="int8"))
    assert bitmod_block_bytes(CONFIG) == 2 * bitmod_block_bytes(integers.config) == 4 * R
    assert dut.latency - integers.latency == ProductToFloat.latency + 6
    bench = EngineBench(dut, memory_image(CONFIG, 1), lanes=4)

    async def drive(ctx: Any) -> None:
        for mode, (m, n, groups) in CYCLES:
            k = int(groups * dut.modes[mode].group)
            bench.taken.clear()
            bench.done.clear()
            command = command_of(m, n, k, Dataflow.WS, mode=mode, activation_stride=128, weight_addr=2048)
            await bench.feed([command])(ctx)
            await bench.feed([command] * 4)(ctx)
            assert set(np.diff(bench.done[2:])) == {bitmod_command_cycles(CONFIG, m, n, k, mode)}, (mode, m, n, k)
            timing = BitmodTiming(CONFIG)
            assert [timing.command(taken, command) for taken in bench.taken] == bench.done, (mode, m, n, k)
            steps = ceil_div(k, 4) * dut.modes[mode].terms
            assert bench.done[0] - bench.taken[0] >= steps + dut.latency

    simulate(dut, drive, background=[bench.memory, bench.record])


BAD = {
    "activation address": ({"activation_addr": 4}, ErrorCause.MISALIGNED, 4),
    "end of a row": ({"activation_addr": END - 16}, ErrorCause.SCRATCHPAD_RANGE, END),
    "later row": ({"activation_addr": END - 128, "activation_stride": 64}, ErrorCause.SCRATCHPAD_RANGE, END),
    "weights before activations": ({"activation_addr": END - 32, "weight_addr": END - 8}, ErrorCause.SCRATCHPAD_RANGE, END),
    "accumulator row": ({"acc_addr": 30}, ErrorCause.ACCUMULATOR_RANGE, 33),
}


def test_errors_are_precise_and_abort_clears_them() -> None:
    """Good commands before a bad one are done and written; golden model and RTL name the same cause and address."""
    good = command_of(3, 4, 20, Dataflow.WS, mode=2, weight_stride=PIECE, weight_addr=2048, activation_stride=40)
    scratchpad = memory_image(CONFIG, 1)
    dut = BitmodEngine(CONFIG)
    bench = EngineBench(dut, scratchpad, lanes=4)

    async def drive(ctx: Any) -> None:
        for case, (change, cause, addr) in BAD.items():
            bad = command_of(4, 4, 40, Dataflow.WS, mode=1, weight_stride=PIECE, weight_addr=2048) | change
            with pytest.raises(Refusal) as refused:
                check_bitmod(CONFIG, bad)
            assert (refused.value.cause, refused.value.addr) == (cause, addr), case
            assert await bench.stopped(ctx, good, bad, held=3) == (cause, addr), case
        for after in (5, 60):
            await bench.aborted(ctx, good, after=after, settled=60)
            assert recorded(bench) == rows_of(CONFIG, good, scratchpad)
            assert len(bench.done) == 1

    simulate(dut, drive, background=[bench.memory, bench.record])
