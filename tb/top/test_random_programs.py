"""Random legal programs in volume: native RTL against the golden device, over configs that differ in everything."""

from dataclasses import asdict

import numpy as np
import pytest

from flows.measure import save_replay
from flows.native_sim import MemoryTiming
from flows.rtl_device import RtlDevice
from hw.config import AcceleratorConfig
from hw.presets import PRESETS
from sw.device import DeviceError
from sw.golden.device import GoldenDevice
from sw.replay import ReplayCase
from tb.programs import faulty_programs, random_program, wipe_program

MEMORY = 1 << 18
CONFIGS = {
    "systolic-4x4": PRESETS["systolic-4x4"],
    "odd-3x5-narrow": AcceleratorConfig(rows=3, columns=5, vector_lanes=1, bus_width=64, acc_width=16, os_depth=7, burst_beats=3,
                                        queue_depth=2, outstanding_reads=2, command_lines=4),
    "wide-bus-w4-ws": AcceleratorConfig(rows=4, columns=8, vector_lanes=4, bus_width=512, weight_format="int4",
                                        dataflows=("ws",), scratchpad_bytes=65536, accumulator_rows=512, accumulator_banks=4),
    "single-pe": AcceleratorConfig(rows=1, columns=1, vector_lanes=1, scratchpad_banks=1, accumulator_banks=1),
    "transformer-8x8": PRESETS["systolic-8x8"],
    "transformer-5x6-lanes2": AcceleratorConfig(rows=5, columns=6, vector="transformer", vector_lanes=2, vector_rows=64,
                                                bus_width=64),
    "tall-os": AcceleratorConfig(rows=8, columns=2, vector_lanes=2, dataflows=("os",), os_depth=16, scratchpad_banks=4),
    "protected-3x4": AcceleratorConfig(rows=3, bus_width=64, protection=(
        ("scratchpad", "secded"), ("accumulator", "secded"), ("fifos", "secded"), ("engine.mesh", "abft"))),
}
TIMINGS = (MemoryTiming(), MemoryTiming(latency=3, stall=0.4, seed=5), MemoryTiming(latency=90, bandwidth=0.3, seed=6))


@pytest.fixture(scope="module", params=CONFIGS)
def config(request):
    return CONFIGS[request.param]


@pytest.mark.parametrize("timing", TIMINGS, ids=("fast", "stalling", "slow"))
def test_memory_after_every_program_is_the_golden_one(config, timing):
    golden, rtl = GoldenDevice(config).open(MEMORY), RtlDevice(config, timing=timing).open(MEMORY)
    compared = 0
    for seed in range(40):
        program = random_program(config, seed).program
        before = golden.memory.copy()
        expected = golden.run(program)
        result = rtl.run(program)
        if not np.array_equal(rtl.memory, golden.memory):
            case = ReplayCase(config=config, program=program, args={}, memory=before, note=f"seed {seed}", timing=asdict(timing))
            pytest.fail(f"seed {seed} differs; if its first run does: heddle replay {save_replay(case)}")
        compared += int(np.count_nonzero(expected.outputs["output"]))
        assert result.cycles > 0
        assert result.counters["macs"] == expected.counters["macs"]
        assert result.counters["bytes_written"] == expected.counters["bytes_written"]
    assert compared > 1000      # the outputs are not all zeros
    rtl.close()


def test_every_fault_is_named_by_both_devices_alike_and_leaves_a_working_device(config):
    golden, rtl = GoldenDevice(config).open(MEMORY), RtlDevice(config).open(MEMORY)
    for faulty in faulty_programs(config):
        errors = []
        for session in (golden, rtl):
            with pytest.raises(DeviceError) as caught:
                session.run(faulty.program)
            errors.append((caught.value.cause, caught.value.pc, caught.value.addr, caught.value.kernel))
        assert errors[0] == errors[1]
        assert errors[0][:2] == (faulty.cause, faulty.pc)
    for program in (wipe_program(config), random_program(config, 1).program):
        golden.run(program)
        rtl.run(program)
    np.testing.assert_array_equal(rtl.memory, golden.memory)
    rtl.close()
