"""Runs the pyuvm environment on the emitted Verilog of a preset."""

import pytest

from flows.cocotb_runner import build_cocotb, run_cocotb
from flows.emit import emit
from hw.presets import PRESETS

PRESET = "systolic-4x4"


@pytest.fixture(scope="module")
def simulator():
    emission = emit(PRESETS[PRESET])
    return build_cocotb(emission.verilog, emission.top, label=PRESET)


@pytest.mark.parametrize("test", ["RandomProgramsTest", "FaultyProgramsTest", "BrokenPredictionTest"])
def test_the_accelerator_in_its_environment(simulator, tmp_path, test):
    environment = {"HEDDLE_BENCH_CONFIG": PRESETS[PRESET].to_json(), "HEDDLE_BENCH_SEED": "20"}
    result = run_cocotb(simulator, "tb.system.bench", folder=tmp_path, testcase=test, seed=1, environment=environment)
    assert len(result.passed) == 1
