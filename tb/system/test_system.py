"""Runs the pyuvm environment on the emitted Verilog of small accelerators."""

import pytest

from flows.cocotb_runner import build_cocotb, run_cocotb
from flows.emit import emit
from hw.config import AcceleratorConfig
from hw.presets import PRESETS

CONFIGS = {"systolic-4x4": PRESETS["systolic-4x4"], "transformer-4x4": AcceleratorConfig(vector="transformer", vector_lanes=2)}


@pytest.fixture(scope="module", params=CONFIGS)
def design(request):
    config = CONFIGS[request.param]
    emission = emit(config)
    return config, build_cocotb(emission.verilog, emission.top, label=request.param)


@pytest.mark.parametrize("test", ["RandomProgramsTest", "FaultyProgramsTest", "BrokenPredictionTest"])
def test_the_accelerator_in_its_environment(design, tmp_path, test):
    config, simulator = design
    environment = {"HEDDLE_BENCH_CONFIG": config.to_json(), "HEDDLE_BENCH_SEED": "20"}
    result = run_cocotb(simulator, "tb.system.bench", folder=tmp_path, testcase=test, seed=1, environment=environment)
    assert len(result.passed) == 1
