"""A whole accelerator with the BitMoD engine in Verilator: GEMMs in every mode, and what it refuses, as the golden device."""

from dataclasses import replace

import pytest

from flows.measure import measure
from flows.rtl_device import RtlDevice
from hw.config import AcceleratorConfig
from hw.engines.bitmod import bitmod_modes
from sw.workloads import gemm_workload

CONFIG = AcceleratorConfig(engine="bitmod", dataflows=("ws",), columns=4, bus_width=64, scratchpad_bytes=1 << 15,
                           accumulator_rows=256,
                           weight_formats=("bitmod4-g32", "bitmod3-g64", "int6-g32-int8", "int8-g16-int8", "int5-g64-int8"))


@pytest.mark.full
def test_gemms_match_and_take_what_is_predicted() -> None:
    """K that is no multiple of any group; every byte and the multiplications as on the golden device, cycles within 3 %."""
    device = RtlDevice(CONFIG)
    for mode, name in enumerate(("int8", *CONFIG.weight_formats)):
        workload = replace(gemm_workload(50, 22, 210), weights=name)
        found, golden = measure(workload, CONFIG, device), measure(workload, CONFIG, None)
        (gemm,), (expected,) = found.gemms, golden.gemms
        assert found.match, name
        counters = gemm.counters
        assert counters["macs"] == expected.counters["macs"] == 50 * 22 * 210
        assert counters["macs"] + counters["macs_gated"] == counters["matrix_active"] * 4 * 16
        assert gemm.predicted_cycles == pytest.approx(gemm.cycles, rel=0.03), name
        assert gemm.cycles > counters["matrix_active"] * bitmod_modes(CONFIG)[mode].terms
