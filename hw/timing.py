"""Cycle formulas of the units beside the matrix engine, and the controller's sizes that decide over cycles.

The one place where they stand; the units' benches assert the formulas.
"""

from collections.abc import Mapping

from hw.config import AcceleratorConfig, ceil_div
from hw.isa import REGISTERS, VectorSource

__all__ = [
    "FETCH_FILLS", "FETCH_LINE_BYTES", "IN_FLIGHT", "LOAD_LATENCY", "LOOP_CYCLES", "REQUANTIZE_LATENCY", "REQUANTIZE_SCALE_DELAY",
    "SKIP_CYCLES", "START_CYCLES", "STORE_LATENCY", "fetch_ahead", "load_cycles", "store_cycles", "vector_cycles",
]

START_CYCLES = REGISTERS    # of the sequencer, in which it clears the registers and copies the arguments, one a cycle
LOOP_CYCLES = 3             # of the sequencer, from a LOOP to the END that comes next at the earliest
SKIP_CYCLES = 3             # of the sequencer, lost to a LOOP that does not run
IN_FLIGHT = 4               # commands that a unit may have taken and not finished
FETCH_LINE_BYTES = 64       # of an instruction line
FETCH_FILLS = 4             # instruction lines on their way at once
LOAD_LATENCY = 4            # of the load unit, from a command to its address (2), a beat to the scratchpad (1), and to `done` (1)
STORE_LATENCY = 4           # of the store unit, from a command to the cycle in which its first beat leaves
REQUANTIZE_LATENCY = 9      # of a requantization lane
REQUANTIZE_SCALE_DELAY = 4  # of those, the cycles before the scale is used


def fetch_ahead(lines: int) -> int:
    """Return how many instruction lines are read ahead of the current one, in a cache of so many lines."""
    return min(FETCH_FILLS, lines // 4)


def vector_cycles(config: AcceleratorConfig, fields: Mapping[str, int]) -> int:
    """Return the cycles of a vector command when no port stalls, from the one that takes the command to the one of `done`.

    One cycle a slice of `vector_lanes` columns; rows of one slice with both a sum and a maximum take two.
    """
    n = 1 if fields["source"] in (VectorSource.ROW, VectorSource.SCALAR) else fields["n"]
    slices = ceil_div(n, config.vector_lanes)
    return fields["m"] * (2 if slices == 1 and fields["sum"] and fields["max"] else slices) + 4 + REQUANTIZE_LATENCY


def load_cycles(config: AcceleratorConfig, *, rows: int, row_bytes: int, transpose: bool, memory_latency: int,
                unpack: bool = False) -> int:
    """Return the cycles of a load command when nothing stalls, from the one that takes the command to the one of `done`.

    One cycle a beat of the scratchpad. When transposed, one for each row of each column of blocks, padded to whole blocks, and
    the last block leaves while none enters; each column of bytes that is unpacked leaves in two. Commands that are taken in time
    overlap but for their beats (a transposed command with a transposed one only). `memory_latency` counts from the address
    handshake to the first beat. A burst of n beats, n = 1 when transposed, holds its place for memory_latency + n + 2 cycles; it
    takes `outstanding_reads` · n ≥ that many for the full rate.
    """
    beat = config.beat_bytes
    columns = ceil_div(row_bytes, beat)
    if transpose:
        twice = row_bytes if unpack else 0                      # columns of bytes that take two cycles
        steps = beat + ceil_div(rows, beat) * (columns * beat + twice)
    else:
        steps = rows * ceil_div((1 + unpack) * row_bytes, beat)
    return LOAD_LATENCY + memory_latency + steps


def store_cycles(config: AcceleratorConfig, *, rows: int, row_bytes: int, memory_latency: int) -> int:
    """Return the cycles of a store command when nothing stalls, from the one that takes the command to the one of `done`.

    One cycle a beat; commands that are taken in time overlap but for their beats. `memory_latency` counts from the last beat of a
    burst to its response.
    """
    return STORE_LATENCY + rows * ceil_div(row_bytes, config.beat_bytes) + memory_latency
