"""The vector unit against its definition: the whole scratchpad image, row scalars, cycles, errors and aborts."""

from typing import Any

import numpy as np
import pytest
from amaranth.back import verilog

from hw.config import AcceleratorConfig, ceil_div, ceil_power_of_two
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
    "c4-lanes2-range": AcceleratorConfig(**SMALL, vector="transformer", vector_lanes=2, protection=(("activations", "range"),)),
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
    return VectorSpace(inputs=(2 * quarter, 3 * quarter), output=quarter, area_bytes=quarter, acc=0,
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
    commands = prime_of(config) + random_commands(config, 28, 17)
    (outcome,) = check(memories, commands)
    assert len(outcome.cycles) == len(commands)
    assert not np.array_equal(before, memories.scratchpad)
    formula = [vector_cycles(config, one) for one in commands]
    if stall:
        assert sum(memories.refused.values()) > 50
        assert all(cycles >= least for cycles, least in zip(outcome.cycles, formula, strict=True))
    else:
        assert outcome.cycles == formula


@pytest.mark.parametrize("config", TRANSFORMER.values(), ids=TRANSFORMER.keys())
def test_rows_of_one_slice_with_both_scalars(config):
    rng = np.random.default_rng(3)
    commands = prime_of(config)
    for one in random_commands(config, 12, 3, longest=config.vector_lanes):
        row, both = int(rng.integers(0, 3)), {"sum": int(rng.integers(1, 3)), "max": int(rng.integers(1, 3)), "post": 0}
        m = min(one["m"], 4)
        commands.append(one | both | {"m": m, "row0_addr": row, "row1_addr": row, "sum_addr": 4, "max_addr": 8})
    for stall in (0.0, 0.4):
        (outcome,) = check(random_memories(config, 3, stall), commands)
        assert len(outcome.cycles) == len(commands)
        if not stall:
            assert outcome.cycles == [vector_cycles(config, one) for one in commands]


@pytest.mark.parametrize("name", ["c12-lanes2", "requantize-c4-lanes4"])
def test_a_stall_of_one_port_alone(name):
    config = CONFIGS[name]
    for port in ("acc", "read_a", "read_b", "read_c", "write")[:: 1 if config.vector == "transformer" else 2]:
        memories = random_memories(config, 5, stall=0.6)
        memories.only = port
        check(memories, prime_of(config) + random_commands(config, 10, 5))
        assert memories.refused[port] > 10
        assert sum(memories.refused.values()) == memories.refused[port]


@pytest.mark.parametrize("name", ["c12-lanes2", "c5-lanes5-wide", "requantize-c6-lanes6-narrow"])
def test_no_byte_beyond_the_last_column_is_written(name):
    config = CONFIGS[name]
    kinds = {VectorOutput.INT8: 8}
    if config.vector == "transformer":
        kinds |= {VectorOutput.FLOAT32: 32, VectorOutput.UINT4: 4}
    for output, bits in kinds.items():
        for n in range(1, 2 * config.columns + 2):
            memories = random_memories(config, n)
            memories.scratchpad[:] = 0xA5
            memories.accumulator[:] = 3
            check(memories, [command(m=2, n=n, scale=ONE, output=output, addr=4096, stride=512, acc_tile_stride=4)])
            groups = memories.scratchpad[4096:4096 + 512].reshape(-1, config.output_slot_bytes * bits // 8)
            for group, written in enumerate(groups):
                columns = min(max(0, n - group * config.columns), config.columns)
                assert np.all(written[ceil_div(columns * bits, 8):] == 0xA5)
                assert np.all(written[:columns * bits // 8] != 0xA5)


def whole_command(config: AcceleratorConfig) -> dict[str, int]:
    """Return a legal command with all streams and scalars that a unit has, five rows of three groups, apart from each other."""
    quarter, groups = config.scratchpad_bytes // 4, 3
    row = groups * config.parameter_slot_bytes
    fields = {"m": 5, "n": groups * config.columns, "b_en": 1, "b_addr": 2 * quarter, "b_stride": row,
              "c_addr": 2 * quarter + 5 * row, "c_stride": row, "addr": quarter, "stride": row}
    if config.vector == "requantize":
        return command(**fields, acc_tile_stride=6, c_use=StreamUse.BIAS, output=VectorOutput.INT8)
    return command(**fields, source=VectorSource.FLOAT32, a_addr=3 * quarter, a_stride=row, c_use=StreamUse.POST, post=1,
                   row0_en=1, row1_use=RowUse.MIDDLE, row1_addr=5, middle=1, sum=1, sum_addr=11, max=1,
                   output=VectorOutput.FLOAT32)


def wrong_values(config: AcceleratorConfig) -> dict[str, dict[str, int]]:
    """Return a name → fields of values and combinations that the unit refuses."""
    cases = {"source": {"source": 6}, "middle": {"middle": 3}, "function": {"function": 6}, "post": {"post": 3},
             "sum": {"sum": 3}, "max": {"max": 3}, "output": {"output": 5}, "reciprocal": {"function": VectorFunction.RECIPROCAL},
             "rsqrt": {"function": VectorFunction.RSQRT}, "bias": {"c_use": StreamUse.BIAS, "source": VectorSource.INT8},
             "row-output": {"source": VectorSource.ROW}, "scalar-output": {"source": VectorSource.SCALAR},
             "scalar-b": {"source": VectorSource.SCALAR, "output": VectorOutput.NONE},
             "scalar-c": {"source": VectorSource.SCALAR, "output": VectorOutput.NONE, "b_en": 0},
             "squares": {"sum": 2, "post": 2},
             "everything": dict.fromkeys(whole_command(config), 3) | {"m": 0, "n": 0, "source": 7}}
    if config.range_restriction:
        del cases["middle"]
    if config.vector_lanes == 1:
        cases |= {"nibble-source": {"source": VectorSource.UINT4}, "nibble-output": {"output": VectorOutput.UINT4}}
    if config.vector == "requantize":
        cases |= {name: {name: 1} for name in ("row0_en", "row1_use", "mask_en", "function", "post", "sum", "max", "middle")}
        cases |= {"float-source": {"source": VectorSource.FLOAT32, "c_use": 0}, "no-output": {"output": VectorOutput.NONE},
                  "float-output": {"output": VectorOutput.FLOAT32}, "middle-c": {"c_use": StreamUse.MIDDLE}}
    return cases


def wrong_places(config: AcceleratorConfig) -> dict[str, tuple[dict[str, int], ErrorCause]]:
    """Return a name → fields of sizes and places that break one rule, and its cause."""
    size, rows, slots = config.scratchpad_bytes, config.accumulator_rows, ceil_power_of_two(config.vector_lanes)
    cases = {"m": ({"m": 0}, ErrorCause.BAD_SIZE), "n": ({"n": 0}, ErrorCause.BAD_SIZE)}
    streams = {"b_addr": 4, "c_addr": 4, "addr": 1 if config.vector == "requantize" else 4}
    if config.vector == "requantize":
        cases |= {name: (fields, ErrorCause.ACCUMULATOR_RANGE) for name, fields in {
            "acc-first": {"acc_addr": rows}, "acc-far": {"acc_addr": 0xFFFF, "acc_tile_stride": 0xFFFF},
            "acc-row": {"acc_addr": rows - 4, "acc_tile_stride": 0}, "acc-group": {"acc_tile_stride": rows // 2},
            "acc-wrap": {"acc_addr": 10, "acc_tile_stride": 0xFFFF}}.items()}
    else:
        streams["a_addr"] = 4
        last = config.vector_rows
        cases |= {name: ({name: value}, ErrorCause.ROW_SCALAR_RANGE) for name, value in {
            "row0_addr": last - 4, "row1_addr": last, "sum_addr": last - 1, "max_addr": 0xFFFF}.items()}
        cases["scalar-alignment"] = ({"output": VectorOutput.SCALAR, "addr": 4094}, ErrorCause.MISALIGNED)
        cases["scalar-stride"] = ({"output": VectorOutput.SCALAR, "stride": 2}, ErrorCause.MISALIGNED)
        cases["scalar-row"] = ({"output": VectorOutput.SCALAR, "addr": size - 12, "stride": 4}, ErrorCause.SCRATCHPAD_RANGE)
        for source in (VectorSource.INT8, VectorSource.UINT4)[:config.vector_lanes]:
            cases[f"source-{source}"] = ({"source": source, "a_addr": size - slots, "a_stride": slots},
                                         ErrorCause.SCRATCHPAD_RANGE)
    for name, width in streams.items():
        step = slots * width
        stride = f"{name[:-4]}stride"
        cases |= {f"{name}-{kind}": (fields, ErrorCause.SCRATCHPAD_RANGE) for kind, fields in {
            "first": {name: size}, "row": {name: size - 4 * config.line_bytes, stride: config.line_bytes, "n": 1},
            "column": {name: size - step, stride: 0}, "wrap": {name: 2 * step, stride: (1 << 24) - step},
            "end": {name: (1 << 24) - step, stride: (1 << 24) - step}}.items()}
        if step > 1:
            cases[f"{name}-alignment"] = ({name: step + step // 2}, ErrorCause.MISALIGNED)
            cases[f"{stride}-alignment"] = ({stride: step + 1}, ErrorCause.MISALIGNED)
    return cases


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
@pytest.mark.parametrize("stall", [0.0, 0.3])
def test_errors_are_reported_and_precise(config, stall):
    good = whole_command(config)
    places = wrong_places(config)
    cases = {name: good | fields for name, fields in wrong_values(config).items()}
    cases |= {name: good | fields for name, (fields, _) in places.items()}
    batches = [[*prime_of(config), good, bad, good] for bad in cases.values()]
    outcomes = check(random_memories(config, 4, stall), *batches)
    expected = dict.fromkeys(cases, ErrorCause.UNSUPPORTED) | {name: cause for name, (_, cause) in places.items()}
    assert {name: outcome.error and outcome.error[0] for name, outcome in zip(cases, outcomes, strict=True)} == expected
    assert all(len(outcome.cycles) == len(batch) - 2 for outcome, batch in zip(outcomes, batches, strict=True))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_random_faults_are_precise(config):
    """Streams that run out of the scratchpad or the accumulator anywhere: what lies before is written, nothing after."""
    rng = np.random.default_rng(8)
    batches = []
    for one in random_commands(config, 60, 8):
        names = ["a_addr", "b_addr", "c_addr", "acc_addr"]
        for name in rng.choice(names, int(rng.integers(1, 3)), replace=False):
            if name == "acc_addr":
                one["acc_addr"] = config.accumulator_rows - int(rng.integers(1, one["m"] + 1))
            else:
                one[name] = config.scratchpad_bytes - int(rng.integers(1, 20)) * 4 * ceil_power_of_two(config.vector_lanes)
        batches.append([*prime_of(config), one])
    outcomes = check(random_memories(config, 8, 0.2), *batches)
    errors = [outcome.error for outcome in outcomes if outcome.error]
    assert len(errors) > 15
    assert len({addr for _, addr in errors}) > 3


@pytest.mark.parametrize(("field", "places"), [
    ("b_en", ("b_addr", "b_stride")), ("c_use", ("c_addr", "c_stride")), ("output", ("addr", "stride")),
    ("row0_en", ("row0_addr",)), ("row1_use", ("row1_addr",)), ("sum", ("sum_addr",)), ("max", ("max_addr",))])
def test_what_a_command_does_not_use_is_not_checked(field, places):
    config = CONFIGS["c12-lanes2"]
    one = whole_command(config) | {field: 0, "acc_addr": 0xFFFF} | dict.fromkeys(places, 0xFFFF)
    assert check(random_memories(config, 6), [*prime_of(config), one])[0].error is None


@pytest.mark.parametrize("name", ["c12-lanes2", "requantize-c4-lanes4"])
@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_abort_in_any_cycle(name, stall):
    config = CONFIGS[name]
    good = whole_command(config) | {"max_addr": 11, "sum_addr": 11, "sum": 0, "m": 3}
    faulty = good | {"b_addr": config.scratchpad_bytes - 8 * config.line_bytes, "m": 5}
    commands = [*prime_of(config), good, good | {"n": 2, "output": good["output"], "addr": 3000 // 64 * 64}, faulty]
    memories = random_memories(config, 9, stall)
    (outcome,) = check(memories, commands, aborts=range(1, 400, 1 if name != "c12-lanes2" else 3))
    assert len(outcome.cycles) == len(commands) - 1
    assert outcome.error is not None
    if not stall:
        assert sum(outcome.cycles) < 380                    # so that some of the aborts hit each state of each command


def test_the_lane_is_emitted_once():
    platform = EmissionPlatform()
    text = verilog.convert(VectorUnit(AcceleratorConfig()), name="vector", platform=platform, emit_src=False)
    assert list(platform.blocks) == ["vector_lane_requantize"]
    assert text.count("  vector_lane_requantize lane_") == 4
