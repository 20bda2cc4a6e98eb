"""The analytical model against the RTL: predicted cycles over cycles, on every preset."""

from typing import Any

from flows.measure import measure
from flows.rtl_device import RtlDevice
from hw.presets import PRESETS
from sw.workloads import gemm_workload

SHAPES = ((128, 256, 256), (200, 100, 300))


def rows() -> list[dict[str, Any]]:
    """Return a row for each preset, shape and dataflow."""
    table = []
    for name, config in PRESETS.items():
        device = RtlDevice(config)
        for shape in SHAPES:
            for dataflow in config.dataflows:
                gemm = measure(gemm_workload(*shape), config, device, dataflow=dataflow).gemms[0]
                table.append({"preset": name, "GEMM": "×".join(map(str, shape)), "dataflow": dataflow, "cycles": gemm.cycles,
                              "predicted": gemm.predicted_cycles, "ratio": gemm.predicted_cycles / gemm.cycles})
    return table
