"""The watchdog of the whole accelerator: a legal command many times as long as its limit is done in peace."""

import numpy as np
import pytest

from flows.rtl_device import RtlDevice
from hw.presets import PRESETS
from sw.assembler import assemble
from sw.golden.device import GoldenDevice
from sw.program import Program, Region

CONFIG = PRESETS["systolic-4x4"]
LIMIT = 600
MEMORY = 1 << 17
LOAD = """
set load.rows, 1
set load.row_bytes, 4096
load signal 0
"""
STORE = """
set store.rows, 1
set store.row_bytes, 4096
set store.addr, 4096
set store.dram_addr, 0x8000
store wait 2
halt
"""
MATRIX = LOAD + """
set matrix.weight_addr, 2048
set matrix.m, 64
set matrix.n, 4
set matrix.k, 4096
set matrix.dataflow, {dataflow}
matrix wait 0 signal 1
set vector.m, 64
set vector.n, 4
set vector.stride, 4
set vector.addr, 4096
set vector.scale, 0x38000000
set vector.output, 1
vector wait 1 signal 2
""" + STORE
VECTOR = LOAD + """
set matrix.m, 64
set matrix.n, 4
set matrix.k, 4
matrix wait 0 signal 1
set vector.m, 64
set vector.n, 128                       ; the same accumulator rows for each group of four columns
set vector.stride, 128
set vector.addr, 4096
set vector.scale, 0x3F000000
set vector.output, 1
vector wait 1 signal 2
""" + STORE


@pytest.mark.parametrize(("unit", "text"), [
    ("matrix", MATRIX.format(dataflow=0)), ("matrix", MATRIX.format(dataflow=1)), ("vector", VECTOR),
], ids=("matrix-ws", "matrix-os", "vector"))
def test_a_long_command_is_no_hang(unit, text):
    data = np.random.default_rng(11).integers(0, 256, 4096, dtype=np.uint8)
    program = Program(
        name="long", config_digest=CONFIG.digest(), code=assemble(text), code_addr=0x10000, kernels=((0, "long"),),
        regions=(Region(name="input", addr=0, size=4096, role="constant", data=data),
                 Region(name="output", addr=0x8000, size=4096, role="output")))
    rtl, golden = RtlDevice(CONFIG, watchdog=LIMIT).open(MEMORY), GoldenDevice(CONFIG).open(MEMORY)
    result, expected = rtl.run(program), golden.run(program)
    assert result.counters[f"{unit}_busy"] > 2 * (LIMIT + 200)
    assert np.count_nonzero(expected.outputs["output"]) > 100
    np.testing.assert_array_equal(result.outputs["output"], expected.outputs["output"])
    rtl.close()
