"""What a die has units for, as data: the commands of the hardware's blocks, and why others are missing."""

import dataclasses

import pytest

from hw.pim.channel import compute_path
from hw.pim.isa import OPCODES, PimOpcode, Queue
from hw.pim.presets import PIM_PRESETS
from hw.pim.units import ELEMENTWISE_OPCODES, IO_OPCODES, ROW_OPCODES, SOFTMAX_OPCODES, missing_unit, opcodes_of
from hw.share import mark_used

TINY = PIM_PRESETS["pim-tiny"]
INTEGERS = dataclasses.replace(PIM_PRESETS["pim-p3"], n_pch=1)
SMALL = dataclasses.replace(TINY, streams=1, lanes=16, xbuf_entries=16, obuf_entries=8, bundles=1)
NARROW = dataclasses.replace(TINY, xtype="float8_e4m3fn", ptype="float8_e4m3fn")


def test_a_die_of_plain_floats_has_every_command():
    queued = [opcode for opcode, info in OPCODES.items() if info.queue is not Queue.SEQUENCER]
    of_scales = [PimOpcode.WRS, PimOpcode.DQA]
    assert list(opcodes_of(TINY)) == [opcode for opcode in queued if opcode not in of_scales]
    assert all(missing_unit(INTEGERS, opcode) is None for opcode, info in OPCODES.items() if info.queue is Queue.SEQUENCER)


@pytest.mark.parametrize(("config", "opcode", "needed"), [
    (dataclasses.replace(TINY, ptype="bfloat16"), PimOpcode.SFO, "a softmax unit"),
    (NARROW, PimOpcode.KVAP, "elements of X as wide as weights"),
    (TINY, PimOpcode.WRS, "weights with zero points or special values"),
    (TINY, PimOpcode.DQA, "weights with scales"),
    (INTEGERS, PimOpcode.EWMUL, "operands of plain floats and float32 sums"),
    (INTEGERS, PimOpcode.AF, "an activation unit, for float32 sums and X of floats"),
])
def test_what_a_command_needs(config, opcode, needed):
    assert missing_unit(config, opcode) == needed
    assert opcode not in opcodes_of(config)


@pytest.mark.parametrize("config", [SMALL, dataclasses.replace(SMALL, wtype="int8", kvtype="int8")])
def test_elementwise_commands_are_those_of_the_compute_path(config):
    path = compute_path(config)
    mark_used(path)
    assert path.elementwise == all(opcode in opcodes_of(config) for opcode in ELEMENTWISE_OPCODES)


def test_what_every_die_has():
    assert set(opcodes_of(INTEGERS)) == {PimOpcode.MAC, *IO_OPCODES, *ROW_OPCODES, PimOpcode.WRS, PimOpcode.DQA}
    assert not set(SOFTMAX_OPCODES) & set(opcodes_of(INTEGERS))
