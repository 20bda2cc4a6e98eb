"""Emitted hardened accelerators: the same results in the same cycles as without protection, and no error reported."""

import dataclasses

import numpy as np
import pytest

from flows.rtl_device import RtlDevice
from hw.presets import PRESETS, preset_named
from sw.golden.device import GoldenDevice
from tb.programs import random_program

PLAIN = PRESETS["systolic-4x4"]
MEMORY = 1 << 18
CONFIGS = {
    "safe": preset_named("systolic-safe-4x4"),
    "tmr": dataclasses.replace(PLAIN, protection=(("*.*", "tmr"),)),
    "told": dataclasses.replace(PLAIN, protection=(("*.*", "parity"), ("engine.*", "dmr"), ("*.pe_?", "lockstep"))),
    "lockstep": dataclasses.replace(PLAIN, protection=(("*", "lockstep"),)),
}


@pytest.mark.full
@pytest.mark.parametrize("name", CONFIGS)
def test_the_same_memory_and_the_same_cycles(name: str) -> None:
    config = CONFIGS[name]
    golden, plain, hardened = GoldenDevice(config).open(MEMORY), RtlDevice(PLAIN).open(MEMORY), RtlDevice(config).open(MEMORY)
    for seed in range(20):
        program = random_program(config, seed).program
        reference = random_program(PLAIN, seed).program
        expected, before, result = golden.run(program), plain.run(reference), hardened.run(program)
        assert np.array_equal(hardened.memory, golden.memory), seed
        assert before.counters == result.counters, seed
        assert result.counters["macs"] == expected.counters["macs"]
    plain.close()
    hardened.close()
