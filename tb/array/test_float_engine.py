# amaranth: UnusedElaboratable=no
"""The floating-point engine: every row against the golden model, that against numpy; cycles; bad commands and `abort`."""

import random
from typing import Any

import numpy as np
import pytest

from hw.array.float_column import FloatColumn
from hw.array.float_engine import FloatEngine
from hw.config import AcceleratorConfig
from hw.elements import FloatFormat
from hw.engines.floating import ADD_LATENCY, PRODUCT_LATENCY, float_array_latency, float_command_cycles, float_command_latency
from hw.errors import ConfigError
from hw.isa import Dataflow, ErrorCause
from hw.timing import FLOAT_ACCUMULATOR_LATENCY
from sw.engines.floating import FloatTiming
from sw.golden.array.floating import result_rows, run_matrix
from sw.golden.refusal import Refusal
from sw.golden.state import State
from sw.numpy_types import numpy_type
from tb.array.engine import EngineBench, command_of, memory_image, random_command
from tb.sim import put_one, simulate

SMALL = {"engine": "float", "dataflows": ("ws",), "vector": "transformer", "scratchpad_bytes": 2048, "scratchpad_banks": 4,
         "accumulator_rows": 64, "bus_width": 64, "os_depth": 5}
CONFIGS = {
    "4x3": AcceleratorConfig(rows=4, columns=3, vector_lanes=3, activation_format="fp16", weight_format="fp16", **SMALL),
    "2x4-bf16": AcceleratorConfig(rows=2, columns=4, activation_format="bf16", weight_format="bfloat16", **SMALL),
}
CONFIG = CONFIGS["4x3"]
WEIGHTS = CONFIG.scratchpad_bytes // 2          # another bank than that of the activations


def state_of(config: AcceleratorConfig, scratchpad: np.ndarray) -> State:
    return State(config=config, memory=np.zeros(0, np.uint8), scratchpad=scratchpad,
                 accumulator=np.zeros((config.accumulator_rows, config.columns), np.int64), rows=np.zeros(1, np.float32),
                 counters={"macs": 0})


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("stall", "one_port"), [(0.0, False), (0.3, True)])
def test_random_commands(name: str, stall: float, one_port: bool) -> None:
    """Any words, NaN and infinities among them: the same rows in the same order, no row added to before its last addition."""
    config, rng = CONFIGS[name], random.Random(7)
    commands = [random_command(config, rng) for _ in range(10)]
    scratchpad = memory_image(config, 2)
    dut = FloatEngine(config)
    bench = EngineBench(dut, scratchpad, stall=stall, one_port=one_port, seed=3)
    simulate(dut, bench.feed(commands, stall=stall), background=[bench.memory, bench.record], seed=3)
    state = state_of(config, scratchpad)
    expected = [(row, accumulate, list(words)) for command in commands for row, accumulate, words in result_rows(state, command)]
    assert [(row, accumulate, [word & 0xFFFF_FFFF for word in words]) for _, row, accumulate, words in bench.rows] == expected
    assert len(expected) > 60
    assert len(bench.done) == len(commands)
    assert bench.macs == sum(c["m"] * c["n"] * c["k"] for c in commands)
    written: dict[int, int] = {}
    distances = []
    for cycle, row, accumulate, _ in bench.rows:
        if accumulate and row in written:
            distances.append(cycle - written[row])
        written[row] = cycle
    assert min(distances) == FLOAT_ACCUMULATOR_LATENCY


@pytest.mark.parametrize("name", CONFIGS)
def test_golden_model_multiplies(name: str) -> None:
    """Matrices laid out as the engine says: A · B, within what float32 sums of K terms may be off."""
    config, rng = CONFIGS[name], np.random.default_rng(4)
    assert isinstance(config.activation, FloatFormat)
    m, n, k = 5, config.columns + 1, 3 * config.rows + 1
    kind = numpy_type(config.activation)
    a, b = rng.standard_normal((m, k)).astype(kind), rng.standard_normal((k, n)).astype(kind)
    a_slots, b_slots = -(-k // config.rows), -(-n // config.columns)
    c_slot, lanes = config.weight_slot_bytes, config.weight_slot_bytes // 2
    left = np.pad(a, ((0, 0), (0, a_slots * config.rows - k)))
    right = np.zeros((k, b_slots, lanes), kind)
    for j in range(b_slots):
        part = b[:, j * config.columns:(j + 1) * config.columns]
        right[:, j, :part.shape[1]] = part
    scratchpad = np.zeros(config.scratchpad_bytes, np.uint8)
    scratchpad[:left.nbytes], scratchpad[WEIGHTS:WEIGHTS + right.nbytes] = (x.ravel().view(np.uint8) for x in (left, right))
    state = state_of(config, scratchpad)
    command = command_of(m, n, k, Dataflow.WS, activation_stride=left.shape[1] * 2, weight_addr=WEIGHTS, acc_tile_stride=8,
                         activation_tile_stride=config.activation_slot_bytes, weight_stride=b_slots * c_slot,
                         weight_tile_stride=c_slot)
    run_matrix(state, command)
    found = state.accumulator.astype(np.uint32).view(np.float32)
    x, y = a.astype(np.float64), b.astype(np.float64)
    bound = (k + 1) * 2.0**-24 * (np.abs(x) @ np.abs(y))
    assert (np.abs(np.concatenate([found[:m], found[8:8 + m]], axis=1)[:, :n] - x @ y) <= bound).all()
    assert (state.accumulator[8:8 + m, 1:] == 0).all()
    run_matrix(state, command | {"accumulate": 1})
    again = state.accumulator.astype(np.uint32).view(np.float32)
    assert (np.abs(again[:m] - 2 * (x @ y)[:, :config.columns]) <= 4 * bound[:, :config.columns]).all()


SIZES = [(1, 3, 4), (1, 3, 12), (5, 7, 13), (9, 3, 8), (2, 6, 9), (12, 3, 4), (1, 7, 18), (3, 3, 17)]


def test_cycles() -> None:
    """A command alone, and in an unbroken run: the formulas of `hw.engines.floating`, and the clock of the runtime."""
    dut = FloatEngine(CONFIG)
    bench = EngineBench(dut, memory_image(CONFIG, 1))

    async def drive(ctx: Any) -> None:
        for m, n, k in SIZES:
            bench.taken.clear()
            bench.done.clear()
            command = command_of(m, n, k, Dataflow.WS, acc_tile_stride=m, weight_addr=WEIGHTS)
            await bench.feed([command])(ctx)
            await bench.feed([command] * 4)(ctx)
            assert bench.done[0] - bench.taken[0] == float_command_latency(CONFIG, m, n, k), (m, n, k)
            assert set(np.diff(bench.done[1:])) == {float_command_cycles(CONFIG, m, n, k)}, (m, n, k)
            timing = FloatTiming(CONFIG)
            assert [timing.command(taken, command) for taken in bench.taken] == bench.done

    simulate(dut, drive, background=[bench.memory, bench.record])


def test_predicted_cycles_of_any_run() -> None:
    """Different commands back to back, some added to rows of others: the runtime's clock, within a few cycles."""
    rng = random.Random(3)
    commands = [command_of(rng.randint(1, 9), rng.randint(1, 7), rng.randint(1, 20), Dataflow.WS, acc_tile_stride=9,
                           weight_addr=WEIGHTS, acc_addr=rng.choice([0, 0, 1, 30]), accumulate=rng.randrange(2))
                for _ in range(14)]
    dut = FloatEngine(CONFIG)
    bench = EngineBench(dut, memory_image(CONFIG, 1))
    simulate(dut, bench.feed(commands), background=[bench.memory, bench.record])
    timing, predicted, at = FloatTiming(CONFIG), [], float(bench.taken[0])
    for command in commands:
        predicted.append(timing.command(at, command))
        at = timing.next
    assert np.abs(np.array(predicted) - bench.done).max() <= 4


def test_latencies_of_the_table() -> None:
    """Pure data and hardware agree."""
    for config in CONFIGS.values():
        assert isinstance(config.activation, FloatFormat)
        column = FloatColumn(fmt=config.activation, rows=config.rows)
        assert column.latency == float_array_latency(config)
    assert PRODUCT_LATENCY["float16"] + 2 * ADD_LATENCY == float_array_latency(CONFIG)


END = CONFIG.scratchpad_bytes
BAD = {
    "m is zero": ({"m": 0}, ErrorCause.BAD_SIZE, 0),
    "output-stationary": ({"dataflow": 1}, ErrorCause.UNSUPPORTED, 1),
    "mode": ({"mode": 1}, ErrorCause.UNSUPPORTED, 1),
    "activation address": ({"activation_addr": 4}, ErrorCause.MISALIGNED, 4),
    "weight stride": ({"weight_stride": 4}, ErrorCause.MISALIGNED, 4),
    "activations": ({"activation_addr": END - 8, "activation_stride": 8}, ErrorCause.SCRATCHPAD_RANGE, END),
    "weights": ({"weight_addr": END - 8, "weight_stride": 8}, ErrorCause.SCRATCHPAD_RANGE, END),
    "accumulator row": ({"acc_addr": 62}, ErrorCause.ACCUMULATOR_RANGE, 64),
}


def test_errors_are_precise_and_abort_clears_them() -> None:
    """The good command before a bad one is done and written; after `abort` the next one works; the golden model agrees."""
    good = command_of(3, 4, 9, Dataflow.WS, acc_tile_stride=4)
    scratchpad = memory_image(CONFIG, 1)
    dut = FloatEngine(CONFIG)
    bench = EngineBench(dut, scratchpad)

    async def drive(ctx: Any) -> None:
        for case, (change, cause, addr) in BAD.items():
            bad = command_of(4, 3, 6, Dataflow.WS) | change
            with pytest.raises(Refusal) as refused:
                run_matrix(state_of(CONFIG, scratchpad), bad)
            assert refused.value.cause == cause, case
            assert await bench.stopped(ctx, good, bad, held=4) == (cause, addr), case
        for after in (3, 12, 40):
            await bench.aborted(ctx, good, after=after, settled=40)
            rows = [(row, accumulate, [word & 0xFFFF_FFFF for word in words]) for _, row, accumulate, words in bench.rows]
            assert rows == [(row, accumulate, list(words))
                            for row, accumulate, words in result_rows(state_of(CONFIG, scratchpad), good)]
            assert len(bench.done) == 1
        await put_one(ctx, dut.unit.command, good)
        await bench.until_idle(ctx)

    simulate(dut, drive, background=[bench.memory, bench.record])


FOR_IT = "for the floating-point engine"


@pytest.mark.parametrize(("fields", "text"), [
    ({"rows": 6}, rf"rows must be a power of two {FOR_IT}, at least 2 \(nearest: 8\), not 6"),
    ({"activation_format": "int8", "weight_format": "int8"},
     f"activation_format must be float16 or bfloat16 {FOR_IT}, not 'int8'"),
    ({"weight_format": "bf16"}, f"weight_format must be that of the activations {FOR_IT}, 'fp16', not 'bf16'"),
    ({"weight_formats": ("int8-g32",)}, rf"weight_formats must be empty {FOR_IT}, not \('int8-g32',\)"),
    ({"dataflows": ("ws", "os")}, rf"dataflows must be \('ws',\) {FOR_IT}, whose weights stay, not \('ws', 'os'\)"),
    ({"protection": (("engine.*", "abft"),)},
     rf"protection must ask 'none' of engine\.mesh {FOR_IT}, which has no mesh, not 'abft'"),
    ({"vector": "requantize"}, "vector must be 'transformer' with floating-point activations, not 'requantize'"),
    ({"acc_width": 24}, "acc_width must be 32 with the vector unit for transformers, not 24"),
    ({"activation_format": "fp32"}, "activation_format must be int8 or int4, float16 or bfloat16, not 'fp32'"),
    ({"engine": "systolic"}, "activation_format must be int8 or int4 for the engine 'systolic', not 'fp16'"),
    ({"engine": "bitmod"}, "weight_format must be int8 or int4 for the engine 'bitmod', not 'fp16'"),
])
def test_refused_configs(fields: dict[str, Any], text: str) -> None:
    base = {"rows": 4, "columns": 4, "activation_format": "fp16", "weight_format": "fp16", **SMALL}
    with pytest.raises(ConfigError, match=rf"^AcceleratorConfig\.{text}$"):
        AcceleratorConfig(**base | fields)
