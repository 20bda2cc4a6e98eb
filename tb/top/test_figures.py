"""Figures that the project promises, on the RTL: utilization, the main job bit-exact, and cycles as predicted."""

import pytest

from flows.measure import measure
from flows.rtl_device import RtlDevice
from hw.presets import preset_named
from sw.workloads import gemm_workload, workload_named


@pytest.fixture(scope="module")
def default_device():
    return RtlDevice(preset_named("systolic-16x16"))


@pytest.mark.xdist_group("systolic-16x16")
@pytest.mark.parametrize(("shape", "dataflow", "goal"), [
    ((512, 512, 512), "ws", 0.97), ((512, 512, 512), "os", 0.97), ((128, 768, 768), "ws", 0.95), ((128, 768, 768), "os", 0.95)])
def test_utilization_of_whole_programs(default_device, shape, dataflow, goal):
    found = measure(gemm_workload(*shape), default_device.config, default_device, dataflow=dataflow).to_json()
    assert found["match"]
    assert found["utilization"] >= goal
    assert found["predicted_cycles"] == pytest.approx(found["cycles"], rel=0.02)


@pytest.mark.xdist_group("systolic-16x16")
def test_an_encoder_layer_of_a_real_transformer_is_bit_exact_and_close_to_float(default_device):
    found = measure(workload_named("minilm-layer"), default_device.config, default_device)
    assert [gemm.match for gemm in found.gemms] == [True] * 8
    assert found.extra["cosine"] > 0.995
    assert found.to_json()["utilization"] > 0.97
    for gemm in found.gemms:
        assert gemm.predicted_cycles == pytest.approx(gemm.cycles, rel=0.02)


@pytest.mark.xdist_group("systolic-4x4")
@pytest.mark.parametrize("dataflow", ["ws", "os"])
@pytest.mark.parametrize("shape", [(64, 64, 64), (50, 70, 90), (128, 32, 256)])
def test_cycles_are_predicted_within_two_percent(shape, dataflow):
    config = preset_named("systolic-4x4")
    gemm = measure(gemm_workload(*shape), config, RtlDevice(config), dataflow=dataflow).gemms[0]
    assert gemm.match
    assert gemm.predicted_cycles == pytest.approx(gemm.cycles, rel=0.02)
