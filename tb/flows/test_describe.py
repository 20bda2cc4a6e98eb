"""What commands are called in timelines."""

import numpy as np
import pytest

from flows.view.describe import describe
from hw.isa import DESCRIPTORS, Unit, VectorFunction, VectorOutput, VectorSource
from sw.program import Program, Region

PROGRAM = Program(name="named", config_digest="0" * 12, code=np.zeros(1, np.uint64), code_addr=0,
                  regions=(Region(name="weights", addr=4096, size=256, role="input"),))


@pytest.mark.parametrize(("unit", "values", "text"), [
    (Unit.LOAD, {"dram_addr": 4100, "rows": 3, "row_bytes": 20}, "weights, 3 × 20 B"),
    (Unit.LOAD, {"dram_addr": 64, "rows": 1, "row_bytes": 16, "transpose": 1}, "0x40, 1 × 16 B, transposed"),
    (Unit.LOAD, {"rows": 2, "row_bytes": 8, "transpose": 1, "unpack": 1}, "0x0, 2 × 8 B, unpacked, transposed"),
    (Unit.LOAD, {"rows": 1, "row_bytes": 64, "stream": 1}, "0x0, 1 × 64 B, streamed"),
    (Unit.STORE, {"dram_addr": 4352, "rows": 1, "row_bytes": 16}, "0x1100, 1 × 16 B"),
    (Unit.MATRIX, {"m": 2, "n": 3, "k": 4, "dataflow": 1, "accumulate": 1}, "2×3×4 OS, accumulate"),
    (Unit.MATRIX, {"m": 2, "n": 3, "k": 4}, "2×3×4 WS"),
    (Unit.VECTOR, {"m": 8, "n": 40, "output": VectorOutput.INT8}, "8×40 accumulator → int8"),
    (Unit.VECTOR, {"m": 8, "n": 40, "source": VectorSource.FLOAT32, "function": VectorFunction.EXP2, "sum": 1, "max": 2,
                   "output": VectorOutput.FLOAT32}, "8×40 float32, exp2, sum, max → float32"),
    (Unit.VECTOR, {"m": 8, "n": 1, "source": VectorSource.ROW, "function": VectorFunction.RSQRT,
                   "sum": 1}, "8×1 row, rsqrt, sum"),
    (Unit.VECTOR, {"m": 1, "n": 1, "source": 7, "function": 6, "output": 5}, "1×1 7, 6 → 5"),
])
def test_commands_in_words(unit, values, text):
    fields = {field.name: 0 for field in DESCRIPTORS[unit]} | values
    assert describe(unit, fields, PROGRAM, {}) == text


def test_regions_are_where_the_arguments_say():
    fields = {field.name: 0 for field in DESCRIPTORS[Unit.LOAD]} | {"dram_addr": 65536, "rows": 1, "row_bytes": 1}
    assert describe(Unit.LOAD, fields, PROGRAM, {"weights": 65536}) == "weights, 1 × 1 B"
