"""Program-level utilization: useful MACs / cycles / peak, command fetch, DMA and drain included, on the default memory."""

from typing import Any

from flows.measure import measure
from flows.rtl_device import RtlDevice
from hw.presets import preset_named
from sw.workloads import gemm_workload

GOALS = {(512, 512, 512): 0.97, (128, 768, 768): 0.95}
SHAPES = ((512, 512, 512), (128, 768, 768), (128, 384, 384), (64, 64, 64), (1, 768, 768))
PUBLISHED = {"OpenGeMM": "0.819–0.993", "RedMulE": "0.988"}     # the best that other generators state of themselves


def rows() -> list[dict[str, Any]]:
    """Return a row for each shape and dataflow on the 16×16 preset."""
    config = preset_named("systolic-16x16")
    device = RtlDevice(config)
    table = []
    for shape in SHAPES:
        for dataflow in config.dataflows:
            found = measure(gemm_workload(*shape), config, device, dataflow=dataflow).to_json()
            assert found["match"]
            table.append({"GEMM": "×".join(map(str, shape)), "dataflow": dataflow, "cycles": found["cycles"],
                          "utilization": found["utilization"], "goal": str(GOALS.get(shape, "–"))})
    table += [{"GEMM": f"published: {name}", "dataflow": "–", "cycles": "–", "utilization": value, "goal": "–"}
              for name, value in PUBLISHED.items()]
    return table
