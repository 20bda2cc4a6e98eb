"""P3-LLM's cycle law for a linear layer on HBM-PIM banks with 4-bit weights.

Source: Chen et al., P3-LLM, arXiv 2511.06838, and its public simulator's constants. A page of 8192 bits is 16 outputs × 128
inputs of 4 bits; a column of 256 bits is 16 outputs × 4 inputs; 8 units a channel and 16 channels make 2048 outputs at once.
The throughput- enhanced unit uses a column for two vectors, so a batch costs as much as half of it.
"""

from hw.config import ceil_div
from hw.pim.config import PimConfig
from hw.pim.presets import PIM_PRESETS
from hw.pim.timing import timing_named

__all__ = ["P3_DESIGN", "linear_cycles", "roofline_ratio"]

INPUTS = 4                  # of a dot product
PAGE_INPUTS = 128
CHANNELS = 16
OUTPUTS = 128               # of a channel: 16 outputs × 8 units
BUS_BITS = 128              # of a channel, a clock: inputs in, results out
READOUT_BITS = 32
P3_DESIGN = ("hbm2", "bitmod4", 8)
"""Timing, format of weights and streams of a `PimConfig` that the law is for."""


def linear_cycles(inputs: int, outputs: int, batch: int, *, input_bits: int = 8, enhanced: bool = True,
                  channels: int = CHANNELS) -> int:
    """Return the DRAM clocks of an (inputs → outputs) layer for `batch` vectors.

    Parameters
    ----------
    inputs, outputs, batch : int
        Each at least 1.
    input_bits : int
        Bits of an activation.
    enhanced : bool
        Two vectors for each column; without it one.
    channels : int
        Over which the outputs are.
    """
    for name, value in (("inputs", inputs), ("outputs", outputs), ("batch", batch), ("channels", channels)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value!r}")
    dram = timing_named("hbm2")
    vectors = 2 if enhanced and batch > 1 else 1
    page_gap = max(dram.rcd + dram.rp, ceil_div(input_bits * PAGE_INPUTS, BUS_BITS) * vectors)
    columns = ceil_div(inputs, INPUTS) * dram.ccd_l
    readout = vectors * READOUT_BITS * PAGE_INPUTS // BUS_BITS
    pages = page_gap * ceil_div(inputs, PAGE_INPUTS)
    return (columns + pages + readout) * ceil_div(outputs, OUTPUTS * channels) * ceil_div(batch, vectors)


def roofline_ratio(ours: PimConfig = PIM_PRESETS["pim-p3"], base: PimConfig = PIM_PRESETS["pim-hbm"]) -> float:
    """Return by how much the peak rate of one pseudo-channel of `ours` is above that of `base`."""
    return float(ours.gops / base.gops)
