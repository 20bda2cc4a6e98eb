"""Which command wrote a byte of the scratchpad last: against runs of commands that change one byte after the other."""

import numpy as np
import pytest

from hw.config import AcceleratorConfig
from hw.isa import DESCRIPTORS, Opcode, Unit, VectorOutput, VectorSource
from sw.golden.sequencer import Event
from sw.golden.state import State
from sw.golden.units import run_load, run_vector
from sw.origin import origin_of
from sw.program import Program
from tb.vector.commands import VectorSpace, random_vector_command

CONFIGS = {
    "c8-lanes4": AcceleratorConfig(columns=8, vector="transformer", scratchpad_bytes=8192, vector_rows=64),
    "c6-lanes2": AcceleratorConfig(columns=6, vector_lanes=2, vector="transformer", scratchpad_bytes=8192, vector_rows=64),
}
PROGRAM = Program(name="p", config_digest="0" * 12, code=np.zeros(8, np.uint64), code_addr=0, regions=(),
                  kernels=((0, "head"), (4, "tail")))


def event(unit: Unit, pc: int, **values: int) -> Event:
    return Event(opcode=Opcode[unit.name], pc=pc, executed=pc + 1, unit=unit,
                 fields={field.name: 0 for field in DESCRIPTORS[unit]} | values)


def written(config: AcceleratorConfig, command: Event, seed: int) -> np.ndarray:
    """Return which bytes of the scratchpad a command writes: those that two runs on opposite contents leave alike."""
    images = []
    for flip in (0, 255):
        rng = np.random.default_rng(seed)
        state = State(config=config, memory=rng.integers(0, 256, 4096, dtype=np.uint8),
                      scratchpad=np.full(config.scratchpad_bytes, 85 ^ flip, np.uint8),
                      accumulator=rng.integers(-99, 99, (config.accumulator_rows, config.columns)),
                      rows=np.ones(config.vector_rows, np.float32), counters={})
        (run_load if command.unit == Unit.LOAD else run_vector)(state, dict(command.fields))
        images.append(state.scratchpad)
    return images[0] == images[1]


@pytest.mark.parametrize("values", [
    {"rows": 3, "row_bytes": 20, "stride": 48, "addr": 64}, {"rows": 5, "row_bytes": 16},
    {"rows": 18, "row_bytes": 5, "stride": 64, "addr": 16, "transpose": 1},
])
def test_bytes_of_loads(values):
    config = CONFIGS["c8-lanes4"]
    load = event(Unit.LOAD, 5, dram_stride=32, **values)
    found = [bool(origin_of(config, PROGRAM, [load], byte)) for byte in range(config.scratchpad_bytes)]
    np.testing.assert_array_equal(found, written(config, load, 1))
    assert origin_of(config, PROGRAM, [load], values.get("addr", 0)) == {"index": 0, "pc": 5, "kernel": "tail", "unit": "load"}


@pytest.mark.parametrize("name", CONFIGS)
def test_bytes_of_vector_commands(name):
    """Whatever is written from the accumulator: the right bytes, and the elements in order."""
    config, rng = CONFIGS[name], np.random.default_rng(1)
    space = VectorSpace(inputs=(0, 2048), output=4096, area_bytes=2048, acc=0, acc_rows=256, row=0, rows=64, longest=20)
    outputs = {VectorOutput.NONE}
    for _ in range(100):
        fields = random_vector_command(config, rng, space)
        fields |= {"source": VectorSource.ACCUMULATOR, "b_en": 0, "c_use": 0, "function": 0, "acc_addr": 0,
                   "acc_tile_stride": fields["m"]}
        if fields["output"] in outputs or fields["n"] <= config.columns or fields["m"] < 3:
            continue
        outputs.add(fields["output"])
        command = event(Unit.VECTOR, 1, **fields)
        origins = [origin_of(config, PROGRAM, [command], byte) for byte in range(config.scratchpad_bytes)]
        np.testing.assert_array_equal([bool(origin) for origin in origins], written(config, command, 2), err_msg=str(fields))
        places = [(origin["row"], origin["column"]) for origin in origins if origin]
        bits = {VectorOutput.INT8: 8, VectorOutput.UINT4: 4}.get(fields["output"], 32)
        columns = 1 if fields["output"] == VectorOutput.SCALAR else fields["n"]
        step = 2 if bits == 4 else 1
        expected = [(row, column) for row in range(fields["m"]) for group in range(0, columns, config.columns)
                    for column in range(group, min(group + config.columns, columns), step) for _ in range(max(1, bits // 8))]
        assert places == expected
    assert outputs == set(VectorOutput)


def test_the_last_one_counts():
    config = CONFIGS["c8-lanes4"]
    load = event(Unit.LOAD, 0, rows=1, row_bytes=64)
    vector = event(Unit.VECTOR, 4, m=1, n=8, addr=8, output=VectorOutput.INT8)
    scalars = event(Unit.VECTOR, 5, source=VectorSource.ROW, m=2, n=9, stride=4, addr=16, output=VectorOutput.SCALAR)
    nothing = event(Unit.VECTOR, 6, m=1, n=8, addr=8)
    matrix = event(Unit.MATRIX, 7, m=1, n=1, k=1)
    trace = [load, vector, scalars, nothing, matrix]
    assert [origin_of(config, PROGRAM, trace, byte).get("index") for byte in (7, 8, 15, 16, 23, 24, 63, 64)] == [
        0, 1, 1, 2, 2, 0, 0, None]
    assert origin_of(config, PROGRAM, trace, 22) == {
        "index": 2, "pc": 5, "kernel": "tail", "unit": "vector", "source": "row", "output": "scalar", "row": 1, "column": 0}
