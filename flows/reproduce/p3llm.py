"""P3-LLM: cycles of linear layers, rooflines, and the ranges of its integers."""

from collections.abc import Iterator

from flows.reproduce.options import Options
from flows.reproduce.row import Row
from hw.elements import ELEMENTS
from hw.pim.presets import PIM_PRESETS
from sw.pim.p3 import linear_cycles, roofline_ratio

__all__ = ["rows"]

_CYCLES = {1: 10048, 2: 10112, 4: 20224}
_ENHANCED_POWER = 1.28


def rows(options: Options) -> Iterator[Row]:
    """Yield the rows; all are quick."""
    for batch, cycles in _CYCLES.items():
        yield Row(quantity=f"DRAM clocks of 4096 → 4096, batch {batch}", paper=cycles, ours=linear_cycles(4096, 4096, batch),
                  grade="found", target=cycles, note="law of the public simulator")
    yield Row(quantity="peak rate over HBM-PIM", paper=8, ours=roofline_ratio(), grade="found", target=8,
              note="4 times the multipliers, twice the clock")
    ours, base = PIM_PRESETS["pim-p3"], PIM_PRESETS["pim-hbm"]
    yield Row(quantity="multiply-accumulates a cycle and channel", paper=512, ours=ours.macs_per_cycle, grade="found", target=512)
    yield Row(quantity="enhanced over plain mode, batch 2", paper=1.6, grade="found",
              ours=linear_cycles(4096, 4096, 2, enhanced=False) / linear_cycles(4096, 4096, 2),
              note="one linear layer; the paper's is end to end")
    yield Row(quantity="energy efficiency of the enhanced mode", paper=1.56, grade="found", target=1.56, tolerance=0.01,
              ours=2 / _ENHANCED_POWER, note="twice the rate at 1.28 times the power, which the paper gives")
    element = ELEMENTS["float8_s0e4m4"]
    yield Row(quantity="largest S0E4M4", paper=1.9375, ours=element.limits[1], grade="found", target=1.9375)
    yield Row(quantity="S0E4M4 code of 1", paper=0xF0, ours=element.values.index(1.0), grade="found", target=0xF0)
    yield Row(quantity="bits a weight, P3-LLM / HBM-PIM", paper="4 / 16", ours=f"{ours.weight_bits} / {base.weight_bits}",
              grade="found", target="4 / 16")
