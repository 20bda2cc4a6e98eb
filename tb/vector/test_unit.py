"""The vector unit against its definition: the whole scratchpad image, cycles, errors and aborts."""

import random
from typing import Any

import numpy as np
import pytest
from amaranth.back import verilog

from hw.config import AcceleratorConfig, ceil_div
from hw.isa import ErrorCause, VectorOp
from hw.share import EmissionPlatform
from hw.timing import vector_cycles
from hw.vector.unit import VectorUnit
from sw.golden.vector.unit import VectorCommandError, run_vector
from tb.vector.harness import Outcome, Ports, command, run_commands

CONFIGS = {
    "c4-lanes4": AcceleratorConfig(),
    "c4-lanes2": AcceleratorConfig(vector_lanes=2),
    "c4-lanes1-acc20": AcceleratorConfig(vector_lanes=1, acc_width=20),
    "c6-lanes3-narrow": AcceleratorConfig(columns=6, vector_lanes=3, bus_width=64, scratchpad_bytes=8192, accumulator_rows=64),
    "c5-lanes5-wide": AcceleratorConfig(columns=5, vector_lanes=5, bus_width=256, scratchpad_bytes=8192, acc_width=24),
    "c12-lanes4-line16": AcceleratorConfig(columns=12, vector_lanes=4, scratchpad_bytes=16384),
    "c1-lanes1": AcceleratorConfig(columns=1, vector_lanes=1, scratchpad_bytes=4096, bus_width=64),
}
configs = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


def memories(config: AcceleratorConfig, seed: int, stall: float = 0.0) -> Ports:
    """Return random memories; half of the scratchpad's words are float32 values that make good scales."""
    rng = np.random.default_rng(seed)
    scratchpad = rng.integers(0, 256, config.scratchpad_bytes, dtype=np.uint8)
    words = scratchpad.view(np.uint32)
    scales = (rng.standard_normal(len(words)) * 2.0**-rng.integers(4, 24, len(words))).astype(np.float32).view(np.uint32)
    words[:] = np.where(rng.random(len(words)) < 0.5, scales, words)
    limit = 1 << (config.acc_width - 1)
    accumulator = rng.integers(-limit, limit, (config.accumulator_rows, config.columns)) >> rng.integers(
        0, config.acc_width - 1, (config.accumulator_rows, config.columns))
    return Ports(config=config, scratchpad=scratchpad, accumulator=accumulator.astype(np.int32), stall=stall, seed=seed)


def random_command(config: AcceleratorConfig, rng: random.Random, **fixed: int) -> dict[str, int]:
    """Return a legal command of at most about sixty slices."""
    n = fixed.get("n", rng.randint(1, 3 * config.columns))
    groups = ceil_div(n, config.columns)
    slices = ceil_div(n, config.vector_lanes)
    m = fixed.get("m", rng.randint(1, max(1, min(20, 60 // slices))))
    slot, line = config.output_slot_bytes, config.line_bytes
    stride = slot * rng.choice((groups, groups + rng.randint(0, 3)))
    half = config.scratchpad_bytes // 2                     # parameters in one half, outputs in the other
    outputs = rng.choice((0, half))
    room = half - (m - 1) * stride - groups * slot
    parameters = half - groups * config.parameter_slot_bytes
    tile_stride = rng.randint(m, m + 3)
    fields = {
        "m": m, "n": n, "acc_tile_stride": tile_stride, "stride": stride,
        "acc_addr": rng.randint(0, config.accumulator_rows - (groups - 1) * tile_stride - m),
        "addr": outputs + rng.randint(0, room // slot) * slot,
        "bias_addr": half - outputs + rng.randint(0, parameters // line) * line,
        "scale_addr": half - outputs + rng.randint(0, parameters // line) * line,
        "scale": int(np.float32(rng.uniform(-1, 1) * 2.0**-rng.randint(0, 20)).view(np.uint32)),
        "bias_en": rng.getrandbits(1), "per_channel": rng.getrandbits(1), "relu": rng.getrandbits(1),
    }
    return command(**(fields | fixed))


def check(ports: Ports, *batches: list[dict[str, int]], **options: Any) -> list[Outcome]:
    """Run batches of commands on the unit and on the definition; the memories and the errors must agree."""
    scratchpad, accumulator = ports.scratchpad.copy(), ports.accumulator.copy()
    outcomes = run_commands(ports, *batches, **options)
    errors: list[tuple[int, int] | None] = []
    for commands in batches:
        errors.append(None)
        try:
            for one in commands:
                run_vector(ports.config, one, scratchpad, accumulator)
        except VectorCommandError as violation:
            errors[-1] = (violation.cause, violation.addr)
    assert [outcome.error for outcome in outcomes] == errors
    np.testing.assert_array_equal(ports.scratchpad, scratchpad)
    return outcomes


def formula(config: AcceleratorConfig, one: dict[str, int]) -> int:
    """Return the cycles that the timing table says."""
    return vector_cycles(config, m=one["m"], n=one["n"], bias_en=bool(one["bias_en"]), per_channel=bool(one["per_channel"]))


@configs
@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_random_commands(config, stall):
    rng = random.Random(17)
    ports = memories(config, 17, stall)
    before = ports.scratchpad.copy()
    commands = [random_command(config, rng) for _ in range(6)]
    commands += [random_command(config, rng, bias_en=bias, per_channel=scales, n=2 * config.columns + 1)
                 for bias in (0, 1) for scales in (0, 1)]
    (outcome,) = check(ports, commands)
    assert len(outcome.cycles) == len(commands)
    assert not np.array_equal(before, ports.scratchpad)
    if stall:
        assert min(ports.refused.values()) > 10
        assert all(cycles >= formula(config, one) for cycles, one in zip(outcome.cycles, commands, strict=True))
    else:
        assert outcome.cycles == [formula(config, one) for one in commands]


@pytest.mark.parametrize("columns", [1, 3, 4, 5, 7, 8, 11, 12])
def test_ragged_last_group_writes_no_byte_beyond_n(columns):
    config = CONFIGS["c4-lanes2"]
    ports = memories(config, columns)
    ports.scratchpad[:] = 0xA5
    one = command(m=3, n=columns, addr=256, stride=16, acc_tile_stride=8, scale=int(np.float32(1.0).view(np.uint32)))
    ports.accumulator[:] = 1
    check(ports, [one])
    rows = ports.scratchpad[256:256 + 48].reshape(3, 16)
    assert np.all(rows[:, :columns] == 1)
    assert np.all(rows[:, columns:] == 0xA5)


def test_many_rows_at_one_slice_a_cycle():
    config = CONFIGS["c4-lanes4"]
    one = command(m=200, n=4, stride=4, scale=0x3F80_0000)
    assert check(memories(config, 2), [one])[0].cycles == [200 + formula(config, one | {"m": 1}) - 1]


@pytest.mark.parametrize("port", ["acc", "read", "write"])
def test_a_stall_of_one_port_alone(port):
    config = CONFIGS["c4-lanes2"]
    ports = memories(config, 5, stall=0.6)
    ports.only = port
    check(ports, [random_command(config, random.Random(seed), bias_en=1, per_channel=1) for seed in range(6)])
    assert ports.refused[port] > 10
    assert sum(ports.refused.values()) == ports.refused[port]


def bad_commands(config: AcceleratorConfig) -> dict[str, tuple[dict[str, int], ErrorCause]]:
    """Return a name → command that breaks one rule, and the cause that must be reported."""
    slot, line, size = config.output_slot_bytes, config.line_bytes, config.scratchpad_bytes
    rows, groups = config.accumulator_rows, 3
    good = random_command(config, random.Random(3), m=5, n=groups * config.columns, bias_en=1, per_channel=1)
    parameters = config.parameter_slot_bytes
    cases = {
        "op": ({"op": max(VectorOp) + 1}, ErrorCause.UNSUPPORTED),
        "m": ({"m": 0}, ErrorCause.BAD_SIZE),
        "n": ({"n": 0}, ErrorCause.BAD_SIZE),
        "bias-alignment": ({"bias_addr": line + line // 2}, ErrorCause.MISALIGNED),
        "scale-alignment": ({"scale_addr": line + 1}, ErrorCause.MISALIGNED),
        "acc-first": ({"acc_addr": rows}, ErrorCause.ACCUMULATOR_RANGE),
        "acc-far": ({"acc_addr": 0xFFFF, "acc_tile_stride": 0xFFFF}, ErrorCause.ACCUMULATOR_RANGE),
        "acc-row": ({"acc_addr": rows - 4, "acc_tile_stride": 0}, ErrorCause.ACCUMULATOR_RANGE),
        "acc-group": ({"acc_addr": 0, "acc_tile_stride": rows // 2}, ErrorCause.ACCUMULATOR_RANGE),
        "acc-wrap": ({"acc_addr": 10, "acc_tile_stride": 0xFFFF}, ErrorCause.ACCUMULATOR_RANGE),
        "output-first": ({"addr": size}, ErrorCause.SCRATCHPAD_RANGE),
        "output-row": ({"addr": size - 4 * line, "stride": line}, ErrorCause.SCRATCHPAD_RANGE),
        "output-group": ({"addr": size - slot, "stride": 0}, ErrorCause.SCRATCHPAD_RANGE),
        "output-wrap": ({"addr": 2 * slot, "stride": (1 << 24) - slot}, ErrorCause.SCRATCHPAD_RANGE),
        "output-end": ({"addr": (1 << 24) - slot, "stride": (1 << 24) - slot}, ErrorCause.SCRATCHPAD_RANGE),
        "bias-first": ({"bias_addr": size}, ErrorCause.SCRATCHPAD_RANGE),
        "bias-group": ({"bias_addr": size - 2 * parameters}, ErrorCause.SCRATCHPAD_RANGE),
        "scale-group": ({"scale_addr": size - parameters}, ErrorCause.SCRATCHPAD_RANGE),
        "scale-end": ({"scale_addr": (1 << 24) - line}, ErrorCause.SCRATCHPAD_RANGE),
        "everything": (dict.fromkeys(("m", "n"), 0) | {"addr": 1, "stride": 1, "bias_addr": 1}, ErrorCause.BAD_SIZE),
    }
    if slot > 1:
        cases["addr-alignment"] = ({"addr": slot + slot // 2}, ErrorCause.MISALIGNED)
        cases["stride-alignment"] = ({"stride": slot + 1}, ErrorCause.MISALIGNED)
    return {name: (good | fields, cause) for name, (fields, cause) in cases.items()}


@pytest.mark.parametrize(("name", "stall"), [("c4-lanes2", 0.0), ("c12-lanes4-line16", 0.4), ("c1-lanes1", 0.2)])
def test_errors_are_reported_and_precise(name, stall):
    config = CONFIGS[name]
    good = random_command(config, random.Random(4), m=2)
    cases = bad_commands(config)
    outcomes = check(memories(config, 4, stall), *([good, bad, good] for bad, _ in cases.values()))
    reported = {name: outcome.error[0] for name, outcome in zip(cases, outcomes, strict=True) if outcome.error is not None}
    assert reported == {name: cause for name, (_, cause) in cases.items()}
    assert all(len(outcome.cycles) == 1 for outcome in outcomes)        # the one before is done, the one after not taken


@pytest.mark.parametrize(("fields", "addr"), [
    ({"addr": (1 << 24) - 4}, 1 << 24), ({"addr": (1 << 24) - 8}, None), ({"bias_addr": (1 << 24) - 16}, 1 << 24),
    ({"scale_addr": (1 << 24) - 16}, 1 << 24), ({"scale_addr": (1 << 24) - 32, "bias_addr": (1 << 24) - 32}, None)])
def test_the_end_of_the_largest_scratchpad(fields, addr):
    config = AcceleratorConfig(scratchpad_bytes=1 << 24)
    ports = Ports(config=config, scratchpad=np.zeros(1 << 24, np.uint8), accumulator=np.ones((256, 4), np.int32))
    two_groups = command(m=1, n=8, bias_en=1, per_channel=1, acc_tile_stride=1)
    (outcome,) = check(ports, [two_groups | fields])
    assert outcome.error == (None if addr is None else (ErrorCause.SCRATCHPAD_RANGE, addr))


@pytest.mark.parametrize("flags", [{"bias_en": 0}, {"per_channel": 0}, {"bias_en": 0, "per_channel": 0}])
def test_unused_parameter_addresses_are_not_checked(flags):
    config = CONFIGS["c4-lanes4"]
    unused = {name: 0xFF_FFFF for flag, name in (("bias_en", "bias_addr"), ("per_channel", "scale_addr")) if flag in flags}
    one = random_command(config, random.Random(6), bias_en=1, per_channel=1) | flags | unused
    assert check(memories(config, 6), [one])[0].error is None


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_abort_in_any_cycle(stall):
    config = CONFIGS["c4-lanes2"]
    good = command(m=3, n=9, addr=1024, stride=16, acc_tile_stride=5, bias_en=1, per_channel=1, bias_addr=64, scale_addr=256)
    commands = [good, good | {"addr": 2048, "per_channel": 0, "scale": 0x3C00_0000, "relu": 1}]
    (outcome,) = check(memories(config, 9, stall), commands, aborts=range(1, 64))
    assert len(outcome.cycles) == 2
    if not stall:
        assert 40 < outcome.cycles[0] < 60                  # so that some of the aborts hit each state of the first command


def test_the_lane_is_emitted_once():
    platform = EmissionPlatform()
    text = verilog.convert(VectorUnit(AcceleratorConfig()), name="vector", platform=platform, emit_src=False)
    assert list(platform.blocks) == ["requantize_lane_a32"]
    assert text.count("  requantize_lane_a32 lane_") == 4
