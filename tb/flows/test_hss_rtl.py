"""Accelerators with structured sparsity: GEMMs in every kind of mode, and bad coordinates, on RTL and golden device."""

from dataclasses import replace

import numpy as np
import pytest

from flows.measure import measure
from flows.rtl_device import RtlDevice
from hw.isa import ErrorCause
from sw.device import DeviceError
from sw.engines import weight_layout
from sw.golden.device import GoldenDevice
from sw.kernels.case import random_case
from sw.runtime import compile_case, gemm_args, place_operands
from sw.workloads import gemm_workload
from tb.array.hss import SDQ, config_of

CONFIG = config_of("2:4", "hss-4:8-2:4", "hss-4:7-2:3", SDQ, "tasd-2:4+1:8", columns=4, scratchpad_bytes=1 << 15,
                   accumulator_rows=256, accumulator_banks=2)
FORMATS = ("int8", *CONFIG.weight_formats)
DEVICES = [GoldenDevice, pytest.param(RtlDevice, marks=pytest.mark.full)]


@pytest.mark.full
def test_gemms_match_and_take_what_is_predicted() -> None:
    """K that is no multiple of any step; every byte and the count of multiplications as the golden device, cycles within 3 %."""
    device = RtlDevice(CONFIG)
    for name in FORMATS:
        workload = replace(gemm_workload(50, 22, 210), weights=name)
        found = measure(workload, CONFIG, device)
        golden = measure(workload, CONFIG, None)
        (gemm,), (expected,) = found.gemms, golden.gemms
        assert found.match, name
        assert gemm.counters["macs"] == expected.counters["macs"]
        assert gemm.counters["macs"] + gemm.counters["macs_gated"] == gemm.counters["matrix_active"] * (
            4 * 14 if name == SDQ else 4 * 8)
        assert gemm.predicted_cycles == pytest.approx(gemm.cycles, rel=0.03), name


@pytest.mark.parametrize("kind", DEVICES)
@pytest.mark.parametrize(("name", "slot", "byte"), [("hss-4:8-2:4", 0, 0x44), ("hss-4:7-2:3", 3, 0xFF), (SDQ, 1, 0x07)])
def test_bad_coordinates_stop_cleanly(kind: type, name: str, slot: int, byte: int) -> None:
    """Weights changed in memory: METADATA, with kernel and instruction; put right, the same session goes on."""
    workload = replace(gemm_workload(9, 8, 150), weights=name)
    _, spec = next(iter(workload.specs(CONFIG)))
    case = random_case("gemm", spec, CONFIG.weight, 1)
    program = compile_case(CONFIG, case)
    args = gemm_args(program, None if spec.per_channel else float(case.scale))
    session = kind(CONFIG).open(program.memory_bytes)
    place_operands(session, program, spec, a=case.a, b=case.b, bias=case.bias, scale=case.scale if spec.per_channel else None)
    good = session.run(program, args).outputs
    weights = program.region("b")
    layout = weight_layout(CONFIG, spec.n, spec.k, name)
    addr = weights.addr + layout.group_stride + layout.record_bytes + slot * layout.weight_stride + 2
    kept = int(session.memory[addr])
    session.memory[addr] = byte
    with pytest.raises(DeviceError, match=r"^kernel '.+' of program 'gemm' stopped: METADATA in the matrix unit at ") as caught:
        session.run(program, args)
    assert caught.value.cause == ErrorCause.METADATA
    session.memory[addr] = kept
    again = session.run(program, args).outputs
    assert all(np.array_equal(again[key], value) for key, value in good.items())
    session.close()
