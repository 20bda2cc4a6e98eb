"""Cycles of single vector commands on the RTL, as predicted; streams that meet in a bank included."""

import numpy as np
import pytest

from flows.rtl_device import RtlDevice
from hw.isa import Unit
from hw.presets import preset_named
from sw.assembler import Assembler
from sw.perf import vector_command_cycles
from sw.program import Program, Region
from tb.vector.commands import VectorSpace, random_vector_command


@pytest.mark.xdist_group("systolic-8x8")
def test_cycles_of_a_vector_command_are_predicted_within_three():
    config = preset_named("systolic-8x8")
    session, rng = RtlDevice(config).open(1 << 16), np.random.default_rng(0)
    area = config.scratchpad_bytes // 8
    space = VectorSpace(inputs=(0, area, 2 * area), output=3 * area, area_bytes=area, acc=0,
                        acc_rows=config.accumulator_rows // 2, row=0, rows=256, longest=40)
    exact = 0
    for _ in range(60):
        fields, asm = random_vector_command(config, rng, space), Assembler()
        for name, value in fields.items():
            asm.set(f"vector.{name}", value)
        asm.go(Unit.VECTOR)
        asm.halt()
        program = Program(name="one command", config_digest=config.digest(), code=asm.words(), code_addr=0,
                          regions=(Region(name="unused", addr=8192, size=64, role="output"),))
        busy = session.run(program).counters["vector_busy"]
        predicted = vector_command_cycles(config, fields) - 1           # the cycle that takes it counts as idle
        assert abs(busy - predicted) <= 3, fields
        exact += busy == predicted
    assert exact > 30
    session.close()
