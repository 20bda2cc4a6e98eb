"""Runs the cocotb bench of a whole GEMM on the emitted Verilog."""

import pytest

from flows.cocotb_runner import build_cocotb, run_cocotb
from flows.emit import emit
from hw.presets import PRESETS


@pytest.mark.parametrize("preset", ["systolic-4x4"])
def test_a_gemm_and_the_registers(preset, tmp_path):
    emission = emit(PRESETS[preset])
    build = build_cocotb(emission.verilog, emission.top, label=preset)
    result = run_cocotb(build, "tb.rtl.gemm_bench", folder=tmp_path, seed=1,
                        environment={"HEDDLE_BENCH_CONFIG": PRESETS[preset].to_json()})
    assert len(result.passed) == 3
