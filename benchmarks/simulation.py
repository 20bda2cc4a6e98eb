"""Simulated cycles a second: the native simulator and cocotb, on the same Verilog and the same GEMM."""

import os
import shutil
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flows.cocotb_runner import build_cocotb, run_cocotb
from flows.emit import emit
from flows.measure import measure
from flows.rtl_device import RtlDevice
from hw.presets import preset_named
from sw.workloads import gemm_workload

PRESET = "systolic-16x16"
LONG, SHORT = (512, 512, 256), "96,64,64"
PERIOD_NS = 10


def _cocotb_rate() -> tuple[float, float]:
    """Return build seconds and cycles a second of the cocotb bench."""
    config = preset_named(PRESET)
    started = time.perf_counter()
    emission = emit(config)
    build = build_cocotb(emission.verilog, emission.top, label=config.digest())
    seconds = time.perf_counter() - started
    with TemporaryDirectory() as folder:
        run_cocotb(build, "tb.rtl.gemm_bench", folder=Path(folder), testcase="a_gemm_comes_out_right",
                   environment={"HEDDLE_BENCH_CONFIG": config.to_json(), "HEDDLE_BENCH_GEMM": SHORT})
        case = next(ElementTree.parse(Path(folder) / "results.xml").getroot().iter("testcase"))
        simulated = next(entry for entry in case.iter("property") if entry.get("name") == "sim_time_duration")
        return seconds, float(simulated.attrib["value"]) / PERIOD_NS / float(case.attrib["time"])


def rows() -> list[dict[str, Any]]:
    """Return a row for each simulator; builds are made from nothing in a cache of their own."""
    config = preset_named(PRESET)
    table = []
    kept = dict(os.environ)
    with TemporaryDirectory(ignore_cleanup_errors=True) as cache:
        os.environ |= {"HEDDLE_CACHE": cache, "CCACHE_DISABLE": "1"}
        try:
            found = measure(gemm_workload(*LONG), config, RtlDevice(config)).to_json()
            assert found["match"]
            table.append({"simulator": "native", "build_seconds": found["build_seconds"],
                          "cycles_per_second": found["sim_cycles_per_second"]})
            shutil.rmtree(cache)            # Verilog and runtime library count in each
            seconds, rate = _cocotb_rate()
            table.append({"simulator": "cocotb with cocotbext-axi", "build_seconds": seconds, "cycles_per_second": rate})
        finally:
            os.environ.clear()
            os.environ.update(kept)
    return [{**row, "ratio_to_cocotb": row["cycles_per_second"] / rate} for row in table]
