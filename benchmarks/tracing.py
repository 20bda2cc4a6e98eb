"""What tracing costs: the same GEMM on the simulator of `heddle run` and on that of `heddle trace`."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from flows.rtl_device import RtlDevice
from flows.view.traced import TracedDevice
from hw.presets import preset_named
from sw.kernels.spec import GemmSpec
from sw.runtime import compile_gemm, gemm_args, place_operands

CASES = (("systolic-4x4", (128, 128, 128)), ("systolic-16x16", (256, 256, 256)))
_TIMES = 3


def rows(cases: Sequence[tuple[str, tuple[int, int, int]]] = CASES, times: int = _TIMES) -> list[dict[str, Any]]:
    """Return a row for each preset and way: cycles in a second of processor time, the best of `times` runs in turn.

    The timeline is included, the page is not.
    """
    table = []
    for preset, (m, n, k) in cases:
        config, spec = preset_named(preset), GemmSpec(m=m, n=n, k=k)
        program, random = compile_gemm(config, spec), np.random.default_rng(0)
        a, b = (random.integers(-128, 128, shape, np.int8) for shape in ((m, k), (k, n)))
        ways = {"run": RtlDevice(config), "able to trace": RtlDevice(config, trace=True), "trace": TracedDevice(config)}
        best: dict[str, float] = {}
        cycles = set()
        for way, device in [*ways.items()] * times:
            session = device.open(program.memory_bytes)
            place_operands(session, program, spec, a=a, b=b)
            started = time.process_time()
            result = session.run(program, gemm_args(program, 0.01))
            best[way] = min(best.get(way, np.inf), time.process_time() - started)
            cycles.add(result.cycles)
            session.close()
        (count,) = cycles                       # looking on changes nothing
        table += [{"preset": preset, "GEMM": f"{m}×{n}×{k}", "cycles": count, "simulator": way, "cycles/s": count / seconds,
                   "slowdown": seconds / best["run"]} for way, seconds in best.items()]
    return table
