"""Cycle formulas of the units beside the matrix engine: the one place where they stand, asserted by their benches."""

from hw.config import AcceleratorConfig, ceil_div

__all__ = ["REQUANTIZE_LATENCY", "REQUANTIZE_SCALE_DELAY", "vector_cycles"]

REQUANTIZE_LATENCY = 6      # of a requantization lane
REQUANTIZE_SCALE_DELAY = 3  # of those, the cycles before the scale is used


def vector_cycles(config: AcceleratorConfig, *, m: int, n: int, bias_en: bool, per_channel: bool) -> int:
    """Return the cycles of a vector command when no port stalls, from the one that takes the command to the one of `done`.

    One cycle a slice; 1 to check the command, 1 to read the accumulator, the lanes, 1 to write, 1 to report. Each group with p
    lines of parameters fetches for p + 1 cycles, and all but the first wait before that until the last slice has been scaled.
    The next command can be taken in the cycle of `done`.
    """
    lanes, columns = config.vector_lanes, config.columns
    groups = ceil_div(n, columns)
    slices = m * ((groups - 1) * (columns // lanes) + ceil_div(n - (groups - 1) * columns, lanes))
    lines = (bias_en + per_channel) * ceil_div(4 * columns, config.line_bytes)
    fetching = groups * (lines + 1) + (groups - 1) * (1 + REQUANTIZE_SCALE_DELAY) if lines else 0
    return slices + fetching + 4 + REQUANTIZE_LATENCY
