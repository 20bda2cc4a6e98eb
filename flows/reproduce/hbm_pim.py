"""HBM-PIM: rates, rows, and a matrix-vector product by its micro-instructions."""

from collections.abc import Iterator

import numpy as np

from flows.pim.crf_sim import CrfSim
from flows.reproduce.options import Options
from flows.reproduce.row import Row, not_asked
from hw.pim.crf import LANES
from hw.pim.presets import PIM_PRESETS
from sw.golden.pim.hbm_pim import UNITS, HbmPim
from sw.pim.cycles import row_efficiency
from sw.pim.hbm_gemv import INPUTS, OUTPUTS, GemvPlan, external_tck, gemv, gemv_speedup

__all__ = ["rows"]

_HBM = PIM_PRESETS["pim-hbm"]
_CLOCK = 0.3                # GHz
_STACK_EXTERNAL = 1230 / 4  # GB/s
_SIZE = 4096


def rows(options: Options) -> Iterator[Row]:
    """Yield the rows; all but the RTL's are quick."""
    efficiency = float(row_efficiency(_HBM))
    yield Row(quantity="row efficiency", paper=None, ours=efficiency, grade="derived", target=0.815, tolerance=5e-4,
              note="31·4 + 5 + 14 + 14 clocks for 32 bursts")
    yield Row(quantity="GB/s of a pseudo-channel, rows counted", paper=None, ours=float(_HBM.bandwidth) * efficiency,
              grade="derived", target=52.2, tolerance=0.05)
    yield Row(quantity="TFLOPS a stack at 300 MHz", paper=1.2, ours=2 * _HBM.n_pch * UNITS * LANES * _CLOCK / 1000, grade="found",
              target=1.2, tolerance=0.05)
    yield Row(quantity="bandwidth inside over outside", paper=4, grade="found", target=4, tolerance=0.01,
              ours=_HBM.n_pch * UNITS * 2 * LANES * _CLOCK / _STACK_EXTERNAL, note="4 stacks: 4.92 over 1.23 TB/s")
    yield Row(quantity="GEMV 4096 × 4096 over reading its weights, at least", paper=2.0, ours=float(gemv_speedup(4096, 4096)),
              grade="found", note="registers written through an open row; the pins at their peak rate")
    yield Row(quantity="the same, a row change around every write of registers", paper=2.0, grade="found",
              ours=float(gemv_speedup(4096, 4096, open_configuration=False)))
    rng = np.random.default_rng(1)
    weights, x = rng.normal(size=(OUTPUTS, 2 * INPUTS)).astype(np.float16), rng.normal(size=2 * INPUTS).astype(np.float16)
    result, instructions = gemv(weights, x)
    yield Row(quantity="MACs of a tile of 8 × 8 registers", paper=64, ours=(instructions - 8) // 2, grade="found", target=64,
              note="by running the microkernel; it moves 8 registers to DRAM at the end")
    exact = weights.astype(np.float64) @ x.astype(np.float64)
    yield Row(quantity="largest error of that product, relative", paper=None, grade="derived", target=0, tolerance=0.01,
              ours=float(np.abs(result - exact).max() / np.abs(exact).max()), note="FP16 sums of 16 terms a lane, to float64")
    quantity = f"GEMV {_SIZE} × {_SIZE} of the RTL over reading its weights, at least"
    if options.rtl:
        yield Row(quantity=quantity, paper=2.0, ours=_measured(_SIZE, _SIZE), grade="found",
                  note="from the first command to the last result read back, refreshes too; bits are the interpreter's")
    else:
        yield not_asked(quantity, 2.0, "found", "--rtl")


def _measured(outputs: int, inputs: int) -> float:
    """Return by how much a channel of the RTL is faster than its pins, on random weights."""
    rng, plan, pim = np.random.default_rng(2), GemvPlan(outputs=outputs, inputs=inputs), HbmPim()
    weights, x = rng.normal(size=(outputs, inputs)).astype(np.float16), rng.normal(size=inputs).astype(np.float16)
    with CrfSim(_HBM).open() as session:
        for row, odd, values in plan.banks(weights):
            session.row(row, odd=odd)[:] = values
            pim.fill(row, odd, values)
        run = session.run(plan.accesses(x))
    if run.reads != pim.run(plan.accesses(x)):
        raise RuntimeError("the channel must leave what the interpreter leaves, and it does not")
    return float(external_tck(outputs, inputs)) / run.clocks
